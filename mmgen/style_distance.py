"""How far apart pictures lie in style: means and spreads of a frozen CNN's first maps (Huang and Belongie 2017), by
Fisher's discriminant (1936) between the styles of a model's memory, so that what a picture shows counts for little.

Measured on 12 emoji styles, learned from the other ten, 17 pictures of one beside 3 of another: three of four pictures
that stand apart by `FAR` are of the other style, but most of that go unnoticed, and in a tenth of the sets of one style
a picture is said to stand apart. So it is for a sentence, and decides nothing.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch

from mmgen.devices import autocast
from mmgen.models.encoders import PyramidCNN, reference_view
from mmgen.models.memory import Memory

FAR = 4.5
"""From which distance on a picture stands apart; 1 is the median distance of a picture to the middle of its style."""

FEWEST = 6
"""Pictures of which one can be said to stand apart, and that a style of the memory must have to be compared."""

PER_STYLE = 12
"""Pictures of each style of the memory that distances are learned from."""

DIRECTIONS = 8
SHRINKAGE = 0.3
"""Of the covariance within styles towards its mean variance."""

_METRICS: WeakKeyDictionary = WeakKeyDictionary()


class StyleMetric:
    """Coordinates in which pictures of one style lie together, learned from a memory's styles.

    Args:
        vectors: [n, D] as `style_vector` gives them; styles: [n] their styles, two or more.
    """

    def __init__(self, vectors: torch.Tensor, styles: torch.Tensor):
        vectors = vectors.double()
        self.mean, self.spread = vectors.mean(0), vectors.std(0) + 1e-3
        groups = [((vectors - self.mean) / self.spread)[styles == style] for style in styles.unique()]
        middles = torch.stack([group.mean(0) for group in groups])
        apart = [group - group.mean(0) for group in groups]
        within = torch.stack([one.T @ one / len(one) for one in apart]).mean(0)
        between = (middles - middles.mean(0)).T @ (middles - middles.mean(0)) / len(middles)
        ridge = SHRINKAGE * within.diagonal().mean().clamp_min(1e-9)
        values, axes = torch.linalg.eigh(within + ridge * torch.eye(len(within), dtype=within.dtype))
        whiten = axes / values.sqrt()
        self.axes = whiten @ torch.linalg.eigh(whiten.T @ between @ whiten).eigenvectors[:, -DIRECTIONS:]
        inside = [(one @ self.axes).norm(dim=1) for one in apart]
        self.unit = torch.cat(inside).median().clamp_min(1e-6)

    def apart(self, vectors: torch.Tensor) -> list[int]:
        """Which of the pictures [n, D] lie further than `FAR` from the middle of them all, by their median."""
        if len(vectors) < FEWEST:
            return []
        placed = (vectors.double() - self.mean) / self.spread @ self.axes
        distances = (placed - placed.quantile(0.5, dim=0)).norm(dim=1) / self.unit
        return (distances > FAR).nonzero()[:, 0].tolist()


def style_vector(pipe: Any, pixels: torch.Tensor) -> torch.Tensor:
    """How a picture is drawn as the frozen CNN of a pipeline sees it, [D].

    Args:
        pixels: premultiplied RGBA [4, S, S] in [-1, 1].
    """
    processor = pipe.image_processor
    cnn = PyramidCNN(pipe.image_encoder, processor.image_mean, processor.image_std).to(pipe.device)
    fine = [one[0].flatten(1) for one in cnn(reference_view(pixels[None].to(pipe.device)))[:2]]
    made = torch.cat([part for one in fine for part in (one.mean(1), one.std(1))])
    return (made.sign() * made.abs().sqrt()).float().cpu()


@torch.no_grad()
def style_metric(pipe: Any) -> StyleMetric | None:
    """Learned from pictures of the memory of a pipeline, some seconds of decoding the first time; None where it has
    fewer than two styles with enough pictures."""
    memory = pipe.memory
    if memory is None:
        return None
    known = _METRICS.get(pipe)
    if known is None or known[0] != len(memory):
        known = _METRICS[pipe] = (len(memory), _learn(pipe, memory))
    return known[1]


def _learn(pipe: Any, memory: Memory) -> StyleMetric | None:
    vectors, styles = [], []
    for style, name in enumerate(memory.config.styles):
        entries = (memory.style == style).nonzero()[:, 0]
        if not name or len(entries) < FEWEST:  # What has no style's name may be of any.
            continue
        for entry in entries[torch.linspace(0, len(entries) - 1, min(PER_STYLE, len(entries))).long()]:
            with autocast(pipe.device):
                pixels = pipe.autoencoder.decode(memory.latents(entry[None]).float()).float().clamp(-1, 1)
            vectors.append(style_vector(pipe, pixels[0]))
            styles.append(style)
    return StyleMetric(torch.stack(vectors), torch.tensor(styles)) if len(set(styles)) > 1 else None
