"""Differentiable augmentation of what the discriminator sees (Zhao et al., NeurIPS 2020): colour, shift, cutout.

No flips: letters and arrows have a side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def augment_pair(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment RGB pictures [N, 3, H, W] a and b, sample by sample in the same way."""
    both = augment(torch.cat([a, b], dim=1))
    return both[:, :3], both[:, 3:]


def augment(pictures: torch.Tensor) -> torch.Tensor:
    """Change brightness, saturation and contrast, shift by up to an eighth, and cut out a quarter-side square.

    Args:
        pictures: [N, 3k, H, W] in [-1, 1], k RGB pictures a sample that are changed alike.
    """
    n, channels, height, width = pictures.shape
    device = pictures.device

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, 1, 1, 1, device=device) * (high - low) + low

    x = pictures + uniform(-0.3, 0.3)
    grouped = x.unflatten(1, (channels // 3, 3))
    grey = grouped.mean(2, keepdim=True)
    x = (grey + (grouped - grey) * uniform(0.3, 1.7)[:, None]).flatten(1, 2)
    grouped = x.unflatten(1, (channels // 3, 3))
    middle = grouped.mean((2, 3, 4), keepdim=True)
    x = (middle + (grouped - middle) * uniform(0.7, 1.3)[:, None]).flatten(1, 2)

    shift_y, shift_x = height // 8, width // 8
    padded = F.pad(x, (shift_x, shift_x, shift_y, shift_y), mode="replicate")
    top = torch.randint(0, 2 * shift_y + 1, (n,)).tolist()
    left = torch.randint(0, 2 * shift_x + 1, (n,)).tolist()
    x = torch.stack(
        [padded[i, :, t : t + height, s : s + width] for i, (t, s) in enumerate(zip(top, left, strict=True))]
    )

    mask = torch.ones(n, 1, height, width, device=device)
    for i in range(n):
        if torch.rand(()) < 0.5:
            t = int(torch.randint(0, height - height // 4 + 1, ()))
            s = int(torch.randint(0, width - width // 4 + 1, ()))
            mask[i, :, t : t + height // 4, s : s + width // 4] = 0
    return x * mask
