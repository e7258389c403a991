"""Where the time of one picture goes: each part's share, and what a reference, more pictures and words cost.

    python benchmarks/latency.py [--checkpoint DIR] [--repeats 20]

Times are medians in one process on this machine; compare the ratios, not the milliseconds of two machines.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from mmgen.checkpoints import default_checkpoint, load_pipeline  # noqa: E402
from mmgen.devices import autocast  # noqa: E402
from mmgen.pipeline import noise  # noqa: E402


def median_ms(function, repeats: int, device: torch.device) -> float:
    """Median time of a call in milliseconds, after two calls to warm up."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[2:])


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=None)
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    pipe = load_pipeline(arguments.checkpoint or default_checkpoint())
    prompt, picture = "a red apple, noto style", Image.new("RGB", (256, 256), "red")
    tokens = pipe.encode_references([picture])
    none = pipe.encode_references([])
    fused = pipe.fuse(prompt, none, [])
    z = noise(1, pipe.generator.config.noise_channels).to(pipe.device)
    with autocast(pipe.device):
        latents = pipe.generator(z, fused)

    def generate() -> None:
        with autocast(pipe.device):
            pipe.generator(z, fused)

    def decode() -> None:
        with autocast(pipe.device):
            pipe.autoencoder.decode(latents.float())

    def anew(function):
        """A call that finds nothing kept of the words and references that were read before."""

        def call() -> None:
            pipe.embeddings.clear()
            function()

        return call

    rows = {
        "one picture from words": anew(lambda: pipe(prompt, seed=1)),
        "  words and fusion": anew(lambda: pipe.fuse(prompt, none, [])),
        "  generator": generate,
        "  image decoder": decode,
        "one reference read": lambda: pipe.encode_references([picture]),
        "words, and fusion with the reference": anew(lambda: pipe.fuse(prompt, tokens, [1.0])),
        "one picture from words and a reference": anew(lambda: pipe(prompt, references=[picture], seed=1)),
        "the same with another seed": lambda: pipe(prompt, references=[picture], seed=2),
        "four pictures from words": anew(lambda: pipe(prompt, seed=1, num_images=4)),
    }
    if pipe.captioner:
        twenty = [picture] * 20
        rows["twenty pictures described"] = lambda: pipe.describe(twenty, num_captions=1)
    print(f"{pipe.device}, {torch.get_num_threads()} threads, {pipe.image_size} px")
    whole = None
    for name, function in rows.items():
        repeats = arguments.repeats if "twenty" not in name else max(1, arguments.repeats // 10)
        spent = median_ms(function, repeats, pipe.device)
        whole = whole or spent
        print(f"{name:42s} {spent:8.1f} ms   {spent / whole:5.2f} of one picture")


if __name__ == "__main__":
    main()
