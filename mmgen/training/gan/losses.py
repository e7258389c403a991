"""The whole loss of the GAN, and what fine-tuning adds to it.

Scores have shape [N, scales]: sample i is judged with its own condition, in `real` on a real image, in `fake` on a
generated one and in `mismatched` on a real image with the condition of something else.

    bce           the classical value function (Goodfellow et al. 2014), non-saturating for the generator
    hinge         Lim and Ye 2017, as in projected GAN
    relativistic  Jolicoeur-Martineau 2018, pairing real and generated of one condition as in R3GAN (2024), without its
                  gradient penalties, which explode over frozen features

A real image with the wrong condition counts as a fake at half weight (DF-GAN, GALIP).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mmgen.training.common.config import LOSSES


def discriminator_loss(
    kind: str, real: torch.Tensor, fake: torch.Tensor, mismatched: torch.Tensor, has_mismatch: torch.Tensor
) -> torch.Tensor:
    """What the discriminator minimises; scalar.

    Args:
        has_mismatch: [N] bool; samples without any condition, or alone of their kind in the batch, have no wrong one.
    """
    if kind == "bce":
        wrong = F.softplus(mismatched)
        loss = F.softplus(-real).mean() + 0.5 * F.softplus(fake).mean()
    elif kind == "hinge":
        wrong = F.relu(1 + mismatched)
        loss = F.relu(1 - real).mean() + 0.5 * F.relu(1 + fake).mean()
    elif kind == "relativistic":
        wrong = F.softplus(mismatched - real)
        loss = F.softplus(fake - real).mean()
    else:
        raise ValueError(f"unknown loss {kind!r}; choose one of {', '.join(LOSSES)}")
    return loss + 0.5 * (wrong.mean(1) * has_mismatch).sum() / has_mismatch.sum().clamp_min(1)


def generator_loss(kind: str, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """What the generator minimises against the discriminator; scalar. `real` is used by the relativistic loss alone."""
    if kind == "bce":
        return F.softplus(-fake).mean()
    if kind == "hinge":
        return -fake.mean()
    if kind == "relativistic":
        return F.softplus(real - fake).mean()
    raise ValueError(f"unknown loss {kind!r}; choose one of {', '.join(LOSSES)}")


def latent_l1_loss(latents: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """L1 between generated and real latents [N, C, h, w], each sample with its weight [N]; scalar."""
    distance = (latents - targets).abs().mean((1, 2, 3))
    return (distance * weights).sum() / weights.sum().clamp_min(1.0)


def prior_preservation_loss(latents: torch.Tensor, base: torch.Tensor, reach: float = 0.25) -> torch.Tensor:
    """What moving away from the base costs: Huber between latents [N, C, h, w], of slope 1 beyond `reach`; scalar.

    L1 pulls as hard at what has hardly moved as at what is lost; it held up what is to be learned, and kept no more.
    """
    return F.huber_loss(latents, base, delta=reach) / reach


def feature_loss(ours: list[torch.Tensor], theirs: list[torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
    """Distance between the frozen CNN's maps [N, C, h, w] of generated and real images; scalar.

    At each place the squared distance of the two feature vectors scaled to length 1 (LPIPS, Zhang et al. 2018, without
    its learned weights), 0 to 4, the mean over places and scales; each sample with its weight [N].
    """
    pairs = zip(ours, theirs, strict=True)
    distances = [(F.normalize(a.float()) - F.normalize(b.float())).square().sum(1).mean((1, 2)) for a, b in pairs]
    return (torch.stack(distances).mean(0) * weights).sum() / weights.sum().clamp_min(1.0)
