"""Build the memory of a training set, and what ties its entries to the images that are trained on."""

from __future__ import annotations

import datasets
import numpy as np
import torch

from mmgen.data import recolour
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.memory import SLOTS, Memory, encoder_hashes
from mmgen.training.cache import TrainingCache
from mmgen.training.gan.batch import MemoryIndex


def build_memory(
    data: datasets.Dataset,
    cache: TrainingCache,
    autoencoder: ImageAutoencoder,
    text_encoder: torch.nn.Module,
    slots: int = SLOTS,
) -> tuple[Memory, MemoryIndex]:
    """A memory of a split's images with a caption, without the recoloured ones, and its index for the training.

    Args:
        data: as `mmgen.data.folder.load_pairs` gives it.
        cache: of the same rows.
        slots: entries of one look-up.
    """
    first = cache.first_caption
    has_words = np.array([bool(cache.captions[i]) for i in first.tolist()])
    kept = np.flatnonzero(has_words & (np.asarray(data["group"]) != recolour.GROUP))
    texts, text_of = np.unique(first.numpy()[kept], return_inverse=True)
    concepts, styles = np.asarray(data["concept"], dtype=object), np.asarray(data["style"], dtype=object)
    sources = [tuple(row) for row in zip(data["source"], data["licence"], data["author"], strict=True)]
    memory = Memory.build(
        latents=cache.latents[torch.from_numpy(kept)],
        keys=cache.keys[torch.from_numpy(texts)].float(),
        texts=[cache.captions[i] for i in texts],
        text=text_of,
        concepts=concepts[kept].tolist(),
        styles=styles[kept].tolist(),
        sources=[sources[i] for i in kept],
        **encoder_hashes(autoencoder, text_encoder),
    )
    return memory, index_memory(memory, kept, text_of, concepts, styles, slots)


def index_memory(
    memory: Memory, kept: np.ndarray, text_of: np.ndarray, concepts: np.ndarray, styles: np.ndarray, slots: int
) -> MemoryIndex:
    """What each of N images is in the terms of a memory that holds `kept` of them."""
    number_of_concept = dict(zip(concepts[kept], memory.concept.tolist(), strict=True))
    number_of_style = {style: number for number, style in enumerate(memory.config.styles)}
    texts = np.full(len(concepts), -1)
    texts[kept] = text_of
    return MemoryIndex(
        memory,
        torch.tensor([number_of_concept.get(concept, -1) for concept in concepts]),
        torch.tensor([number_of_style.get(style, -1) for style in styles]),
        torch.from_numpy(texts),
        slots,
    )
