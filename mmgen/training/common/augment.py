"""Differentiable augmentation of what the discriminator sees (Zhao et al., NeurIPS 2020): colour, shift, cutout.

No flips: letters and arrows have a side. All of it is drawn where the pictures lie, for the whole batch at once.
"""

from __future__ import annotations

import torch


def augment_pair(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment RGB pictures [N, 3, H, W] a and b, sample by sample in the same way."""
    both = augment(torch.cat([a, b], dim=1))
    return both[:, :3], both[:, 3:]


def augment(images: torch.Tensor) -> torch.Tensor:
    """Change brightness, saturation and contrast, shift by up to an eighth, and cut out a quarter-side square.

    Args:
        images: [N, 3k, H, W] in [-1, 1], k RGB pictures a sample that are changed alike.
    """
    n, channels, height, width = images.shape
    device = images.device

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, 1, 1, 1, device=device) * (high - low) + low

    x = images + uniform(-0.3, 0.3)
    grouped = x.unflatten(1, (channels // 3, 3))
    grey = grouped.mean(2, keepdim=True)
    x = (grey + (grouped - grey) * uniform(0.3, 1.7)[:, None]).flatten(1, 2)
    grouped = x.unflatten(1, (channels // 3, 3))
    middle = grouped.mean((2, 3, 4), keepdim=True)
    x = (middle + (grouped - middle) * uniform(0.7, 1.3)[:, None]).flatten(1, 2)

    def below(high: int) -> torch.Tensor:
        return torch.randint(0, high, (n, 1), device=device)

    # Rows, then columns, each picture's from where it is shifted to; what comes in from outside repeats the border.
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    shift_y, shift_x = height // 8, width // 8
    source_y = (rows + below(2 * shift_y + 1) - shift_y).clamp(0, height - 1)
    source_x = (columns + below(2 * shift_x + 1) - shift_x).clamp(0, width - 1)
    x = x.gather(2, source_y[:, None, :, None].expand(-1, channels, -1, width))
    x = x.gather(3, source_x[:, None, None, :].expand(-1, channels, height, -1))

    # Half of the pictures lose a square.
    top, left = below(height - height // 4 + 1), below(width - width // 4 + 1)
    cut_y, cut_x = (rows >= top) & (rows < top + height // 4), (columns >= left) & (columns < left + width // 4)
    is_cut = torch.rand(n, 1, 1, 1, device=device) < 0.5
    return x.masked_fill(is_cut & cut_y[:, None, :, None] & cut_x[:, None, None, :], 0.0)
