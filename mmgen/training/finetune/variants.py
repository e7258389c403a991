"""Augmented copies of a person's few images, so that the model learns the thing and not its pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from mmgen.data.memmap import cached_memmap
from mmgen.images import from_uint8
from mmgen.training.common.augment import vary_copy

ENOUGH = 400
"""From so many images on, none is repeated."""

MAX_VARIANTS = 8


def variants_each(images: int) -> int:
    """How many images to make of each, the original among them."""
    return max(1, min(MAX_VARIANTS, ENOUGH // images))


def write_variants(images: np.ndarray, seed: int, on_part: Callable[[], object] = lambda: None) -> np.ndarray:
    """Lay `variants_each` rounds of the images end to end: the originals, then varied ones.

    Args:
        images: packed images, a memory map uint8 [N, 4, S, S], premultiplied.
        on_part: as `mmgen.data.memmap.cached_memmap` takes it.

    Returns:
        A memory map uint8 [rounds * N, 4, S, S] in a file beside it; the images themselves where there is one round.

    Raises:
        UserError: the disk is full.
    """
    rounds = variants_each(len(images))
    if rounds == 1:
        return images
    source = Path(images.filename)

    def rows() -> Iterator[tuple[slice, np.ndarray]]:
        yield slice(0, len(images)), images
        generator = torch.Generator().manual_seed(seed)
        for row in range(len(images), rounds * len(images)):
            pixels = from_uint8(torch.from_numpy(images[row % len(images)].copy()))
            varied = ((vary_copy(pixels, generator) + 1) * 127.5).round().byte().numpy()
            yield slice(row, row + 1), varied[None]

    file = source.with_name(f"{source.stem}-x{rounds}-{seed}.npy")
    return cached_memmap(file, rounds * len(images), rows(), on_part)
