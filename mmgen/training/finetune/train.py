"""Fine-tune a checkpoint on a person's own pairs, in minutes.

The generator learns by regression alone: with a caption for each picture there is one right answer, and hitting it is
four times cheaper than an adversarial step. Beside the pairs it is shown what the base model draws (`prior.py`), and
it learns, with the preset `everything`, where that is disturbed least (`projection.py`). Where the autoencoder cannot
reproduce the pictures well, its image decoder learns first; the encoder never does, so every latent keeps its meaning.
In a base with a memory the pairs become entries of it, and what is learned is to use those too: as in the training of
the GAN, each pair is drawn from what the memory holds beside it.
"""

from __future__ import annotations

import copy
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
import torch.nn.functional as F

from mmgen.checkpoints import name_of
from mmgen.data.memmap import pack_images
from mmgen.errors import UserError
from mmgen.evaluation.sheets import grid
from mmgen.images import composite, from_uint8, psnr
from mmgen.models.autoencoder import GOOD_PSNR, ImageAutoencoder
from mmgen.models.encoders import PyramidCNN
from mmgen.models.memory import Memory
from mmgen.parts import read_captions
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.training.autoencoder import feature_distance
from mmgen.training.common.augment import augment_colours, random_crops
from mmgen.training.common.cache import TrainingCache, build_cache
from mmgen.training.common.checkpoint import save_checkpoint
from mmgen.training.common.config import RunConfig
from mmgen.training.common.control import Control, Halted, is_disk_full
from mmgen.training.common.ema import Ema
from mmgen.training.common.frozen import frozen_cnn
from mmgen.training.common.optimizers import finetuning_optimizer, step_with_rate
from mmgen.training.common.run import Run, saved_states
from mmgen.training.common.schedules import finetuning_rate, image_decoder_rate
from mmgen.training.finetune.prepared import prepare_prior
from mmgen.training.finetune.presets import choose, sample_kinds
from mmgen.training.finetune.prior import PriorSampler, mix
from mmgen.training.finetune.projection import NullSpaceProjection
from mmgen.training.finetune.settings import FinetuneSettings
from mmgen.training.finetune.variants import variants_each, write_variants
from mmgen.training.gan.batch import MemoryIndex, make_batch
from mmgen.training.gan.losses import latent_l1_loss, prior_preservation_loss
from mmgen.training.gan.sampler import Sampler
from mmgen.training.gan.train import ConditionalGenerator, save_path
from mmgen.training.memory import grow_memory

UNSPARED = 0.25
"""Of the learning rate, how much is right where updates are not kept off what the base knows."""

IMAGE_DECODER_SHARE = 0.2
"""Of the time, how much goes to the image decoder where it learns."""


@dataclass
class FinetuneData:
    """All that the steps of one fine-tuning read.

    Attributes:
        memory: the base's with the person's pairs in it, or None.
        index: of that memory, for the person's samples.
    """

    cache: TrainingCache
    sampler: Sampler
    memory: Memory | None
    index: MemoryIndex | None
    prior: PriorSampler | None
    projection: NullSpaceProjection | None
    images: np.ndarray
    watched: list[str]


def finetune(
    run_config: RunConfig, settings: FinetuneSettings, base: Path, pipe: MultimodalGANPipeline, data: datasets.Dataset
) -> Path:
    """Fine-tune, and return the folder of the new checkpoint.

    Paused, stopped or killed, the run goes on with `run_config.resume`, and keeps what there is; done, it gives back
    the disk that only a run that goes on needs.

    Args:
        base: the checkpoint's folder; `pipe`: the same, loaded.
        data: a split of `mmgen.data.folder.load_pairs(..., need_text=False)`.

    Raises:
        UserError: another process trains in the same folder, the training diverged, or the disk is full.
    """
    with Control(Path(run_config.output)) as control:
        control.report(message="Looking at the pictures")
        if not run_config.resume and (control.folder / "config.json").is_file():
            _forget_a_false_start(control.folder)
        for part in control.folder.glob("cache/*.part*"):  # Of a process that was killed; nobody else is here.
            part.unlink(missing_ok=True)
        try:
            return _finetune(run_config, settings, base, pipe, data, control)
        except Halted:
            return save_path(run_config.output)
        except Exception as error:  # A full disk has many names in the libraries.
            if isinstance(error, OSError) or is_disk_full(error):
                raise control.failed(error) from error
            raise


def _finetune(run_config, settings, base, pipe, data, control) -> Path:
    run = Run(run_config, {**asdict(settings), "base": str(base)}, control)
    pipe.to(run.device)
    cnn = frozen_cnn(copy.deepcopy(pipe.image_encoder), pipe.image_processor).to(run.device)
    prepared = _prepare(run, settings, base, pipe, cnn, data)
    image_decoder_learns = settings.tune_autoencoder
    if image_decoder_learns is None:
        image_decoder_learns = reconstruction(pipe.autoencoder, prepared.images, run.device) < GOOD_PSNR

    model = ConditionalGenerator(copy.deepcopy(pipe.fusion), copy.deepcopy(pipe.generator)).to(run.device)
    learning = prepared.projection.restrict(model) if prepared.projection else choose(model, settings.preset)
    autoencoder = copy.deepcopy(pipe.autoencoder).to(memory_format=torch.channels_last)
    ema = Ema(model, half_life=settings.ema_images)
    learned = {"fusion": ema.model.fusion, "generator": ema.model.generator, "autoencoder": autoencoder}
    learned["memory"] = prepared.memory
    if pipe.captioner and not prepared.projection:  # It goes on reading what it has learned to read.
        learned["captioner_fusion"] = pipe.captioner_fusion or pipe.fusion
    learner = MultimodalGANPipeline(
        **{**pipe.components, **learned},
        styles=sorted({*pipe.config.styles, *data["style"]} - {""}),
    )
    autoencoder.decoder.requires_grad_(True)
    optimizer = finetuning_optimizer(model)
    if prepared.projection:
        prepared.projection.attach(model, optimizer)
    model, optimizer = run.accelerator.prepare(model, optimizer)
    image_decoder_optimizer = torch.optim.AdamW(autoencoder.decoder.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
    image_decoder_optimizer = run.accelerator.prepare(image_decoder_optimizer)
    run.register_for_checkpointing("ema", ema)
    run.register_for_checkpointing("autoencoder", autoencoder)
    try:
        run.resume()
    except ValueError as error:
        raise UserError(
            f"What is saved in {run.output} was begun with other weights learning ({error}). Start it anew, in another "
            "--output."
        ) from error
    share = IMAGE_DECODER_SHARE if image_decoder_learns else 0.0
    highest = settings.learning_rate * (1.0 if prepared.projection else UNSPARED)
    control.report(state="running", message=f"{learning / 1e6:.1f} million of its numbers learn")

    watch = _Watch(run, learner, prepared.watched, run.config.seed)
    watch.draw(run.step)
    for step in run.steps():
        rng = np.random.default_rng((run.config.seed, step))
        if run.progress < share:
            loss = _image_decoder_loss(autoencoder, pipe.autoencoder, cnn, prepared, run, rng)
            run.accelerator.backward(loss)
            rate = image_decoder_rate(settings.image_decoder_learning_rate, run.progress / share)
            step_with_rate([image_decoder_optimizer], rate)
            run.log({"decoder": loss, "paired": float("nan")})
        else:
            loss = _generator_loss(model, prepared, run, settings, pipe.generator.config.noise_channels, rng)
            run.accelerator.backward(loss)
            run.accelerator.clip_grad_norm_(model.parameters(), 1.0)
            done = (run.progress - share) / (1 - share)
            step_with_rate([optimizer], finetuning_rate(highest, done))
            ema.update(model, run.config.batch_size)
            run.log({"decoder": float("nan"), "paired": loss})
        if watch.is_due():
            watch.draw(step + 1)
    _measure_mean_style(ema.model.generator)
    watch.draw(run.step)
    control.report(message="Writing the checkpoint")
    folder = _save(run, settings, base, learner, data)
    state = "stopped" if run.stopped else "done" if run.progress >= 1 else "paused"
    control.report(state=state, message="", eta_seconds=None if state == "paused" else 0)
    if state == "done":
        _give_back_disk(run.output)
    return folder


def _prepare(run: Run, settings: FinetuneSettings, base: Path, pipe, cnn: PyramidCNN, data) -> FinetuneData:
    """Look at everything once through the frozen networks."""
    work = run.output / "cache"
    check_abort = run.control.check_abort
    images = pack_images(data, pipe.image_size, work, check_abort)
    varied = write_variants(images, run.config.seed, check_abort)
    rounds = variants_each(len(data))
    labels = [text or f"picture {index}" for index, text in enumerate(data["text"])]
    # Varied copies are looked at, never drawn: for one caption there is one right answer, so that nothing blurs.
    concepts = labels + [f"copy {index}" for index in range((rounds - 1) * len(data))]
    rows = data.select(list(range(len(data))) * rounds).remove_columns("concept").add_column("concept", concepts)
    networks = pipe.text_encoder, pipe.tokenizer, cnn, pipe.autoencoder
    cache = build_cache(rows, varied, *networks, work, run.device, check_abort)
    sampler = Sampler(
        cache, labels * rounds, rows["style"], concepts, len(data), sample_kinds(settings.preset), run.device
    )
    memory, index = pipe.memory, None
    if pipe.generator.memory_reader is not None:
        slots = pipe.generator.config.memory_slots
        memory, index = grow_memory(pipe.memory, data, cache, pipe.autoencoder, pipe.text_encoder, slots)
        memory, index = memory and memory.to(run.device), index and index.to(run.device)
    captions = read_captions(base)
    prior = projection = None
    if settings.prior > 0 and captions:

        def on_part(share: float) -> None:
            check_abort()
            run.control.report(message=f"Reading what the base model knows, so that it is kept: {share:.0%}")

        on_part(0.0)
        prior, projection = prepare_prior(pipe, captions, settings.preset, on_part)
    elif settings.prior > 0:
        print(f"Note: {base} brings no captions.txt, so nothing keeps it from forgetting what it knows.")
    watched = settings.prompts or list(dict.fromkeys(text for text in data["text"] if text))[:4]
    return FinetuneData(cache, sampler, memory, index, prior, projection, varied, watched or [""])


@torch.inference_mode()
def reconstruction(autoencoder: ImageAutoencoder, images: np.ndarray, device: torch.device, most: int = 32) -> float:
    """Mean PSNR in dB of what the autoencoder makes of up to `most` pictures uint8 [N, 4, S, S]."""
    chosen = np.unique(np.linspace(0, len(images) - 1, most).astype(int))
    pixels = [from_uint8(torch.from_numpy(images[i].copy()))[None].to(device) for i in chosen]
    return float(np.mean([psnr(autoencoder.decode(autoencoder.encode(x)), x).item() for x in pixels]))


def _generator_loss(
    model, prepared: FinetuneData, run: Run, settings: FinetuneSettings, noise_channels: int, rng
) -> torch.Tensor:
    """On the person's pairs, and on the base's drawings with their share of the batch."""
    kept = (
        min(run.config.batch_size - 1, max(1, round(settings.prior * run.config.batch_size))) if prepared.prior else 0
    )
    generator = torch.Generator(run.device).manual_seed(run.step_seed)
    samples = prepared.sampler.draw(run.config.batch_size - kept, generator)
    batch = make_batch(prepared.cache, samples, noise_channels, generator, prepared.index)
    z, condition, remembered, own = batch.z, batch.condition, batch.remembered, len(batch)
    recalled = prepared.prior.draw(kept, rng) if kept else None
    if recalled:
        z, condition, remembered = mix(batch, recalled)
    with run.accelerator.autocast():
        latents = model(z, condition, remembered).float()
    loss = latent_l1_loss(latents[:own], batch.latents, batch.latent_weight)
    if recalled:
        loss = (own * loss + kept * prior_preservation_loss(latents[own:], recalled.latents.to(run.device))) / len(z)
    return loss


def _image_decoder_loss(autoencoder, original, cnn, prepared: FinetuneData, run: Run, rng) -> torch.Tensor:
    """On crops of the pictures as in `mmgen.training.autoencoder`; on the base's drawings it stays itself."""
    crop = min(128, prepared.images.shape[-1])
    pixels = augment_colours(random_crops([prepared.images], 12, crop).to(run.device))
    with torch.no_grad(), run.accelerator.autocast():
        latents = autoencoder.raw_encode(pixels.contiguous(memory_format=torch.channels_last)).float()
    wanted = pixels
    if prepared.prior:
        known = prepared.prior.draw(4, rng).latents.to(run.device)
        size = latents.shape[-1]
        top, left = (int(rng.integers(known.shape[-1] - size + 1)) for _ in range(2))
        known = known[:, :, top : top + size, left : left + size] * autoencoder.scale + autoencoder.shift
        with torch.no_grad(), run.accelerator.autocast():
            kept = original.decoder(known).float()
        latents, wanted = torch.cat([latents, known]), torch.cat([pixels, kept])
    with run.accelerator.autocast():
        restored = autoencoder.decoder(latents.contiguous(memory_format=torch.channels_last)).float()
    ground = torch.rand(6, 3, 1, 1, device=run.device) * 2 - 1
    features = feature_distance(cnn, composite(restored[:6], ground), composite(wanted[:6], ground))
    return F.l1_loss(restored, wanted) + 2 * F.mse_loss(restored, wanted) + 0.1 * features


@torch.no_grad()
def _measure_mean_style(generator, noises: int = 4096) -> None:
    """Truncation draws towards the mean style; here it is measured again, as the mapping may have learned."""
    mapping = generator.mapping
    z = torch.randn(noises, generator.config.noise_channels, generator=torch.Generator().manual_seed(0))
    mapping.mean.copy_(mapping.layers(z.to(mapping.mean.device)).mean(0))


def _forget_a_false_start(folder: Path) -> None:
    """Clear away what a run left that ended before anything was saved."""
    if not saved_states(folder):
        shutil.rmtree(folder / "samples", ignore_errors=True)
        (folder / "log.csv").unlink(missing_ok=True)


def _give_back_disk(folder: Path) -> None:
    for path in (folder / "cache", *saved_states(folder)):
        shutil.rmtree(path, ignore_errors=True)


class _Watch:
    """Samples at fixed prompts and seeds, every few seconds."""

    def __init__(self, run: Run, learner: MultimodalGANPipeline, prompts: list[str], seed: int):
        self.run, self.learner, self.prompts, self.seed = run, learner, prompts, seed
        self.last = self.cost = 0.0

    def is_due(self) -> bool:
        """Every `sample_seconds`, but never more than a twentieth of the time."""
        return self.run.seconds - self.last >= max(self.run.config.sample_seconds, 20 * self.cost)

    def draw(self, steps: int) -> None:
        """One sheet of all prompts, after so many steps."""
        start = time.monotonic()
        images = [self.learner(prompt, seed=self.seed).images[0] for prompt in self.prompts]
        self.run.sample(grid(images, columns=min(2, len(images)), cell=256), steps)
        self.cost, self.last = time.monotonic() - start, self.run.seconds


def _save(run: Run, settings: FinetuneSettings, base: Path, learner: MultimodalGANPipeline, data) -> Path:
    folder = save_path(run.output)
    captions = [text for text in dict.fromkeys(data["text"]) if text]
    own = set(captions)
    known = [[caption for caption in group if caption not in own] for group in read_captions(base)]
    facts = {
        "base": name_of(base),
        "pictures": len(data),
        "preset": settings.preset,
        "steps": run.step,
        "images": run.images,
        "seconds": round(run.seconds, 1),
    }
    groups = [group for group in (captions, *known) if group]
    save_checkpoint(folder, learner, groups, facts, run.output / "log.csv")
    return folder
