"""Train the image autoencoder on crops: L1 in premultiplied RGBA and in the frozen CNN's features."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mmgen.evaluation.sheets import grid
from mmgen.images import composite, from_uint8, psnr, to_pil
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.encoders import PyramidCNN
from mmgen.training.common.augment import augment_colours, random_crops
from mmgen.training.common.config import AutoencoderConfig, RunConfig
from mmgen.training.common.ema import Ema
from mmgen.training.common.optimizers import step_with_rate
from mmgen.training.common.run import Run


def train_autoencoder(
    run_config: RunConfig,
    config: AutoencoderConfig,
    images: list[np.ndarray],
    cnn: PyramidCNN,
    model: ImageAutoencoder,
    recipe: dict[str, object] | None = None,
) -> ImageAutoencoder:
    """Train and return the averaged autoencoder, and save it to `output/autoencoder`.

    Args:
        images: packed arrays uint8 [N, 4, H, W], premultiplied; one array is drawn with its share of all images.
            The latents are normalised over the first, the data that the generator will learn.
        recipe: what else was asked for, kept in the run's config.json.
    """
    run = Run(run_config, {**asdict(config), **(recipe or {})})
    model.to(run.device, memory_format=torch.channels_last)
    cnn.to(run.device)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=1e-4,
        fused=run.device.type == "cuda",
    )
    trained, optimizer = run.accelerator.prepare(model, optimizer)
    ema = Ema(model)
    run.register_for_checkpointing("ema", ema)
    run.resume()
    fixed = _fixed_images(images).to(run.device)
    for _ in run.steps():
        pixels = augment_colours(random_crops(images, run_config.batch_size, config.crop).to(run.device))
        with run.accelerator.autocast():
            restored = trained(pixels.contiguous(memory_format=torch.channels_last), noise=config.noise).float()
        pixel_loss = F.l1_loss(restored, pixels)
        square_loss = F.mse_loss(restored, pixels)
        half = slice(0, max(1, len(pixels) // 2))  # The frozen CNN costs more than the autoencoder itself.
        ground = torch.rand(len(pixels[half]), 3, 1, 1, device=run.device) * 2 - 1
        feature_loss = feature_distance(cnn, composite(restored[half], ground), composite(pixels[half], ground))
        loss = pixel_loss + config.square_weight * square_loss + config.feature_weight * feature_loss
        run.accelerator.backward(loss)
        run.accelerator.clip_grad_norm_(trained.parameters(), 1.0)
        step_with_rate([optimizer], run.learning_rate(config.learning_rate))
        ema.update(model, len(pixels) * run.accelerator.num_processes)
        run.log({"l1": pixel_loss, "features": feature_loss, "psnr": psnr(restored.detach(), pixels).mean()})
        if run.due(run_config.sample_every):
            with torch.no_grad():
                restored = ema.model(fixed)
            run.sample(grid([*to_pil(fixed), *to_pil(restored)], columns=len(fixed)))
    result = ema.model
    result.set_normalisation(_some_latents(result, images, run.device))
    if run.is_main:
        result.save_pretrained(Path(run_config.output) / "autoencoder")
    return result


def feature_distance(cnn: PyramidCNN, ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Mean relative L1 between features at strides 4, 8 and 16 of RGB images [N, 3, H, W] in [-1, 1]."""
    with torch.no_grad():
        wanted = cnn(theirs)[:3]
    got = cnn(ours)[:3]
    return sum(F.l1_loss(g, w) / w.abs().mean().clamp_min(1e-6) for g, w in zip(got, wanted, strict=True)) / 3


def _fixed_images(images: list[np.ndarray], count: int = 8) -> torch.Tensor:
    share = max(1, count // len(images))
    chosen = [array[i] for array in images for i in np.linspace(0, len(array) - 1, share).astype(int)]
    return from_uint8(torch.from_numpy(np.stack(chosen)))


@torch.no_grad()
def _some_latents(model: ImageAutoencoder, images: list[np.ndarray], device: torch.device) -> torch.Tensor:
    """Raw latents of up to 512 evenly spread images of the first array, the data that the generator will learn."""
    array = images[0]
    chosen = np.unique(np.linspace(0, len(array) - 1, 512).astype(int))
    batches = np.array_split(chosen, max(1, len(chosen) // 16))
    return torch.cat([model.raw_encode(from_uint8(torch.from_numpy(array[b])).to(device)).cpu() for b in batches])
