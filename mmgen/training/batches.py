"""Samples by number -> tensors: what one training step reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mmgen.training.cache import CODE_CHANNELS, TrainingCache
from mmgen.training.sampling import Samples, mismatches


@dataclass
class Batch:
    """One batch of n samples.

    Attributes:
        z: noise [n, noise_channels].
        condition: the arguments of `Fusion`.
        latents: the targets [n, C, h, w].
        restored: the targets as the discriminator sees them, uint8 [n, 4, P, P], or None.
        judged: [n, W + D] the condition as the discriminator sees it: the mean word token and the mean reference token,
            each of length sqrt(channels), or zero where absent.
        wrong: [n] number of another sample of the batch whose condition cannot fit.
        has_mismatch: [n] bool, whether there is such a one.
        paired: [n] weight in the paired loss.
    """

    z: torch.Tensor
    condition: dict[str, torch.Tensor]
    latents: torch.Tensor
    restored: torch.Tensor | None
    judged: torch.Tensor
    wrong: torch.Tensor
    has_mismatch: torch.Tensor
    paired: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""

        def move(value):
            return value.to(device) if torch.is_tensor(value) else value

        moved = {name: move(value) for name, value in vars(self).items() if name != "condition"}
        return Batch(condition={name: move(value) for name, value in self.condition.items()}, **moved)


def make_batch(cache: TrainingCache, samples: Samples, noise_channels: int, rng: np.random.Generator) -> Batch:
    """Gather a batch of samples from the cache."""
    n = len(samples.picture)
    words, mask = cache.word_batch(samples.caption)
    used = max(1, int((samples.reference_weights > 0).sum(1).max()))
    references = torch.from_numpy(cache.references[samples.reference[:, :used]].astype(np.float32))
    text_weight = torch.from_numpy(samples.text_weight)
    reference_weights = torch.from_numpy(samples.reference_weights[:, :used])
    has_text, has_reference = text_weight > 0, reference_weights > 0
    mean_words = (words * mask[..., None]).sum(1) / mask.sum(1, keepdim=True) * has_text[:, None]
    shares = reference_weights / reference_weights.sum(1, keepdim=True).clamp_min(1e-6)
    mean_references = (references.mean(2) * shares[..., None]).sum(1)
    judged = torch.cat([_unit(mean_words), _unit(mean_references)], dim=1)
    z = torch.from_numpy(rng.standard_normal((n, noise_channels)).astype(np.float32))
    codes = torch.from_numpy(cache.codes[samples.picture])
    coded = torch.from_numpy(samples.open)[:, None] & ~codes.isnan()
    z[:, :CODE_CHANNELS] = torch.where(coded, codes, z[:, :CODE_CHANNELS])
    has_condition = has_text | has_reference.any(1)
    wrong = torch.from_numpy(mismatches(samples, rng))
    return Batch(
        z=z,
        condition={
            "text": words,
            "text_mask": mask,
            "text_weight": text_weight,
            "references": references,
            "reference_weights": reference_weights,
        },
        latents=torch.from_numpy(cache.latents[samples.picture].astype(np.float32)),
        restored=None if cache.restored is None else torch.from_numpy(cache.restored[samples.picture]),
        judged=judged,
        wrong=wrong,
        has_mismatch=has_condition & has_condition[wrong] & (wrong >= 0),
        paired=torch.where(has_condition, 1.0, 0.25),
    )


def _unit(x: torch.Tensor) -> torch.Tensor:
    """Scale vectors [N, D] to length sqrt(D); zeros stay zeros."""
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-6) * x.shape[1] ** 0.5
