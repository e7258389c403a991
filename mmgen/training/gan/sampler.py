"""Which image, words, references and memory entries meet in one training sample.

    words alone          the caption, any of the image's
    words + reference    same style, other label, with a caption that leaves the style to the reference;
                         same label, other style, with a caption that names the style; or the image itself
    reference alone      another image of the concept, or the image itself; so are all images without a caption
    neither              noise alone

So a reference seldom has to be copied: what counts as right for it is mostly a neighbour (IC-GAN, Casanova et al.
2021). The memory is looked up as in use, by words and by style, but in most samples nothing of the target's own concept
in the target's own style is found there: else the generator learns to copy a neighbour and to recolour it.
Images of rare concepts are drawn more often: half of all emoji are people in several skin tones. A whole batch is
drawn at once, with tensors alone, so that no device waits for Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmgen.datasets import composed as composed_images
from mmgen.pipeline import MAX_REFERENCES
from mmgen.training.common.cache import TrainingCache

KINDS = (0.5, 0.4, 0.06, 0.04)
"""Shares of words alone, words and references, references alone, and neither."""

BALANCE = 0.5
"""How far each image of a concept that has many is drawn less often: 0 not at all, 1 until all concepts count alike.

At 0.8 a sixth of all samples were icons that exist once, in one style, where nothing can be learned of another.
"""

REFERENCE_COUNTS = (0.8, 0.1, 0.05, 0.05)
"""How often a batch carries 1, 2, 3 and 4 references a sample."""

ROLES = (0.5, 0.25, 0.25)
"""How often references show the style, the thing, and the image itself."""

VARIED_WEIGHTS = 0.2
"""Share of the weights that are drawn from 0.4 to 2 instead of 1."""

STYLE_MISMATCHES = 0.5
"""Share of the mismatched conditions that differ in the named style alone, where the words name one."""

COMPOSED = 0.2
"""Share of the samples that are composed images, at most, however many of them there are."""

MEMORY_DROPPED = 0.1
"""Share of the samples that see nothing of the memory."""

MEMORY_HARD = 0.8
"""Share of the samples for which the memory holds nothing of the concept in the style."""


@dataclass
class Samples:
    """n training samples, by number.

    Attributes:
        image: [n] the target.
        caption: [n]; counts only where text_weight > 0.
        text_weight: [n], 0 to 2.
        reference: [n, R] images; count only where their weight > 0.
        reference_weights: [n, R], 0 to 2.
        reference_latents: [n, R] bool, whether the generator sees the reference's latent too.
        names_style: [n] bool, whether the caption does.
        appearance_unspecified: [n] bool, nothing given fixes the appearance.
        concept: [n] number of the target's concept, for mismatches.
        mismatched_caption: [n] one that fits but for the style that it names, or -1: the mismatch is another sample's.
        memory_weight: [n], 0 to 2.
        memory_hard: [n] bool, see `MEMORY_HARD`.
        memory_by_style: [n] bool, whether the same-style slots count.
    """

    image: torch.Tensor
    caption: torch.Tensor
    text_weight: torch.Tensor
    reference: torch.Tensor
    reference_weights: torch.Tensor
    reference_latents: torch.Tensor
    names_style: torch.Tensor
    appearance_unspecified: torch.Tensor
    concept: torch.Tensor
    mismatched_caption: torch.Tensor
    memory_weight: torch.Tensor
    memory_hard: torch.Tensor
    memory_by_style: torch.Tensor


class Sampler:
    """Draws training samples from labels, styles and concepts (lists over the N images).

    Args:
        targets: how many images, the first ones, are to be drawn; the others are references only. All by default.
        kinds: shares of the four kinds of samples.
        groups: of each image, by which composed ones are known; none is, without.
        device: where samples are drawn.
    """

    def __init__(
        self,
        cache: TrainingCache,
        labels: Sequence[str],
        styles: Sequence[str],
        concepts: Sequence[str],
        targets: int | None = None,
        kinds: tuple[float, ...] = KINDS,
        device: torch.device | str = "cpu",
        groups: Sequence[str] = (),
    ):
        self.device = torch.device(device)
        numbers = np.unique(np.asarray(concepts), return_inverse=True)[1]
        counts = np.bincount(numbers)[numbers]
        chances = np.where(np.arange(len(counts)) < (targets or len(counts)), counts**-BALANCE, 0.0)
        composed = np.array([group == composed_images.GROUP for group in groups] or [False]) & (chances > 0)
        if composed.any() and not composed.all():
            most = COMPOSED / (1 - COMPOSED) * chances[~composed].sum()
            chances[composed] *= min(1.0, most / chances[composed].sum())
        self.chances = torch.from_numpy(chances / chances.sum()).float().to(self.device)
        # All that is drawn from lies on the device: copying a constant there makes it wait.
        self.kinds = torch.tensor(kinds, device=self.device)
        self.roles = torch.tensor(ROLES, device=self.device)
        self.caption_of_role = torch.tensor((0, 1, -1), device=self.device)
        self.reference_counts = torch.tensor(REFERENCE_COUNTS)
        self.concepts = torch.from_numpy(numbers).to(self.device)
        self.of_style, self.of_label = _Groups(styles, self.device), _Groups(labels, self.device)
        self.of_concept = _Groups(concepts, self.device)
        self.has_styles = len(set(styles)) > 1
        most = max(map(len, cache.caption_ids))
        captions = np.full((len(counts), most), -1)
        names_style = np.zeros((len(counts), most), dtype=bool)
        for row, (ids, style) in enumerate(zip(cache.caption_ids, styles, strict=True)):
            captions[row, : len(ids)] = ids
            names_style[row, : len(ids)] = [bool(style) and style in cache.captions[i] for i in ids]
        self.captions = torch.from_numpy(captions).to(self.device)
        self.names_style = torch.from_numpy(names_style).to(self.device)
        self.has_words = torch.tensor([bool(caption) for caption in cache.captions], device=self.device)

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        """Draw `count` samples."""
        n, device = count, self.device

        def uniform(*shape: int) -> torch.Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        def varied(*shape: int) -> torch.Tensor:
            return torch.where(uniform(*shape) < VARIED_WEIGHTS, 0.4 + 1.6 * uniform(*shape), 1.0)

        # What is drawn, from which kind of condition, and with how many references (the same for the whole batch).
        image = torch.multinomial(self.chances, n, replacement=True, generator=generator)
        kind = torch.multinomial(self.kinds, n, replacement=True, generator=generator)
        most, columns = self._reference_count(generator)

        # The references' role, and which captions go with it: 0 leaves the style to them, 1 names it, 2 is the image.
        role = torch.multinomial(self.roles, n, replacement=True, generator=generator)
        alone_in_label, alone_in_concept = self.of_label.size(image) == 1, self.of_concept.size(image) == 1
        role = torch.where((role == 1) & alone_in_label, 2, role)
        role = torch.where((role == 1) & ~self.names_style[image].any(1), 0, role)  # Words cannot ask for its style.
        if not self.has_styles:
            role = torch.where(role == 0, 2, role)
        wanted = torch.where(kind == 1, self.caption_of_role[role], -1)
        caption, says_style = self._caption(image, wanted, uniform(n, self.captions.shape[1]))
        wordless = (kind < 2) & ~self.has_words[caption]  # An image without a caption speaks for itself.
        kind = torch.where(wordless, 2, kind)

        reference = torch.stack([self._same_style(image, generator) for _ in range(columns)], dim=1)
        other_style = self.of_label.another(image, uniform(n))
        of_concept = self.of_concept.another(image, uniform(n))
        itself = (kind == 2) & (wordless | alone_in_concept | (uniform(n) < 0.3)) | (kind == 1) & (role == 2)
        alike = torch.where(itself, image, of_concept)
        first = torch.where(kind == 2, alike, torch.where(role == 1, other_style, image))
        single = (kind == 2) | (kind == 1) & (role != 0)
        reference[:, 0] = torch.where(single, first, reference[:, 0])
        given = (kind[:, None] == 1) | (kind[:, None] == 2)
        places = torch.arange(columns, device=device)
        given = given & (places < most) & (~single[:, None] | (places == 0))

        # What the discriminator is to tell apart from it: the same thing asked for in another style.
        mismatched, says_other = self._caption(other_style, torch.ones_like(wanted), uniform(n, self.captions.shape[1]))
        differs = self.of_style.group[other_style] != self.of_style.group[image]
        told = (kind < 2) & says_style & says_other & differs & (uniform(n) < STYLE_MISMATCHES)

        # The memory: weighed as references are; by style where the words or the style's absence in references ask so.
        by_references = (kind == 1) & (role == 0)
        memory_weight = torch.where((kind < 2) & (uniform(n) >= MEMORY_DROPPED), varied(n), 0.0)
        memory_by_style = ~by_references | (uniform(n) < 0.5)
        style_is_shown = (memory_weight > 0) & memory_by_style & (uniform(n) < 0.75)
        return Samples(
            image=image,
            caption=caption,
            text_weight=torch.where(kind < 2, varied(n), 0.0),
            reference=reference,
            reference_weights=torch.where(given, varied(n, columns), 0.0),
            reference_latents=given & (reference != image[:, None]),
            names_style=says_style,
            appearance_unspecified=(kind == 3) | (kind == 0) & ~says_style & ~style_is_shown,
            concept=self.concepts[image],
            mismatched_caption=torch.where(told, mismatched, -1),
            memory_weight=memory_weight,
            memory_hard=uniform(n) < MEMORY_HARD,
            memory_by_style=memory_by_style,
        )

    def _reference_count(self, generator: torch.Generator) -> tuple[int, int]:
        """How many references a batch carries, and into how many columns they are laid.

        On a GPU the count is drawn beside it, as nobody there can be asked without waiting for all that is under way,
        and there are two widths alone, of 1 and of all, as each is compiled by itself.
        """
        if self.device.type == "cpu":
            most = int(torch.multinomial(self.reference_counts, 1, generator=generator)) + 1
            return most, most
        beside = torch.Generator().manual_seed(generator.initial_seed())
        most = int(torch.multinomial(self.reference_counts, 1, generator=beside)) + 1
        return most, 1 if most == 1 else MAX_REFERENCES

    def _same_style(self, image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Other images [n] in the targets' styles; the targets themselves only where they are alone in them."""
        found = image.clone()
        for _ in range(4):
            uniform = torch.rand(len(image), generator=generator, device=self.device)
            other = self.of_style.any(image, uniform)
            is_bad = self.of_label.group[found] == self.of_label.group[image]
            found = torch.where(is_bad, other, found)
        is_bad = self.of_label.group[found] == self.of_label.group[image]
        return torch.where(is_bad, image, found)

    def _caption(
        self, image: torch.Tensor, wanted: torch.Tensor, scores: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A caption of each image [n]; with its style's name (1), without (0) or any (-1), where there is such a one.

        Returns:
            Numbers of captions [n], and whether they name the style [n].
        """
        ids, names = self.captions[image], self.names_style[image]
        scores = torch.where(ids >= 0, scores + 1.0, 0.0)
        fits = (wanted[:, None] < 0) | (names == (wanted[:, None] == 1))
        chosen = torch.where(fits, scores + 1.0 * (scores > 0), scores).argmax(1, keepdim=True)
        return ids.gather(1, chosen)[:, 0], names.gather(1, chosen)[:, 0]


class _Groups:
    """Which of N images belong together, so that others can be drawn for a whole batch at once."""

    def __init__(self, values: Sequence[str], device: torch.device):
        group = np.unique(np.asarray(values, dtype=object).astype(str), return_inverse=True)[1]
        order = np.argsort(group, kind="stable")
        sizes = np.bincount(group)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        position = np.empty(len(group), dtype=np.int64)
        position[order] = np.arange(len(group)) - starts[group[order]]
        arrays = (group, order, sizes, starts, position)
        self.group, self.order, self.sizes, self.starts, self.position = (
            torch.from_numpy(np.asarray(array, dtype=np.int64)).to(device) for array in arrays
        )

    def size(self, image: torch.Tensor) -> torch.Tensor:
        """How many belong to each image's group, itself counted."""
        return self.sizes[self.group[image]]

    def any(self, image: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """One of each image's group, by a number in [0, 1)."""
        size = self.size(image)
        return self.order[self.starts[self.group[image]] + (uniform * size).long().clamp_max(size - 1)]

    def another(self, image: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """Another one of each image's group; itself where it is alone."""
        size = self.size(image) - 1
        place = (uniform * size).long().clamp(torch.zeros_like(size), (size - 1).clamp_min(0))
        place = place + ((place >= self.position[image]) & (size > 0)).long()
        return self.order[self.starts[self.group[image]] + place]


def mismatches(samples: Samples, generator: torch.Generator) -> torch.Tensor:
    """For each sample [n] another of the batch with a different concept and caption, or -1 where there is none.

    A caption of the same concept may fit the image, so it never serves as a wrong one.
    """
    fits = (samples.concept[:, None] == samples.concept) | (samples.caption[:, None] == samples.caption)
    scores = torch.rand(fits.shape, generator=generator, device=fits.device).masked_fill(fits, -1.0)
    best = scores.max(1)
    return torch.where(best.values >= 0, best.indices, -1)
