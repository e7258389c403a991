"""Train the fusion, the generator and the discriminator.

First regression: the generator learns to hit the latent of the picture that the words and references name, which is
four times cheaper a step than the rest. Then adversarial: the discriminator judges the decoded picture, and the
regression's weight falls. What is exported draws latents that spread as the real ones do (`mmgen.training.spread`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mmgen.evaluation.sheets import grid, interleave
from mmgen.images import from_uint8, to_pil
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.discriminator import Discriminator
from mmgen.models.encoders import PyramidCNN
from mmgen.models.fusion import Fused, Fusion
from mmgen.models.generator import Generator
from mmgen.training.batches import Batch, make_batch
from mmgen.training.cache import TrainingCache
from mmgen.training.config import GANConfig, RunConfig
from mmgen.training.duel import VALUES, Duel
from mmgen.training.ema import Ema
from mmgen.training.losses import paired_loss
from mmgen.training.optimizers import adversarial_optimizer, regression_optimizers, step_with_rate
from mmgen.training.run import Run
from mmgen.training.sampling import Sampler
from mmgen.training.spread import SAMPLES, scaled, spread_ratio

SHOWN = 24
"""Pictures on a sample sheet."""


class ConditionalGenerator(nn.Module):
    """Fusion and generator as the one module that learns."""

    def __init__(self, fusion: Fusion, generator: Generator):
        super().__init__()
        self.fusion, self.generator = fusion, generator

    def forward(self, z: torch.Tensor, condition: dict[str, torch.Tensor]) -> torch.Tensor:
        """z [N, noise_channels] and the arguments of `Fusion` -> latents [N, C, S, S]."""
        fused: Fused = self.fusion(**condition)
        return self.generator(z, fused)


def train_gan(
    run_config: RunConfig,
    config: GANConfig,
    cache: TrainingCache,
    sampler: Sampler,
    fusion: Fusion,
    generator: Generator,
    autoencoder: ImageAutoencoder,
    cnn: PyramidCNN,
    export: Callable[[ConditionalGenerator], None] | None = None,
    recipe: dict[str, object] | None = None,
) -> ConditionalGenerator:
    """Train and return the averaged fusion and generator, as exported last.

    Args:
        cache: of the training split.
        cnn: the frozen CNN in whose features the discriminator judges.
        export: called with the averaged `ConditionalGenerator`, its spread matched, at every sample sheet and at the
            end.
        recipe: what else was asked for, kept in the run's config.json.
    """
    run = Run(run_config, {**asdict(config), **(recipe or {})})
    autoencoder.to(run.device, memory_format=torch.channels_last).eval().requires_grad_(False)
    cnn.to(run.device)
    model = ConditionalGenerator(fusion, generator).to(run.device)
    channels = cnn.channels()
    torch.manual_seed(run_config.seed)
    discriminator = Discriminator(channels, cache.words.shape[1] + cache.references.shape[2]).to(run.device)
    judge_optimizer = adversarial_optimizer(discriminator)
    ema = Ema(model, half_life=config.ema_images)
    trained, judge, judge_optimizer, *optimizers = run.accelerator.prepare(
        model, discriminator, judge_optimizer, *regression_optimizers(model), adversarial_optimizer(model)
    )
    duel = Duel(
        run,
        judge,
        judge_optimizer,
        cnn,
        autoencoder,
        config.loss,
        config.discriminator_learning_rate,
        config.picture_size,
    )
    run.keep("ema", ema)
    run.resume()
    noise_channels = generator.config.noise_channels
    fixed = _fixed_batch(cache, sampler, noise_channels, SHOWN).to(run.device)

    def matched() -> ConditionalGenerator:
        sample = _fixed_batch(cache, sampler, noise_channels, SAMPLES).to(run.device)
        return ConditionalGenerator(ema.model.fusion, scaled(ema.model.generator, spread_ratio(ema.model, sample)))

    for step in run.steps():
        rng = np.random.default_rng((run_config.seed, step, run.accelerator.process_index))
        samples = sampler.draw(run_config.batch_size, rng)
        batch = make_batch(cache, samples, noise_channels, rng).to(run.device)
        adversarial = step >= config.regression_steps
        with run.accelerator.autocast():
            latents = trained(batch.z, batch.condition)
        latents = latents.float()
        paired = paired_loss(latents, batch.latents, batch.paired)
        if not adversarial:
            loss, values = paired, dict.fromkeys(VALUES, 0.0)
            left = (config.regression_steps - step) / (config.regression_cooldown * config.regression_steps)
            active, rate = optimizers[:-1], run.learning_rate(config.learning_rate) * min(1.0, left)
        else:
            progress = min(1.0, (step - config.regression_steps) / max(1, config.fade_steps))
            paired_weight = config.paired_start + (config.paired_end - config.paired_start) * progress
            judged, features, values = duel.play(latents, batch)
            loss = config.adversarial_weight * judged + config.feature_weight * features + paired_weight * paired
            active, rate = optimizers[-1:], run.learning_rate(config.adversarial_learning_rate)
        run.accelerator.backward(loss)
        norm = run.accelerator.clip_grad_norm_(trained.parameters(), 1.0)
        step_with_rate(active, rate)
        generator.mapping.track_mean(batch.z)
        run.average(generator.mapping.mean)
        ema.update(model, run_config.batch_size * run.accelerator.num_processes)
        run.log({**values, "paired": paired, "norm": norm})
        if run.due(run_config.sample_every):
            with torch.no_grad():
                decoded = autoencoder.decode(ema.model(fixed.z, fixed.condition))
            run.sample(grid(interleave(to_pil(from_uint8(fixed.restored)), to_pil(decoded), 12), columns=12))
            if export and run.is_main and run.step + 1 < run_config.steps:
                export(matched())
    result = matched()
    if export and run.is_main:
        export(result)
    return result


def _fixed_batch(cache: TrainingCache, sampler: Sampler, noise_channels: int, count: int) -> Batch:
    """Pictures as training draws them, each from its second caption (for emoji the label and the style) alone."""
    rng = np.random.default_rng(12345)
    samples = sampler.draw(count, rng)
    samples.text_weight[:] = 1.0
    samples.reference_weights[:] = 0.0
    samples.open[:] = False
    samples.caption[:] = [cache.caption_ids[i][min(1, len(cache.caption_ids[i]) - 1)] for i in samples.picture]
    return make_batch(cache, samples, noise_channels, rng)


def save_path(output: str | Path) -> Path:
    """Where a run keeps its newest whole pipeline."""
    return Path(output) / "pipeline"
