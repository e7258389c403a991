"""Entries of a model's memory as images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from mmgen.devices import autocast
from mmgen.images import to_pil
from mmgen.pipeline import MemoryShare, MultimodalGANPipeline

DECODED = 8
"""Entries decoded together."""


def best_entry(shares: Sequence[MemoryShare]) -> int:
    """Of the entries that were looked up the one whose label is nearest to the words, then the one that gave most."""
    return max(shares, key=lambda share: (round(share.likeness, 4), share.share)).entry


@torch.inference_mode()
def entry_images(pipe: MultimodalGANPipeline, entries: Sequence[int]) -> list[Image.Image]:
    """Entries of the memory by number, as the autoencoder restores them."""
    made = []
    for start in range(0, len(entries), DECODED):
        latents = pipe.memory.latents(torch.tensor(entries[start : start + DECODED], device=pipe.memory.codes.device))
        with autocast(pipe.device):
            pixels = pipe.autoencoder.decode(latents.float().to(pipe.device)).float().clamp(-1, 1)
        made += to_pil(pixels)
    return made
