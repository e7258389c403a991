"""Train a tiny GAN on one rank of several, and keep what this rank ends with; run by torchrun from `test_ranks.py`.

    torchrun ... tests/ranks.py FOLDER BATCH_SIZE

FOLDER/run is the run; FOLDER/rank0.safetensors holds the trained weights, the averaged ones and the pictures drawn.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
from mmgen.training.sampling import Sampler, Samples
from safetensors.torch import save_file
from tiny import tiny_pipeline

from mmgen.models.encoders import PyramidCNN
from mmgen.training.cache import TrainingCache
from mmgen.training.config import GANConfig, RunConfig
from mmgen.training.gan import train_gan

PICTURES = 24


class RecordingSampler(Sampler):
    """A sampler that remembers which pictures it drew."""

    def draw(self, count: int, rng: np.random.Generator) -> Samples:
        samples = super().draw(count, rng)
        self.drawn = [*getattr(self, "drawn", []), samples.picture]
        return samples


def made_up_cache() -> TrainingCache:
    """Numbers of the right shapes for the tiny pipeline, the same on every rank."""
    rng = np.random.default_rng(0)
    captions = [f"thing {number}" for number in range(PICTURES)]
    return TrainingCache(
        latents=rng.standard_normal((PICTURES, 4, 2, 2)).astype(np.float16),
        restored=rng.integers(0, 256, (PICTURES, 4, 64, 64), dtype=np.uint8),
        references=rng.standard_normal((PICTURES, 16, 80)).astype(np.float16),
        words=rng.standard_normal((3 * PICTURES, 32)).astype(np.float16),
        offsets=np.arange(PICTURES + 1) * 3,
        caption_ids=[[number] for number in range(PICTURES)],
        captions=captions,
        codes=rng.standard_normal((PICTURES, 8)).astype(np.float32),
    )


def main(folder: Path, batch_size: int) -> None:
    rank = os.environ.get("RANK", "0")
    pipe = tiny_pipeline(folder / f"parts{rank}")
    cache = made_up_cache()
    styles = ["flat", "round"] * (PICTURES // 2)
    sampler = RecordingSampler(cache, cache.captions, styles, [f"c{number // 2}" for number in range(PICTURES)])
    torch.manual_seed(int(rank))  # What ranks start from must not depend on what they did before.
    average = train_gan(
        RunConfig(str(folder / "run"), 8, batch_size, sample_every=4, log_every=1, log_with="none", precision="no"),
        GANConfig(regression_steps=4, picture_size=64),
        cache,
        sampler,
        pipe.fusion.train().requires_grad_(True),
        pipe.generator.train().requires_grad_(True),
        pipe.autoencoder,
        PyramidCNN(pipe.image_encoder, [0.5] * 3, [0.5] * 3),
    )
    trained = {"fusion": pipe.fusion, "generator": pipe.generator, "average": average}
    values = {f"{part}.{name}": value for part, model in trained.items() for name, value in model.state_dict().items()}
    drawn = torch.from_numpy(np.stack([pictures for pictures in sampler.drawn if len(pictures) == batch_size]))
    assert len(drawn) == 8  # One for each step.
    save_file(
        {name: value.contiguous() for name, value in {**values, "drawn": drawn}.items()},
        folder / f"rank{rank}.safetensors",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
