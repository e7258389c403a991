"""Train the fusion, the generator and the discriminator.

First regression: the generator learns to hit the latent of the picture that the words and references name, which is
four times cheaper a step than the rest. Then adversarial: the discriminator judges the decoded picture, and the
regression's weight falls.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mmgen.evaluation.sheets import grid, interleave
from mmgen.images import composite, from_uint8, to_pil
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.discriminator import Discriminator, picture_maps
from mmgen.models.encoders import PyramidCNN
from mmgen.models.fusion import Fused, Fusion
from mmgen.models.generator import Generator
from mmgen.training.augment import augment_pair
from mmgen.training.cache import CODE_CHANNELS, TrainingCache
from mmgen.training.ema import Ema
from mmgen.training.losses import discriminator_loss, generator_loss, paired_loss
from mmgen.training.run import Run, RunConfig
from mmgen.training.sampling import Sampler, Samples, mismatches


@dataclass
class GANConfig:
    """The recipe.

    Attributes:
        regression_steps: steps before the discriminator starts.
        fade_steps: steps after that in which the paired weight falls from `paired_start` to `paired_end`.
        loss: `bce`, `hinge` or `relativistic`.
        adversarial_weight: of the generator's adversarial loss beside the paired one.
        picture_size: side in pixels at which the frozen CNN judges.
    """

    regression_steps: int = 12_000
    fade_steps: int = 2_000
    loss: str = "hinge"
    adversarial_weight: float = 0.3
    paired_start: float = 4.0
    paired_end: float = 1.0
    picture_size: int = 96
    learning_rate: float = 5e-4
    adversarial_learning_rate: float = 1e-4
    discriminator_learning_rate: float = 2e-4
    ema_images: float = 20_000


class ConditionalGenerator(nn.Module):
    """Fusion and generator as the one module that learns."""

    def __init__(self, fusion: Fusion, generator: Generator):
        super().__init__()
        self.fusion, self.generator = fusion, generator

    def forward(self, z: torch.Tensor, condition: dict[str, torch.Tensor]) -> torch.Tensor:
        """z [N, noise_channels] and the arguments of `Fusion` -> latents [N, C, S, S]."""
        fused: Fused = self.fusion(**condition)
        return self.generator(z, fused)


@dataclass
class Batch:
    """One batch on the device: targets, conditions and noise."""

    z: torch.Tensor
    condition: dict[str, torch.Tensor]
    latents: torch.Tensor
    restored: torch.Tensor
    judged: torch.Tensor
    wrong: torch.Tensor
    has_condition: torch.Tensor
    paired: torch.Tensor


def make_batch(cache: TrainingCache, samples: Samples, noise_channels: int, rng: np.random.Generator) -> Batch:
    """Gather a batch of samples from the cache.

    `judged` [N, W + D] is the condition as the discriminator sees it: the mean word token and the mean reference token,
    each zero where absent. `wrong` numbers another sample whose condition cannot fit, -1 for none.
    """
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
    is_open = torch.from_numpy(samples.open)
    codes = torch.from_numpy(cache.codes[samples.picture])
    z[:, :CODE_CHANNELS] = torch.where(is_open[:, None], codes, z[:, :CODE_CHANNELS])
    has_condition = has_text | has_reference.any(1)
    wrong = torch.from_numpy(mismatches(samples.concept, rng))
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
        restored=torch.from_numpy(cache.restored[samples.picture]),
        judged=judged,
        wrong=wrong,
        has_condition=has_condition & has_condition[wrong] & (wrong >= 0),
        paired=torch.where(has_condition, 1.0, 0.25),
    )


def _unit(x: torch.Tensor) -> torch.Tensor:
    """Scale vectors [N, D] to length sqrt(D); zeros stay zeros."""
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-6) * x.shape[1] ** 0.5


def _to(batch: Batch, device: torch.device) -> Batch:
    moved = {name: value.to(device) for name, value in vars(batch).items() if name != "condition"}
    return Batch(condition={name: value.to(device) for name, value in batch.condition.items()}, **moved)


def train_gan(
    run_config: RunConfig,
    config: GANConfig,
    cache: TrainingCache,
    sampler: Sampler,
    fusion: Fusion,
    generator: Generator,
    autoencoder: ImageAutoencoder,
    cnn: PyramidCNN,
    export=None,
) -> ConditionalGenerator:
    """Train and return the averaged fusion and generator.

    Args:
        cache: of the training split.
        cnn: the frozen CNN in whose features the discriminator judges.
        export: called with the averaged `ConditionalGenerator` at every sample sheet and at the end.
    """
    run = Run(run_config)
    autoencoder.to(run.device, memory_format=torch.channels_last).eval().requires_grad_(False)
    cnn.to(run.device)
    model = ConditionalGenerator(fusion, generator).to(run.device)
    channels = cnn.channels()
    torch.manual_seed(run_config.seed)
    discriminator = Discriminator(channels, cache.words.shape[1] + cache.references.shape[2]).to(run.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    judge_optimizer = torch.optim.Adam([p for p in discriminator.parameters() if p.requires_grad], betas=(0.0, 0.99))
    ema = Ema(model, half_life=config.ema_images)
    trained, judge, optimizer, judge_optimizer = run.accelerator.prepare(
        model, discriminator, optimizer, judge_optimizer
    )
    run.accelerator.register_for_checkpointing(ema)
    run.resume()
    noise_channels = generator.config.noise_channels
    fixed = _to(_fixed_batch(cache, sampler, noise_channels), run.device)

    for step in run.steps():
        rng = np.random.default_rng((run_config.seed, step, run.accelerator.process_index))
        samples = sampler.draw(run_config.batch_size, rng)
        batch = _to(make_batch(cache, samples, noise_channels, rng), run.device)
        adversarial = step >= config.regression_steps
        with run.accelerator.autocast():
            latents = trained(batch.z, batch.condition)
        latents = latents.float()
        paired = paired_loss(latents, batch.latents, batch.paired)
        if not adversarial:
            loss, values = paired, {"paired": paired}
            rate = run.learning_rate(config.learning_rate)
        else:
            progress = min(1.0, (step - config.regression_steps) / max(1, config.fade_steps))
            paired_weight = config.paired_start + (config.paired_end - config.paired_start) * progress
            judged, values = _adversarial(
                run, config, autoencoder, cnn, judge, judge_optimizer, batch, latents, step - config.regression_steps
            )
            loss = config.adversarial_weight * judged + paired_weight * paired
            values["paired"] = paired
            rate = run.learning_rate(config.adversarial_learning_rate)
        run.accelerator.backward(loss)
        norm = run.accelerator.clip_grad_norm_(trained.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"], group["betas"] = rate, (0.5, 0.99) if adversarial else (0.9, 0.99)
        optimizer.step()
        optimizer.zero_grad()
        generator.mapping.track_mean(batch.z)
        ema.update(model, run_config.batch_size * run.accelerator.num_processes)
        run.log(
            {**{name: 0.0 for name in ("adversarial", "judge", "real", "fake", "mismatched")}, **values, "norm": norm}
        )
        if run.due(run_config.sample_every):
            with torch.no_grad():
                decoded = autoencoder.decode(ema.model(fixed.z, fixed.condition))
            run.sample(grid(interleave(to_pil(from_uint8(fixed.restored)), to_pil(decoded), 12), columns=12))
            if export and run.is_main:
                export(ema.model)
    if export and run.is_main:
        export(ema.model)
    return ema.model


def _adversarial(
    run: Run,
    config: GANConfig,
    autoencoder: ImageAutoencoder,
    cnn: PyramidCNN,
    judge: nn.Module,
    judge_optimizer: torch.optim.Optimizer,
    batch: Batch,
    latents: torch.Tensor,
    step: int,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One step of the discriminator; returns the generator's adversarial loss and what to log."""
    with run.accelerator.autocast():
        decoded = autoencoder.decode(latents.contiguous(memory_format=torch.channels_last)).float()
    size = config.picture_size
    ground = torch.rand(len(latents), 3, 1, 1, device=run.device) * 2 - 1
    fake = nn.functional.interpolate(composite(decoded, ground), size=(size, size), mode="area")
    real = nn.functional.interpolate(composite(from_uint8(batch.restored), ground), size=(size, size), mode="area")
    real, fake = augment_pair(real, fake)
    with torch.no_grad():
        real_maps = picture_maps(cnn, real, size)
    fake_maps = picture_maps(cnn, fake, size)
    ok = batch.has_condition
    with run.accelerator.autocast():
        real_scores = judge(real_maps, batch.judged)
        fake_scores = judge([x.detach() for x in fake_maps], batch.judged)
        wrong_scores = judge(real_maps, batch.judged[batch.wrong])
    loss = discriminator_loss(config.loss, real_scores.float(), fake_scores.float(), wrong_scores.float(), ok)
    run.accelerator.backward(loss)
    for group in judge_optimizer.param_groups:
        group["lr"] = config.discriminator_learning_rate
    judge_optimizer.step()
    judge_optimizer.zero_grad()
    judge.requires_grad_(False)
    with run.accelerator.autocast():
        scores = judge(fake_maps, batch.judged)
    for parameter, learns in _learning(judge):
        parameter.requires_grad_(learns)
    adversarial = generator_loss(config.loss, real_scores.detach().float(), scores.float())
    return adversarial, {
        "adversarial": adversarial,
        "judge": loss,
        "real": real_scores.mean(),
        "fake": fake_scores.mean(),
        "mismatched": wrong_scores.mean(),
    }


def _learning(judge: nn.Module):
    """(parameter, whether it learns) of the discriminator: all but the fixed mixing."""
    return ((parameter, "mixing" not in name) for name, parameter in judge.named_parameters())


def _fixed_batch(cache: TrainingCache, sampler: Sampler, noise_channels: int) -> Batch:
    """24 pictures spread evenly over concepts, each from its fullest plain caption that names the style."""
    rng = np.random.default_rng(12345)
    samples = sampler.draw(24, rng)
    samples.text_weight[:] = 1.0
    samples.reference_weights[:] = 0.0
    samples.open[:] = False
    samples.caption[:] = [cache.caption_ids[i][min(1, len(cache.caption_ids[i]) - 1)] for i in samples.picture]
    return make_batch(cache, samples, noise_channels, rng)


def save_path(output: str | Path) -> Path:
    """Where a run keeps its newest whole pipeline."""
    return Path(output) / "pipeline"
