"""The bench's questions, and what is asked of the answers: which label is it, and in which style?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mmgen.evaluation.gallery import Gallery
from mmgen.models.memory import without_style as split_style
from mmgen.pipeline import MemoryShare, MultimodalGANPipeline

CANDIDATES = 100


@dataclass
class Questions:
    """The prompts of one split: rows of the gallery, each with the seed of its image."""

    rows: np.ndarray
    seeds: np.ndarray


def questions(real: Gallery, split: str, count: int) -> Questions:
    """`count` prompts of a split, each with a seed of its own: its images in a shuffled order, again and again."""
    rows = np.flatnonzero(real.splits == split)
    order = np.random.default_rng(7).permutation(rows)
    return Questions(np.resize(order, count), np.arange(count) + 1000)


def draw(
    pipe: MultimodalGANPipeline,
    prompts: Iterable[str],
    seeds: Iterable[int],
    found: list[list[MemoryShare]] | None = None,
    **options,
) -> Iterable[Image.Image]:
    """One image for each prompt and seed.

    Args:
        found: a list that is given of each image the entries of the memory that were looked up for it.
        options: for the pipeline, but for `output_type`.
    """
    for prompt, seed in zip(prompts, seeds, strict=True):
        output = pipe(prompt, seed=int(seed), **options)
        if found is not None:
            found.append(output.drawn_from[0] if output.drawn_from else [])
        image = output.images[0]
        assert isinstance(image, Image.Image)  # As no other output type is asked for.
        yield image


@dataclass
class Ranks:
    """Where the right label stood among `CANDIDATES`, for each question asked (0 is first)."""

    places: np.ndarray

    def at(self, k: int) -> float:
        """The share of questions whose label is among the first k; no number where none was asked."""
        return float((self.places < k).mean()) if len(self.places) else float("nan")


def retrieval(
    real: Gallery,
    vectors: np.ndarray,
    labels: np.ndarray,
    seed: int,
    without_style: np.ndarray | None = None,
    left_out: np.ndarray | None = None,
) -> Ranks:
    """Of 100 labels, the right one and 99 drawn by the seed: whose nearest real image is nearest to each vector?

    A question whose label has no real image left is not asked.

    Args:
        vectors: [n, D] as `Gallery.compare` gives them; labels: [n] the right ones.
        without_style: [n] a style whose real images do not count, for each vector.
        left_out: bool [n, N], other real images that do not count.
    """
    rng = np.random.default_rng(seed)
    known, number = np.unique(real.labels.astype(str), return_inverse=True)
    order = np.argsort(number, kind="stable")
    starts = np.searchsorted(number[order], np.arange(len(known)))
    right = np.searchsorted(known, labels.astype(str))
    places = []
    for start in range(0, len(vectors), 256):
        some = slice(start, start + 256)
        likeness = vectors[some] @ real.seen.T
        if without_style is not None:
            likeness[real.styles[None] == without_style[some, None]] = -np.inf
        if left_out is not None:
            likeness[left_out[some]] = -np.inf
        for best, own in zip(np.maximum.reduceat(likeness[:, order], starts, axis=1), right[some], strict=True):
            others = rng.permutation(np.delete(np.arange(len(known)), own))[: CANDIDATES - 1]
            if np.isfinite(best[own]):
                places.append(int((best[others] > best[own]).sum()))
    return Ranks(np.array(places))


def names_style(prompts: Iterable[str], styles: Iterable[str]) -> np.ndarray:
    """bool [n], whether each prompt says the name of its style."""
    pairs = zip(prompts, styles, strict=True)
    return np.array([split_style(prompt, [style])[1] is not None for prompt, style in pairs], dtype=bool)


def style_followed(
    real: Gallery, vectors: np.ndarray, labels: np.ndarray, styles: np.ndarray, left_out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Among all real images of its label, is the nearest to each vector one of the wanted style?

    Args:
        vectors: [n, D] as `Gallery.compare` gives them; labels, styles: [n] the wanted ones.
        left_out: bool [n, N], real images that do not count.

    Returns:
        [n] whether, 1 or 0, and [n] what chance gives, one of the styles that are left; no numbers where fewer than two
        styles are left or the wanted one is not among them.
    """
    hits, chance = np.full(len(vectors), np.nan), np.full(len(vectors), np.nan)
    rows_of: dict[str, np.ndarray] = {}
    for index, (vector, label, style) in enumerate(zip(vectors, labels, styles, strict=True)):
        if label not in rows_of:
            rows_of[label] = np.flatnonzero(real.labels == label)
        rows = rows_of[label]
        if left_out is not None:
            rows = rows[~left_out[index, rows]]
        left = set(real.styles[rows])
        if style in left and len(left) > 1:
            hits[index] = real.styles[rows[(real.seen[rows] @ vector).argmax()]] == style
            chance[index] = 1 / len(left)
    return hits, chance


def mean_of(values: np.ndarray) -> float:
    """The mean of those that are numbers; no number where none is."""
    some = values[~np.isnan(values)]
    return float(some.mean()) if len(some) else float("nan")
