"""The same pictures seen differently, as the frozen CNN's tokens: what a reader of pictures must not mind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mmgen.data.memmap import cached_memmap
from mmgen.images import composite, from_uint8
from mmgen.models.encoders import REFERENCE_SIZE, PyramidCNN, reference_tokens
from mmgen.training.common.cache import batches


def vary(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn, scale, shift, blur and tint pictures a little, on a ground that is white for half of them.

    No flips, as letters and arrows have a side, and no change of hue, as captions name colours.

    Args:
        pixels: premultiplied RGBA [N, 4, S, S] in [-1, 1].

    Returns:
        RGB [N, 3, REFERENCE_SIZE, REFERENCE_SIZE] in [-1, 1].
    """
    n = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return (torch.rand(n, *shape, generator=generator) * (high - low) + low).to(pixels.device)

    small = F.interpolate(pixels, size=(REFERENCE_SIZE, REFERENCE_SIZE), mode="area")
    angle, scale, stretch = uniform(-0.2, 0.2), uniform(0.85, 1.35), uniform(-0.1, 0.1).exp()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    shift = uniform(-0.12, 0.12, 2)
    place = torch.stack([cos * stretch, -sin, shift[:, 0], sin, cos / stretch, shift[:, 1]], dim=1).view(n, 2, 3)
    grid = F.affine_grid(place, list(small.shape), align_corners=False)
    moved = F.grid_sample(small + 1, grid, align_corners=False) - 1  # Nothing, -1, comes in from outside.
    soft = F.avg_pool2d(F.pad(moved, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    blurred = uniform(-1, 1, 1, 1, 1).clamp_min(0)
    moved = moved + (soft - moved) * blurred
    ground = torch.where(uniform(0, 1, 1, 1, 1) < 0.5, 1.0, uniform(-1, 1, 3, 1, 1))
    rgb = composite(moved, ground)
    grey, middle = rgb.mean(1, keepdim=True), rgb.mean((1, 2, 3), keepdim=True)
    rgb = grey + (rgb - grey) * uniform(0.6, 1.4, 1, 1, 1)
    rgb = middle + (rgb - middle) * uniform(0.75, 1.25, 1, 1, 1) + uniform(-0.15, 0.15, 1, 1, 1)
    return rgb.clamp(-1, 1)


def varied_references(
    images: np.ndarray, cnn: PyramidCNN, folder: Path, key: str, rounds: int, device: torch.device
) -> list[np.ndarray]:
    """Reference tokens of `rounds` varied views of every picture, kept on disk.

    Args:
        images: uint8 [N, 4, S, S], premultiplied.
        folder, key: where the arrays are kept, under names that begin with `views-` and the key.

    Returns:
        float16 [N, grid, D] each.
    """
    cnn.to(device)

    @torch.inference_mode()
    def look(number: int) -> Iterator[tuple[slice, np.ndarray]]:
        generator = torch.Generator().manual_seed(number)
        for rows, x in batches(f"views {number + 1} of {rounds}", images, device):
            yield rows, reference_tokens(cnn(vary(from_uint8(x), generator))).half().cpu().numpy()

    return [cached_memmap(folder / f"views-{key}-{n}.npy", len(images), look(n)) for n in range(rounds)]
