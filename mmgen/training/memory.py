"""Build the memory of a training set, and what ties its entries to the images that are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import datasets
import numpy as np
import torch

from mmgen.data import recolour, synthetic_styles
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

    Those in synthetic styles serve the training alone: the index has a memory of its own with them in it.

    Args:
        data: as `mmgen.data.folder.load_pairs` gives it.
        cache: of the same rows.
        slots: entries of one look-up.
    """
    first = cache.first_caption
    has_words = np.array([bool(cache.captions[i]) for i in first.tolist()])
    groups = np.asarray(data["group"])
    concepts, styles = np.asarray(data["concept"], dtype=object), np.asarray(data["style"], dtype=object)
    sources = [tuple(row) for row in zip(data["source"], data["licence"], data["author"], strict=True)]
    hashes = encoder_hashes(autoencoder, text_encoder)

    def build(kept: np.ndarray) -> tuple[Memory, np.ndarray]:
        texts, text_of = np.unique(first.numpy()[kept], return_inverse=True)
        memory = Memory.build(
            latents=cache.latents[torch.from_numpy(kept)],
            keys=cache.keys[torch.from_numpy(texts)].float(),
            texts=[cache.captions[i] for i in texts],
            text=text_of,
            concepts=concepts[kept].tolist(),
            styles=styles[kept].tolist(),
            sources=[sources[i] for i in kept],
            **hashes,
        )
        return memory, text_of

    real = np.flatnonzero(has_words & ~np.isin(groups, (recolour.GROUP, synthetic_styles.GROUP)))
    memory, text_of = build(real)
    bases = {style: base for style, base in zip(styles, data["base_style"], strict=True) if base}
    if not bases:
        return memory, index_memory(memory, real, text_of, concepts, styles, slots)
    trained = np.flatnonzero(has_words & (groups != recolour.GROUP))
    shown, text_of = build(trained)
    return memory, index_memory(shown, trained, text_of, concepts, styles, slots, bases)


def index_memory(
    memory: Memory,
    kept: np.ndarray,
    text_of: np.ndarray,
    concepts: np.ndarray,
    styles: np.ndarray,
    slots: int,
    bases: Mapping[str, str] = MappingProxyType({}),
) -> MemoryIndex:
    """What each of N images is in the terms of a memory that holds `kept` of them.

    Args:
        bases: of each synthetic style the style that it is made from.
    """
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
        torch.tensor([*(number_of_style.get(bases.get(style), -1) for style in memory.config.styles), -1]),
    )
