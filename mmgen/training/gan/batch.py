"""Samples by number -> tensors: what one training step reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mmgen.models.generator import Remembered
from mmgen.models.memory import SLOTS, TEMPERATURE, Memory
from mmgen.training.common.cache import CODE_CHANNELS, TrainingCache
from mmgen.training.gan.sampler import Samples, mismatches


@dataclass
class Batch:
    """One batch of n samples.

    Attributes:
        z: noise [n, noise_channels].
        condition: the arguments of `Fusion`.
        remembered: what the generator looks at, or None for one without a memory.
        latents: the targets [n, C, h, w].
        discriminator_condition: [n, W + D] the condition as the discriminator sees it: the mean word token and the mean
            reference token, each of length sqrt(channels), or zero where absent.
        mismatched_condition: [n, W + D] one that cannot fit: with another style named, or of another sample.
        has_mismatch: [n] bool, whether there is such a one.
        latent_weight: [n] weight in the latent L1 loss.
    """

    z: torch.Tensor
    condition: dict[str, torch.Tensor]
    remembered: Remembered | None
    latents: torch.Tensor
    discriminator_condition: torch.Tensor
    mismatched_condition: torch.Tensor
    has_mismatch: torch.Tensor
    latent_weight: torch.Tensor

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, rows: slice) -> Batch:
        """Some of the samples."""
        return self._each(lambda value: value[rows])

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return self._each(lambda value: value.to(device))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        made = {name: change(value) for name, value in vars(self).items() if torch.is_tensor(value)}
        condition = {name: change(value) for name, value in self.condition.items()}
        remembered = self.remembered and Remembered(**{k: change(v) for k, v in vars(self.remembered).items()})
        return Batch(condition=condition, remembered=remembered, **made)


class MemoryIndex:
    """A memory beside the training images: which of its entries each image must not find.

    Args:
        memory: on the device of the training.
        concepts, styles, texts: [N] of each image, as numbers in the memory's terms; -1 for one that it has not.
        slots: entries of one look-up, an even number.
        bases: [styles + 1] of each style of the memory the number of the real one that it is made from, -1 for a real
            one and, last, for no style; None where all are real.
    """

    def __init__(
        self,
        memory: Memory,
        concepts: torch.Tensor,
        styles: torch.Tensor,
        texts: torch.Tensor,
        slots: int = SLOTS,
        bases: torch.Tensor | None = None,
    ):
        self.memory, self.concepts, self.styles, self.texts, self.slots = memory, concepts, styles, texts, slots
        self.bases = torch.full((len(memory.config.styles) + 1,), -1) if bases is None else bases

    def to(self, device: torch.device) -> MemoryIndex:
        """The same on a device."""
        parts = (self.memory, self.concepts, self.styles, self.texts)
        return MemoryIndex(*(part.to(device) for part in parts), slots=self.slots, bases=self.bases.to(device))

    def excluded(self, samples: Samples) -> torch.Tensor:
        """[n, E] bool: the image itself, and for hard samples all of its concept in its style.

        An image that has no text of its own in the memory, such as a recoloured one, is always hard. Entries in a
        synthetic style are for that style's images alone, so what to draw is shown in styles somebody drew, and never
        in the one that the synthetic style is made from: else what is learned is to recolour.
        """
        style = self.styles[samples.image][:, None]
        same_style = self.memory.style[None] == style
        same_concept = self.memory.concept[None] == self.concepts[samples.image][:, None]
        text = self.texts[samples.image][:, None]
        hard = samples.memory_hard[:, None] | (text < 0)
        itself = same_style & same_concept & (hard | (self.memory.text[None] == text))
        foreign = ~same_style & (self.bases[self.memory.style.long()] >= 0)
        return itself | foreign | same_concept & (self.memory.style[None] == self.bases[style])


def make_batch(
    cache: TrainingCache,
    samples: Samples,
    noise_channels: int,
    generator: torch.Generator,
    index: MemoryIndex | None = None,
) -> Batch:
    """Gather a batch of samples from the cache, and look up the memory for it."""
    n, device = len(samples.image), samples.image.device
    words, mask = cache.word_batch(samples.caption)
    references = cache.references[samples.reference.to(cache.references.device)].to(device).float()
    has_text, has_reference = samples.text_weight > 0, samples.reference_weights > 0

    # What the discriminator is told, and what would be wrong.
    mean_words = mean_token(words, mask) * has_text[:, None]
    shares = samples.reference_weights / samples.reference_weights.sum(1, keepdim=True).clamp_min(1e-6)
    mean_references = (references.mean(2) * shares[..., None]).sum(1)
    discriminator_condition = torch.cat([unit(mean_words), unit(mean_references)], dim=1)
    has_condition = has_text | has_reference.any(1)
    mismatch_index = mismatches(samples, generator)
    has_mismatch = has_condition & has_condition[mismatch_index] & (mismatch_index >= 0)
    in_style = samples.mismatched_caption >= 0
    other_words = unit(mean_token(*cache.word_batch(samples.mismatched_caption.clamp_min(0))))
    restyled = torch.cat([other_words, discriminator_condition[:, words.shape[2] :]], dim=1)

    # Noise, whose first numbers are the image's appearance where nothing else fixes it.
    z = torch.randn(n, noise_channels, generator=generator, device=device)
    codes = cache.codes[samples.image.to(cache.codes.device)].to(device)
    coded = samples.appearance_unspecified[:, None] & ~codes.isnan()
    z[:, :CODE_CHANNELS] = torch.where(coded, codes, z[:, :CODE_CHANNELS])

    return Batch(
        z=z,
        condition={
            "text": words,
            "text_mask": mask,
            "text_weight": samples.text_weight,
            "references": references,
            "reference_weights": samples.reference_weights,
        },
        remembered=_remember(cache, samples, index, generator) if index else None,
        latents=cache.latents[samples.image.to(cache.latents.device)].to(device).float(),
        discriminator_condition=discriminator_condition,
        mismatched_condition=torch.where(in_style[:, None], restyled, discriminator_condition[mismatch_index]),
        has_mismatch=in_style | has_mismatch,
        latent_weight=torch.where(has_condition, 1.0, 0.25),
    )


def _remember(cache: TrainingCache, samples: Samples, index: MemoryIndex, generator: torch.Generator) -> Remembered:
    """What the memory gives for the samples, then the references' latents where they are to be seen."""
    device = samples.image.device
    queries = cache.keys[samples.caption.to(cache.keys.device)].to(device).float()
    own = cache.keys[cache.first_caption[samples.image.to(cache.keys.device)]].to(device).float()
    by_label = torch.rand(len(queries), 1, generator=generator, device=device) < 0.5
    queries = torch.where(by_label | samples.names_style[:, None], own, queries)
    exact = torch.rand(len(queries), 1, generator=generator, device=device) < 0.5
    temperature = torch.where(exact, 0.0, 1.5 * TEMPERATURE)
    styles = index.styles[samples.image]
    excluded = index.excluded(samples)
    found = index.memory.lookup(queries, styles, excluded, temperature, generator, index.slots)
    if cache.things is not None:
        keys, composed = _keys_of_things(cache, samples, index.slots)
        parts = index.memory.lookup(keys, styles, excluded, temperature, generator, index.slots, one_by_one=True)
        for name, value in vars(parts).items():
            chosen = composed.view(-1, *[1] * (value.ndim - 1))
            setattr(found, name, torch.where(chosen, value, getattr(found, name)))
        whole = (found.keys * own[:, None]).sum(2)  # How alike an entry is is said of all the words, as in use.
        found.likeness = torch.where(composed[:, None], whole, found.likeness)
    weights = found.weights * samples.memory_weight[:, None]
    weights[:, index.slots // 2 :] *= samples.memory_by_style[:, None]
    shown = cache.latents[samples.reference.to(cache.latents.device)].to(device).float()
    n, references = samples.reference.shape
    absent = torch.zeros(n, references, found.keys.shape[2] + 1, device=device)
    return Remembered(
        latents=torch.cat([found.latents, shown], dim=1),
        keys=torch.cat([found.keys, absent[..., :-1]], dim=1),
        likeness=torch.cat([found.likeness, absent[..., -1]], dim=1),
        weights=torch.cat([weights, samples.reference_weights * samples.reference_latents], dim=1),
    )


def mean_token(words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Word tokens [n, T, W] and mask [n, T] -> their means [n, W]."""
    return (words * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _keys_of_things(cache: TrainingCache, samples: Samples, slots: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What composed images are looked up by, thing by thing as in use, [n, K, D], and [n] bool which are composed."""
    assert cache.things is not None
    things = cache.things[samples.image.to(cache.things.device)]
    numbers = things.gather(1, _places((things >= 0).sum(1), slots)).clamp_min(0)
    keys = cache.keys[numbers.to(cache.keys.device)].to(samples.image.device).float()
    return keys, (things[:, 0] >= 0).to(samples.image.device)


def _places(counts: torch.Tensor, slots: int) -> torch.Tensor:
    """`mmgen.phrases.places_of_things` for counts [n] at once, [n, K]; nothing is copied to their device."""
    counts, half = counts.clamp_min(1)[:, None], slots // 2
    steps = torch.arange(half, device=counts.device)
    return torch.cat([steps % counts, (steps + half * (counts > half)) % counts], dim=1)


def unit(x: torch.Tensor) -> torch.Tensor:
    """Scale vectors [N, D] to length sqrt(D); zeros stay zeros."""
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-6) * x.shape[1] ** 0.5
