"""Build the memory of a training set or let one grow, and what ties its entries to the images that are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import datasets
import numpy as np
import torch

from mmgen.datasets import composed, recolour, synthetic_styles
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.memory import SLOTS, Memory, encoder_hashes, quantisation_levels, quantise
from mmgen.training.common.cache import TrainingCache
from mmgen.training.gan.batch import MemoryIndex


def build_memory(
    data: datasets.Dataset,
    cache: TrainingCache,
    autoencoder: ImageAutoencoder,
    text_encoder: torch.nn.Module,
    slots: int = SLOTS,
) -> tuple[Memory, MemoryIndex]:
    """A memory of a split's images with a caption, without recoloured and composed ones, and its index for training.

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

    real = np.flatnonzero(has_words & ~np.isin(groups, (recolour.GROUP, synthetic_styles.GROUP, composed.GROUP)))
    memory, text_of = build(real)
    bases = {style: base for style, base in zip(styles, data["base_style"], strict=True) if base}
    if not bases:
        return memory, index_memory(memory, real, text_of, concepts, styles, slots)
    trained = np.flatnonzero(has_words & ~np.isin(groups, (recolour.GROUP, composed.GROUP)))
    shown, text_of = build(trained)
    return memory, index_memory(shown, trained, text_of, concepts, styles, slots, bases)


def grow_memory(
    base: Memory | None,
    data: datasets.Dataset,
    cache: TrainingCache,
    autoencoder: ImageAutoencoder,
    text_encoder: torch.nn.Module,
    slots: int = SLOTS,
) -> tuple[Memory | None, MemoryIndex | None]:
    """A memory with a person's pairs after what it held, and its index for training on them.

    Args:
        base: is not changed; None for a memory of the pairs alone.
        data: N pairs, as `mmgen.data.folder.load_pairs` gives them; one without words cannot be looked up, and stays
            outside.
        cache: of the same rows, and of as many varied copies of all of them after those, which stay outside too.

    Returns:
        None and None where there is nothing to remember.
    """
    texts, styles = data["text"][:], data["style"][:]
    kept = [row for row, text in enumerate(texts) if text.strip()]
    latents = cache.latents[kept].float()
    if base is None or not len(base):
        if not kept:
            return None, None
        base = Memory(
            latent_channels=latents.shape[1],
            latent_size=latents.shape[2],
            key_channels=cache.keys.shape[1],
            **encoder_hashes(autoencoder, text_encoder),
        )
        base.levels.copy_(quantisation_levels(latents))
    origins = [data[name][:] for name in ("source", "licence", "author")]
    pairs = [(texts[row], styles[row], tuple(column[row] for column in origins)) for row in kept]
    memory = with_entries(base, latents, cache.keys[cache.first_caption[kept]].float(), pairs) if kept else base
    numbers = {text: number for number, text in enumerate(memory.config.texts)}
    concepts = _concept_of_text(memory)
    text = torch.tensor([numbers[text] if text.strip() else -1 for text in texts])
    rounds = len(cache.first_caption) // len(data)
    index = MemoryIndex(
        memory,
        torch.tensor([concepts.get(number, -1) for number in text.tolist()]).repeat(rounds),
        torch.tensor([memory.style_number(style) for style in styles]).repeat(rounds),
        text.repeat(rounds),
        slots,
    )
    return memory, index


@torch.no_grad()
def with_entries(
    base: Memory, latents: torch.Tensor, keys: torch.Tensor, pairs: list[tuple[str, str, tuple[str, str, str]]]
) -> Memory:
    """A copy of a memory with more entries after its own, in its levels.

    An entry that has the words of an older one is of the same concept. What is there already, in words, style and
    picture, does not come in again.

    Args:
        latents: [n, C, S, S], normalised; keys: [n, D].
        pairs: of each its text, its style and its (source, licence, author).
    """
    config = base.config
    texts = {text: number for number, text in enumerate(config.texts)}
    styles = {style: number for number, style in enumerate(config.styles)}
    sources = {tuple(one[name] for name in ("source", "licence", "author")): n for n, one in enumerate(config.sources)}
    concepts, codes = _concept_of_text(base), quantise(latents, base.levels.cpu())
    next_concept = int(base.concept.max()) + 1 if len(base) else 0
    new_keys, rows, entries = [], [], []
    for row, (text, style, source) in enumerate(pairs):
        if text not in texts:
            new_keys.append(keys[row])
        number = texts.setdefault(text, len(texts))
        if number not in concepts:
            concepts[number], next_concept = next_concept, next_concept + 1
        alike = (base.text == number) & (base.style == styles.setdefault(style, len(styles)))
        # Encoded in another batch a picture may differ in a few codes.
        if not bool(((base.codes[alike].cpu() == codes[row]).float().mean(1) > 0.9).any()):
            rows.append(row)
            entries.append((number, concepts[number], styles[style], sources.setdefault(source, len(sources))))
    shape = {name: config[name] for name in ("latent_channels", "latent_size", "key_channels")}
    hashes = {name: config[name] for name in ("image_encoder_hash", "text_encoder_hash")}
    origins = [dict(zip(("source", "licence", "author"), source, strict=True)) for source in sources]
    grown = Memory(len(base) + len(rows), list(texts), list(styles), origins, **shape, **hashes)
    grown.levels.copy_(base.levels)
    grown.codes.copy_(torch.cat([base.codes.cpu(), codes[rows]]))
    grown.text_keys.copy_(torch.cat([base.text_keys.cpu(), *(key[None] for key in new_keys)]))
    columns = torch.tensor(entries, dtype=torch.int32).view(-1, 4).T
    for name, column in zip(("text", "concept", "style", "source"), columns, strict=True):
        getattr(grown, name).copy_(torch.cat([getattr(base, name).cpu(), column]))
    return grown.eval().requires_grad_(False)


def _concept_of_text(memory: Memory) -> dict[int, int]:
    """The concept of the first entry with each text, by number."""
    pairs = zip(memory.text.flip(0).tolist(), memory.concept.flip(0).tolist(), strict=True)
    return dict(pairs)


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
