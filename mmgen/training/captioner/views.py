"""The same images seen differently, as the frozen CNN's tokens: what a reader of images must not mind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from mmgen.data.memmap import cached_memmap
from mmgen.images import from_uint8
from mmgen.models.encoders import PyramidCNN, reference_tokens
from mmgen.training.common.augment import vary_view
from mmgen.training.common.cache import batches


def varied_references(
    images: np.ndarray, cnn: PyramidCNN, folder: Path, key: str, rounds: int, device: torch.device
) -> list[np.ndarray]:
    """Reference tokens of `rounds` varied views of every image, kept on disk.

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
            yield rows, reference_tokens(cnn(vary_view(from_uint8(x), generator))).half().cpu().numpy()

    return [cached_memmap(folder / f"views-{key}-{n}.npy", len(images), look(n)) for n in range(rounds)]
