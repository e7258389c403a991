"""Train a tiny GAN on one rank of several, and keep what this rank ends with; run by torchrun from `test_ranks.py`.

    torchrun ... tests/ranks.py FOLDER BATCH_SIZE

FOLDER/run is the run; FOLDER/rank0.safetensors holds the trained weights, the averaged ones and the pictures drawn.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny import tiny_pipeline

from mmgen.models.encoders import PyramidCNN
from mmgen.training.common.cache import TrainingCache, caption_keys
from mmgen.training.common.config import GANConfig, RunConfig
from mmgen.training.gan.sampler import Sampler, Samples
from mmgen.training.gan.train import train_gan

IMAGES = 24


class RecordingSampler(Sampler):
    """A sampler that remembers which pictures it drew."""

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        samples = super().draw(count, generator)
        self.drawn = [*getattr(self, "drawn", []), samples.image]
        return samples


def made_up_cache() -> TrainingCache:
    """Numbers of the right shapes for the tiny pipeline, the same on every rank."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    captions = [f"thing {number}" for number in range(IMAGES)]
    words, offsets = random(3 * IMAGES, 32).half(), torch.arange(IMAGES + 1) * 3
    return TrainingCache(
        latents=random(IMAGES, 4, 2, 2).half(),
        references=random(IMAGES, 16, 80).half(),
        words=words,
        offsets=offsets,
        keys=caption_keys(words, offsets),
        codes=random(IMAGES, 8),
        first_caption=torch.arange(IMAGES),
        caption_ids=[[number] for number in range(IMAGES)],
        captions=captions,
    )


def main(folder: Path, batch_size: int) -> None:
    rank = os.environ.get("RANK", "0")
    pipe = tiny_pipeline(folder / f"parts{rank}")
    cache = made_up_cache()
    styles = ["flat", "round"] * (IMAGES // 2)
    sampler = RecordingSampler(cache, cache.captions, styles, [f"c{number // 2}" for number in range(IMAGES)])
    torch.manual_seed(int(rank))  # What ranks start from must not depend on what they did before.
    average = train_gan(
        RunConfig(str(folder / "run"), 8, batch_size, sample_every=4, log_every=1, log_with="none", precision="no"),
        GANConfig(regression_steps=4, image_size=64),
        cache,
        sampler,
        pipe.fusion.train().requires_grad_(True),
        pipe.generator.train().requires_grad_(True),
        pipe.autoencoder,
        PyramidCNN(pipe.image_encoder, [0.5] * 3, [0.5] * 3),
    )
    trained = {"fusion": pipe.fusion, "generator": pipe.generator, "average": average}
    values = {f"{part}.{name}": value for part, model in trained.items() for name, value in model.state_dict().items()}
    drawn = torch.stack([images for images in sampler.drawn if len(images) == batch_size])
    assert len(drawn) == 8  # One for each step.
    save_file(
        {name: value.contiguous() for name, value in {**values, "drawn": drawn}.items()},
        folder / f"rank{rank}.safetensors",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
