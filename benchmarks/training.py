"""Where the time of a training step of the GAN goes, beside the machine's peak of matrix products.

    python benchmarks/training.py [--batch-size 64] [--entries 18000] [--steps 3] [--width 256]

Everything has the default model's shapes; images, words and latents are random numbers, as speed does not ask what
they show. Prints milliseconds a step, each part's share, samples a second, and the share of the peak that the products
of the generator and the fusion reach.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmgen.devices import autocast, best_device  # noqa: E402
from mmgen.models.fusion import Fusion  # noqa: E402
from mmgen.models.generator import Generator  # noqa: E402
from mmgen.models.memory import SLOTS, Memory  # noqa: E402
from mmgen.training.common.cache import TrainingCache, caption_keys  # noqa: E402
from mmgen.training.common.optimizers import regression_optimizers, step_with_rate  # noqa: E402
from mmgen.training.gan.batch import make_batch  # noqa: E402
from mmgen.training.gan.losses import latent_l1_loss  # noqa: E402
from mmgen.training.gan.sampler import Sampler  # noqa: E402
from mmgen.training.gan.train import ConditionalGenerator  # noqa: E402
from mmgen.training.memory import index_memory  # noqa: E402

STYLES, WORDS, CHANNELS, GRID, REFERENCE = 8, 12, 384, 16, 768


def random_cache(images: int, generator: torch.Generator) -> tuple[TrainingCache, list[str], list[str]]:
    """A cache of images that are drawn in `STYLES` styles each, with their labels and styles."""
    labels = [f"label {row // STYLES}" for row in range(images)]
    styles = [f"style {row % STYLES}" for row in range(images)]
    captions = [text for row in range(images) for text in (labels[row], f"{labels[row]}, {styles[row]}")]
    offsets = torch.arange(len(captions) + 1) * WORDS
    # Few different words, so that a large cache costs no gigabytes to make.
    words = torch.randn(1000, CHANNELS, generator=generator).half()
    words = words[torch.randint(1000, (len(captions) * WORDS,), generator=generator)]
    some = torch.randn(500, 32, 16, 16, generator=generator).half()
    return (
        TrainingCache(
            latents=some[torch.arange(images) % 500],
            references=torch.randn(500, GRID, REFERENCE, generator=generator).half()[torch.arange(images) % 500],
            words=words,
            offsets=offsets,
            keys=caption_keys(words, offsets),
            codes=torch.randn(images, 8, generator=generator),
            first_caption=torch.arange(images) * 2,
            caption_ids=[[2 * row, 2 * row + 1] for row in range(images)],
            captions=captions,
        ),
        labels,
        styles,
    )


def peak(device: torch.device, seconds: float = 2.0) -> float:
    """Products of matrices in the precision that training uses there, in GFLOP a second."""
    with autocast(device):
        a = torch.randn(2048, 2048, device=device)
        a @ a
        synchronise(device)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            a @ a
            count += 1
            synchronise(device)
    return count * 2 * 2048**3 / (time.perf_counter() - start) / 1e9


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--entries", type=int, default=18_000, help="images, each an entry of the memory")
    parser.add_argument("--steps", type=int, default=3, help="timed, after one that is not")
    parser.add_argument("--width", type=int, default=256)
    asked = parser.parse_args()
    device, generator = best_device(), torch.Generator().manual_seed(0)
    cache, labels, styles = random_cache(asked.entries, generator)
    keys, kept = cache.keys[::2].float(), np.arange(asked.entries)
    memory = Memory.build(
        cache.latents, keys, labels, kept, labels, styles, [("here", "none", "nobody")] * len(labels), "", ""
    )
    index = index_memory(memory, kept, kept, np.asarray(labels, object), np.asarray(styles, object), SLOTS).to(device)
    cache = cache.to(device)
    sampler = Sampler(cache, labels, styles, labels, device=device)
    fusion = Fusion(CHANNELS, REFERENCE, GRID, width=asked.width)
    model = ConditionalGenerator(
        fusion, Generator(32, 16, width=asked.width, memory_slots=SLOTS, memory_channels=CHANNELS, head_channels=128)
    ).to(device)
    optimizers = regression_optimizers(model)
    spent: dict[str, float] = {}

    def timed(part: str, do: Callable):
        synchronise(device)
        start = time.perf_counter()
        result = do()
        synchronise(device)
        spent[part] = spent.get(part, 0.0) + time.perf_counter() - start
        return result

    def forward(batch) -> torch.Tensor:
        with autocast(device):
            drawn = model(batch.z, batch.condition, batch.remembered)
        return latent_l1_loss(drawn.float(), batch.latents, batch.latent_weight)

    products = 0.0
    for step in range(asked.steps + 1):
        if step == 1:
            spent.clear()
        seed = torch.Generator(device).manual_seed(step)
        samples = timed("sample", lambda seed=seed: sampler.draw(asked.batch_size, seed))
        batch = timed("look up and gather", lambda s=samples, g=seed: make_batch(cache, s, 128, g, index))
        if step == 0:
            with FlopCounterMode(display=False) as counter:
                forward(batch).backward()
            products = counter.get_total_flops() / 1e9
        loss = timed("forward", lambda batch=batch: forward(batch))
        timed("backward", loss.backward)
        timed("optimizers", lambda: step_with_rate(optimizers, 1e-3))
    total = sum(spent.values())
    fastest = peak(device)
    print(f"{device.type}, {torch.get_num_threads()} threads, width {asked.width}, batches of {asked.batch_size}")
    for part, seconds in spent.items():
        print(f"{part:24s} {1000 * seconds / asked.steps:9.1f} ms {seconds / total:6.2f} of a step")
    print(f"{'step':24s} {1000 * total / asked.steps:9.1f} ms {asked.batch_size * asked.steps / total:8.1f} samples/s")
    reached = products * asked.steps / (spent["forward"] + spent["backward"])
    print(f"{'products':24s} {products / asked.batch_size:9.2f} GFLOP a sample")
    print(f"{'peak':24s} {fastest:9.1f} GFLOP/s, of which forward and backward reach {reached / fastest:.2f}")


if __name__ == "__main__":
    main()
