"""How learning rates and weights go over a run: warm-ups, cooldowns and fades, of every training.

All of them are functions of the step or of the share of the run that is done, and of nothing that they were before: so
a run that is resumed goes on where it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmgen.training.common.config import GANConfig, RunConfig

LAST = 0.02
"""Share of a rate that is left at the end where a run has a time: when its last step is over is not known before."""


def warmed_and_cooled(base: float, step: int, progress: float, config: RunConfig, warmup: int = 100) -> float:
    """A learning rate: linear warm-up over `warmup` steps, constant, linear fall over the cooldown.

    Args:
        base: the rate between them.
        progress: share of the run that is done, 0 to 1.
    """
    rate = base * min(1.0, (step + 1) / warmup)
    if config.minutes is not None:
        if config.cooldown_share:
            rate *= min(1.0, (1 - progress) / config.cooldown_share + LAST)
    elif config.cooldown and config.steps is not None:
        rate *= min(1.0, (config.steps - step) / config.cooldown)
    return rate


@dataclass(frozen=True)
class Phase:
    """Where a step of the GAN's training stands.

    Attributes:
        is_adversarial: whether the discriminator takes part.
        rate: factor of the learning rates, 0 to 1.
        fade: how far the latent loss has gone from its first weight to its last, 0 to 1.
        image_decoder_learns: whether the image decoder does.
    """

    is_adversarial: bool
    rate: float
    fade: float = 0.0
    image_decoder_learns: bool = False

    @classmethod
    def at(cls, step: int, progress: float, run: RunConfig, config: GANConfig) -> Phase:
        """By steps, or by shares of the run's minutes where it has them."""
        if run.minutes is None:
            regression = step / config.regression_steps if config.regression_steps else 1.0
            after = step - config.regression_steps
            adversarial = after / max(1, (run.steps or 0) - config.regression_steps)
            fade = after / max(1, config.fade_steps)
        else:
            regression = progress / config.regression_share if config.regression_share else 1.0
            adversarial = (progress - config.regression_share) / max(1e-9, 1 - config.regression_share)
            fade = 2 * adversarial
        if regression < 1:
            return cls(False, min(1.0, (1 - regression) / config.regression_cooldown))
        # The rate falls at the end of a run with a time; one by steps has `--cooldown` for that.
        rate = 1.0 if run.minutes is None else min(1.0, 5 * (1 - adversarial) + LAST)
        return cls(True, rate, min(1.0, fade), adversarial >= 1 - config.image_decoder_share)

    def latent_weight(self, config: GANConfig) -> float:
        """The weight of the latents' L1 in the adversarial part."""
        return config.latent_start + (config.latent_end - config.latent_start) * self.fade


def preview_rate(base: float, step: int, steps: int) -> float:
    """Of the preview decoder, which learns for so many steps before the discriminator starts."""
    return base * min(1.0, (step + 1) / 20, (steps - step) / 100 + 0.5)


def captioner_rate(base: float, progress: float) -> float:
    """Of the captioner: a twentieth of the run to warm up, and a quarter of a cosine down from the start."""
    falling = LAST + (1 - LAST) * math.cos(progress * math.pi / 2)
    return base * min(1.0, 20 * progress + LAST) * falling


def finetuning_rate(base: float, done: float) -> float:
    """Of the generator in a fine-tuning: a twentieth to warm up, the last two fifths to cool down."""
    return base * min(1.0, 20 * done + 0.05, 2.5 * (1 - done) + 0.01)


def image_decoder_rate(base: float, done: float) -> float:
    """Of the image decoder in a fine-tuning: its second half falls to 0."""
    return base * min(1.0, 2 * (1 - done))
