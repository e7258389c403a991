"""Train the fusion, the generator and the discriminator.

First regression: the generator learns to hit the latent of the image that the words, the references and the memory
name, which is several times cheaper a step than the rest. Then adversarial: the discriminator judges the decoded image,
and the regression's weight falls. In the last part of that the image decoder learns too, on what is drawn. What is
exported draws latents that spread as the real ones do (`mmgen.training.gan.calibration`).

    generator      latent_weight * L1(latents)
                   + adversarial_weight * adversarial(whole image, native crop)
                   + feature_weight * features(whole image, native crop)         `losses.py`, `adversarial.py`
    discriminator  hinge on real, drawn, and real with a wrong condition at half weight
    image decoder  the generator's adversarial and feature loss + L1 to what it made of real latents before
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from mmgen.evaluation.sheets import grid, interleave
from mmgen.images import to_pil
from mmgen.models.autoencoder import ImageAutoencoder, PreviewDecoder
from mmgen.models.discriminator import Discriminator
from mmgen.models.encoders import PyramidCNN
from mmgen.models.fusion import Fused, Fusion
from mmgen.models.generator import Generator, Remembered
from mmgen.training.common.cache import TrainingCache
from mmgen.training.common.config import GANConfig, RunConfig
from mmgen.training.common.ema import Ema
from mmgen.training.common.optimizers import (
    adversarial_optimizer,
    image_decoder_optimizer,
    regression_optimizers,
    step_with_rate,
)
from mmgen.training.common.run import Run
from mmgen.training.common.schedules import Phase
from mmgen.training.gan.adversarial import VALUES, VIEWS, AdversarialStep
from mmgen.training.gan.batch import Batch, MemoryIndex, make_batch, mean_token, unit
from mmgen.training.gan.calibration import SAMPLES, latent_std_ratio, match_latent_std
from mmgen.training.gan.losses import latent_l1_loss
from mmgen.training.gan.sampler import Sampler

SHOWN = 24
"""Images on a sample sheet."""

WIDE_GAPS = 3
"""Log lines in a row with a gap above `GANConfig.largest_gap` after which a run ends."""


class ConditionalGenerator(nn.Module):
    """Fusion and generator as the one module that learns."""

    def __init__(self, fusion: Fusion, generator: Generator):
        super().__init__()
        self.fusion, self.generator = fusion, generator
        self.compiled: Callable[..., torch.Tensor] | None = None

    def compile_forward(self) -> None:
        """Compile it for each shape that it is given; what cannot be compiled is computed as before.

        Copies that are made of the module before stay as they are.
        """
        torch._dynamo.config.suppress_errors = True
        self.compiled = torch.compile(self.draw, dynamic=False)

    def forward(
        self, z: torch.Tensor, condition: dict[str, torch.Tensor], remembered: Remembered | None = None
    ) -> torch.Tensor:
        """z [N, noise_channels], the arguments of `Fusion` and what is remembered -> latents [N, C, S, S]."""
        return (self.compiled or self.draw)(z, condition, remembered)

    def draw(
        self, z: torch.Tensor, condition: dict[str, torch.Tensor], remembered: Remembered | None = None
    ) -> torch.Tensor:
        """As `forward`, not compiled."""
        fused: Fused = self.fusion(**condition)
        return self.generator(z, fused, remembered=remembered)


def train_gan(
    run_config: RunConfig,
    config: GANConfig,
    cache: TrainingCache,
    sampler: Sampler,
    fusion: Fusion,
    generator: Generator,
    autoencoder: ImageAutoencoder,
    cnn: PyramidCNN,
    memory: MemoryIndex | None = None,
    held_out: tuple[torch.Tensor, torch.Tensor] | None = None,
    export: Callable[[ConditionalGenerator, ImageAutoencoder], None] | None = None,
    recipe: dict[str, object] | None = None,
) -> ConditionalGenerator:
    """Train and return the averaged fusion and generator, as exported last.

    Args:
        cache: of the training split.
        cnn: the frozen CNN in whose features the discriminator judges.
        memory: what is looked up, for a generator that has slots for it.
        held_out: latents [n, C, h, w] of real images that are not trained on, and their discriminator conditions.
        export: called with the averaged `ConditionalGenerator`, its latents' spread matched, and the autoencoder, at
            every sample sheet and at the end.
        recipe: what else was asked for, kept in the run's config.json.
    """
    # Networks, their averages and optimizers, and all that a state of the run keeps.
    run = Run(run_config, {**asdict(config), **(recipe or {})})
    autoencoder.to(run.device, memory_format=torch.channels_last).eval().requires_grad_(False)
    cnn.to(run.device)
    model = ConditionalGenerator(fusion, generator).to(run.device)
    torch.manual_seed(run_config.seed)
    condition_channels = cache.words.shape[1] + cache.references.shape[2]
    discriminator = Discriminator(cnn.channels(), condition_channels, views=VIEWS).to(run.device)
    preview = PreviewDecoder(cache.latents.shape[1], autoencoder.stride).to(run.device)
    image_decoder = copy.deepcopy(autoencoder.decoder).requires_grad_(True)
    ema = Ema(model, half_life=config.ema_images)
    optimizers = [*regression_optimizers(model), adversarial_optimizer(model)]
    others = [adversarial_optimizer(discriminator), *map(image_decoder_optimizer, (image_decoder, preview))]
    trained, discriminator, preview, *optimizers = run.accelerator.prepare(
        model, discriminator, preview, *optimizers, *others
    )
    discriminator_optimizer, decoder_optimizer, preview_optimizer = optimizers[3:]
    step_against = AdversarialStep(
        run,
        discriminator,
        discriminator_optimizer,
        preview,
        preview_optimizer,
        cnn,
        autoencoder,
        config.loss,
        config.discriminator_learning_rate,
        config.image_size,
    )
    run.register_for_checkpointing("ema", ema)
    run.register_for_checkpointing("image_decoder", image_decoder)
    run.resume()

    def phase_now() -> Phase:
        return Phase.at(run.step, run.progress, run_config, config)

    if config.compile and run.device.type == "cuda" and not phase_now().is_adversarial:
        model.compile_forward()

    # What is fixed: the sheet's batch, and the sample by which the latents' spread is measured.
    noise_channels = generator.config.noise_channels
    fixed = fixed_batch(cache, sampler, noise_channels, SHOWN, memory).to(run.device)

    def exported() -> ConditionalGenerator:
        sample = fixed_batch(cache, sampler, noise_channels, SAMPLES, memory).to(run.device)
        ratio = latent_std_ratio(ema.model, sample)
        return ConditionalGenerator(ema.model.fusion, match_latent_std(ema.model.generator, ratio))

    def learned_autoencoder() -> ImageAutoencoder:
        learned = copy.deepcopy(autoencoder)
        learned.decoder.load_state_dict(image_decoder.state_dict())
        return learned

    wide_gaps = 0  # How often in a row the discriminator was seen to know trained images by heart.
    for _ in run.steps():
        # Sample, look up, gather. Nothing from here to the log may ask a GPU for a number: it would wait for it.
        phase = phase_now()
        if phase.is_adversarial:
            run.batch_size = config.adversarial_batch_size or run_config.batch_size
            step_against.prepare(cache.latents)
            model.compiled = None  # The rest of such a step costs more than another compilation would save.
        generator_of_step = torch.Generator(sampler.device).manual_seed(run.step_seed)
        samples = sampler.draw(run.batch_size, generator_of_step)
        batch = make_batch(cache, samples, noise_channels, generator_of_step, memory)

        # Draw.
        with run.accelerator.autocast():
            latents = trained(batch.z, batch.condition, batch.remembered)
        latents = latents.float()
        latent_l1 = latent_l1_loss(latents, batch.latents, batch.latent_weight)

        # The objective of the phase.
        if not phase.is_adversarial:
            loss, values = latent_l1, dict.fromkeys(VALUES, 0.0)
            active, rate = optimizers[:2], run.learning_rate(config.learning_rate) * phase.rate
        else:
            learning = image_decoder if phase.image_decoder_learns else None
            adversarial, features, values = step_against(latents, batch, learning)
            loss = config.adversarial_weight * adversarial + config.feature_weight * features
            loss = loss + phase.latent_weight(config) * latent_l1
            if learning is not None:
                loss = loss + _image_decoder_anchor(run, autoencoder, learning, batch.latents)
            active, rate = optimizers[2:3], run.learning_rate(config.adversarial_learning_rate) * phase.rate

        # Learn, and follow with the averages.
        run.accelerator.backward(loss)
        norm = run.accelerator.clip_grad_norm_(trained.parameters(), 1.0)
        step_with_rate(active, rate)
        if phase.is_adversarial and phase.image_decoder_learns:
            run.accelerator.clip_grad_norm_(image_decoder.parameters(), 1.0)
            step_with_rate([decoder_optimizer], config.image_decoder_learning_rate * phase.rate)
        generator.mapping.track_mean(batch.z)
        run.average(generator.mapping.mean)
        ema.update(model, run.batch_size * run.accelerator.num_processes)

        # Tell and show.
        gap = 0.0
        if phase.is_adversarial and held_out is not None and run.step % run_config.log_every == 0:
            unseen = step_against.held_out_score(*(part.to(run.device) for part in held_out))
            gap = float(torch.as_tensor(values["real"]).detach() - unseen)
            wide_gaps = wide_gaps + 1 if config.largest_gap and gap > config.largest_gap else 0
            if wide_gaps == WIDE_GAPS:
                run.end("the discriminator only remembers the images that it was trained on.")
        run.log({"latent_l1": latent_l1, **values, "held_out_gap": gap, "norm": norm})
        if run.due(run_config.sample_every):
            with torch.no_grad():
                drawn = learned_autoencoder().decode(ema.model(fixed.z, fixed.condition, fixed.remembered))
                real = autoencoder.decode(fixed.latents)
            run.sample(grid(interleave(to_pil(real.clamp(-1, 1)), to_pil(drawn.clamp(-1, 1)), 12), columns=12))
            if export and run.is_main and run.progress < 1:
                export(exported(), learned_autoencoder())
    result = exported()
    if export and run.is_main:
        export(result, learned_autoencoder())
    return result


def _image_decoder_anchor(
    run: Run, autoencoder: ImageAutoencoder, image_decoder: nn.Module, latents: torch.Tensor
) -> torch.Tensor:
    """L1 between what the learning decoder and the frozen one make of real latents [N, C, h, w], on a crop; scalar."""
    size = latents.shape[-1]
    side = max(2, size // 2)
    top, left = torch.randint(0, size - side + 1, (2,)).tolist()
    raw = (latents * autoencoder.scale + autoencoder.shift)[..., top : top + side, left : left + side]
    with run.accelerator.autocast():
        with torch.no_grad():
            wanted = autoencoder.decoder(raw)
        return F.l1_loss(image_decoder(raw).float(), wanted.float())


def fixed_batch(
    cache: TrainingCache, sampler: Sampler, noise_channels: int, count: int, memory: MemoryIndex | None
) -> Batch:
    """Images as training draws them, each from its second caption (for emoji the label and the style) alone."""
    generator = torch.Generator(sampler.device).manual_seed(12345)
    samples = sampler.draw(count, generator)
    second = [cache.caption_ids[i][min(1, len(cache.caption_ids[i]) - 1)] for i in samples.image.tolist()]
    samples.caption[:] = torch.tensor(second)
    samples.text_weight[:] = 1.0
    samples.reference_weights[:] = 0.0
    samples.memory_weight[:] = 1.0
    samples.names_style[:] = samples.memory_hard[:] = samples.memory_by_style[:] = True
    samples.appearance_unspecified[:] = False
    return make_batch(cache, samples, noise_channels, generator, memory)


def held_out_sample(cache: TrainingCache) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that are not trained on as the discriminator is to judge them, each with its second caption alone.

    Args:
        cache: of n such images.

    Returns:
        Their latents [n, C, h, w], and their discriminator conditions [n, W + D].
    """
    second = torch.tensor([ids[min(1, len(ids) - 1)] for ids in cache.caption_ids])
    words, mask = cache.word_batch(second)
    absent = torch.zeros(len(second), cache.references.shape[2])
    return cache.latents.float(), torch.cat([unit(mean_token(words, mask)), absent], dim=1)


def save_path(output: str | Path) -> Path:
    """Where a run keeps its newest whole pipeline."""
    return Path(output) / "pipeline"
