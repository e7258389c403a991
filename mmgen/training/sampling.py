"""Which picture, words and references meet in one training sample.

    words alone          the caption, any of the picture's
    words + reference    same style, other label, with a caption that leaves the style to the reference;
                         same label, other style, with a caption that names the style; or the picture itself
    reference alone      the picture itself; so are all pictures without a caption
    neither              noise alone

So a reference seldom has to be copied: what counts as right for it is mostly a neighbour (IC-GAN, Casanova et al.
2021).
Pictures are drawn evenly by concept, not by file: half of all emoji are people in several skin tones.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from mmgen.pipeline import MAX_REFERENCES
from mmgen.training.cache import TrainingCache

KINDS = (0.5, 0.4, 0.06, 0.04)
"""Shares of words alone, words and references, references alone, and neither."""


@dataclass
class Samples:
    """n training samples, by number.

    Attributes:
        picture: [n] the target.
        caption: [n]; counts only where text_weight > 0.
        text_weight: [n], 0 to 2.
        reference: [n, 4] pictures; count only where their weight > 0.
        reference_weights: [n, 4], 0 to 2.
        open: [n] bool, nothing given fixes the appearance.
        concept: [n] number of the target's concept, for mismatches.
    """

    picture: np.ndarray
    caption: np.ndarray
    text_weight: np.ndarray
    reference: np.ndarray
    reference_weights: np.ndarray
    open: np.ndarray
    concept: np.ndarray


class Sampler:
    """Draws training samples from labels, styles and concepts (lists over the N pictures).

    Args:
        targets: how many pictures, the first ones, are to be drawn; the others are references only. All by default.
        kinds: shares of the four kinds of samples.
    """

    def __init__(
        self,
        cache: TrainingCache,
        labels: list[str],
        styles: list[str],
        concepts: list[str],
        targets: int | None = None,
        kinds: tuple[float, ...] = KINDS,
    ):
        self.kinds = kinds
        self.caption_ids = [np.array(ids) for ids in cache.caption_ids]
        self.styles = styles
        self.concepts = np.unique(np.asarray(concepts), return_inverse=True)[1]
        self.labels = labels
        counts = np.bincount(self.concepts)[self.concepts]
        chances = np.where(np.arange(len(counts)) < (targets or len(counts)), counts**-0.8, 0.0)
        self.chances = chances / chances.sum()
        self.of_style, self.of_label = _positions(styles), _positions(labels)
        self.names_style = [
            np.array([bool(style) and style in cache.captions[i] for i in ids])
            for ids, style in zip(cache.caption_ids, styles, strict=True)
        ]
        self.has_styles = len(self.of_style) > 1
        self.has_words = np.array([bool(caption) for caption in cache.captions])

    def draw(self, count: int, rng: np.random.Generator) -> Samples:
        """Draw `count` samples."""
        picture = rng.choice(len(self.chances), count, p=self.chances)
        samples = Samples(
            picture=picture,
            caption=np.zeros(count, dtype=np.int64),
            text_weight=np.ones(count, dtype=np.float32),
            reference=np.zeros((count, MAX_REFERENCES), dtype=np.int64),
            reference_weights=np.zeros((count, MAX_REFERENCES), dtype=np.float32),
            open=np.zeros(count, dtype=bool),
            concept=self.concepts[picture],
        )
        # By batch, so that most batches carry the tokens of one reference only.
        most = int(rng.choice(MAX_REFERENCES, p=(0.8, 0.1, 0.05, 0.05))) + 1
        for row in range(count):
            self._fill(samples, row, most, rng)
        return samples

    def _fill(self, samples: Samples, row: int, most: int, rng: np.random.Generator) -> None:
        target = int(samples.picture[row])
        kind = rng.choice(4, p=self.kinds)
        references: list[int] = []
        named: bool | None = None
        if kind == 1:
            role = rng.choice(3, p=(0.5, 0.25, 0.25))
            same = self.of_label[self.labels[target]]
            others = same[same != target]
            if role == 0 and self.has_styles:
                references = [self._same_style(target, rng) for _ in range(most)]
                named = False
            elif role == 1 and len(others):
                references = [int(rng.choice(others))]
                named = True
            else:
                references = [target]
        elif kind == 2:
            references = [target]
        samples.caption[row], says_style = self._caption(target, named, rng)
        if kind < 2 and not self.has_words[samples.caption[row]]:  # A picture without a caption speaks for itself.
            kind, references = 2, [int(rng.choice(self.of_label[self.labels[target]]))]  # Itself, or a copy.
        if kind >= 2:
            samples.text_weight[row] = 0.0
        elif rng.random() < 0.2:
            samples.text_weight[row] = rng.uniform(0.4, 2.0)
        for slot, reference in enumerate(references):
            samples.reference[row, slot] = reference
            samples.reference_weights[row, slot] = rng.uniform(0.4, 2.0) if rng.random() < 0.2 else 1.0
        samples.open[row] = not references and (kind == 3 or not says_style)

    def _same_style(self, target: int, rng: np.random.Generator) -> int:
        """Another picture of the target's style; the target itself only where it is alone in it."""
        alike = self.of_style[self.styles[target]]
        for _ in range(8):
            other = int(alike[rng.integers(len(alike))])
            if self.labels[other] != self.labels[target]:
                return other
        return target

    def _caption(self, target: int, named: bool | None, rng: np.random.Generator) -> tuple[int, bool]:
        """A caption of the target, with or without the style's name as asked where there is such a one."""
        ids, names = self.caption_ids[target], self.names_style[target]
        fitting = ids if named is None else ids[names == named]
        if len(fitting) == 0:
            fitting = ids
        chosen = int(rng.integers(len(fitting)))
        caption = int(fitting[chosen])
        return caption, bool(names[ids == caption][0])


def _positions(values: list[str]) -> dict[str, np.ndarray]:
    found = defaultdict(list)
    for index, value in enumerate(values):
        found[value].append(index)
    return {value: np.array(indices) for value, indices in found.items()}


def mismatches(samples: Samples, rng: np.random.Generator) -> np.ndarray:
    """For each sample another of the batch with a different concept and caption, or -1 where there is none.

    A caption of the same concept may fit the picture, so it never serves as a wrong one.
    """
    fits = (samples.concept[:, None] == samples.concept) | (samples.caption[:, None] == samples.caption)
    wrong = np.full(len(fits), -1)
    for row, fitting in enumerate(fits):
        candidates = np.flatnonzero(~fitting)
        if len(candidates):
            wrong[row] = rng.choice(candidates)
    return wrong
