"""One picture, eight, sixty-four: mmgen beside the generators of other GANs and beside one step of a diffusion model.

    python benchmarks/inference.py [--checkpoint DIR] [--packages DIR] [--batches 1 8 64] [--rounds 5] [--json FILE]
    python benchmarks/inference.py --compare BASE

All have random weights but mmgen, all draw pictures of the same size, and all take turns within one process. Of each it
prints the median of the rounds, per picture, its ratio to mmgen with a new prompt, the products of matrices and
convolutions that it computes, and the share of this machine's peak that it reaches in them. What is not installed is
left out and named. `--compare` draws with the code of a git revision beside this one, in two processes that take turns.

The generators are those of lightweight-gan, stylegan2-pytorch and gigagan-pytorch with their defaults, without their
training; the diffusion model is the UNet of SD-Turbo (its configuration, one step, with a prompt of 77 tokens that is
already encoded) and the decoder of its VAE.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
# The script lightweight_gan.py beside this one has the package's name.
sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != FOLDER]

OURS = "mmgen, a new prompt"
PACKAGES = (
    *("torchvision==0.28.0", "einops==0.8.2", "kornia==0.9.0", "kornia_rs==0.2.0"),
    *("lightweight-gan==1.2.1", "adabelief-pytorch==0.2.1", "colorama==0.4.6", "tabulate==0.10.0"),
    *("stylegan2-pytorch==1.9.0", "vector-quantize-pytorch==0.1.0"),
    *("gigagan-pytorch==0.3.0", "ema-pytorch", "beartype", "numerize"),
)
NOT_FOR_DRAWING = ("aim", "fire", "open_clip", "contrastive_learner")
"""Modules that these packages import and their generators do not use: an empty one serves where there is none."""

SD_TURBO_UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SD_TURBO_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
}


class Contestant:
    """One that draws.

    Attributes:
        draw: draws as many pictures as it is told.
        weights: bytes of its parameters and buffers.
        most: the largest batch that it is asked for.
    """

    def __init__(self, draw: Callable[[int], object], modules: list, most: int = 64):
        self.draw, self.most = draw, most
        tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
        self.weights = sum(t.numel() * t.element_size() for t in tensors)


def ours(checkpoint: Path | None) -> tuple[dict[str, Contestant], int]:
    """mmgen with a prompt that changes, with its seed alone changed, and both without its memory; and the size."""
    import torch

    from mmgen.checkpoints import default_checkpoint, load_pipeline

    pipe = load_pipeline(checkpoint or default_checkpoint())
    modules = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    things = ("apple", "cat", "dog", "star", "house", "tree", "boat", "bird")
    asked = iter(range(10**9))

    def new_prompts(count: int, **options) -> None:
        for _ in range(count):
            number = next(asked)
            pipe(f"a {things[number % 8]} with number {number}, noto style", seed=1, output_type="pt", **options)

    def new_seeds(count: int, **options) -> None:
        pipe("a red apple, noto style", seed=next(asked), num_images=count, output_type="pt", **options)

    rows = {OURS: new_prompts, "mmgen, a new seed": new_seeds}
    if pipe.has_memory:
        rows["mmgen, a new prompt, no memory"] = lambda count: new_prompts(count, memory_weight=0)
        rows["mmgen, a new seed, no memory"] = lambda count: new_seeds(count, memory_weight=0)
    return {name: Contestant(draw, modules) for name, draw in rows.items()}, pipe.image_size


@contextmanager
def importable() -> Iterator[None]:
    """Some of these packages assert CUDA when they are imported, and import what only their training needs."""
    import torch

    for name in NOT_FOR_DRAWING:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            sys.modules[name] = ModuleType(name)
    there = torch.cuda.is_available
    torch.cuda.is_available = lambda: True
    try:
        yield
    finally:
        torch.cuda.is_available = there


def lightweight_gan(size: int, device) -> Contestant:
    """lightweight-gan's generator with transparency, and attention as its command line has it."""
    import torch
    from lightweight_gan.lightweight_gan import Generator

    model = Generator(image_size=size, latent_dim=256, transparent=True, attn_res_layers=[32]).to(device).eval()
    return Contestant(lambda count: model(torch.randn(count, 256, device=device)), [model])


def stylegan2(size: int, device) -> Contestant:
    """stylegan2-pytorch's mapping and generator with transparency."""
    import torch
    from stylegan2_pytorch.stylegan2_pytorch import Generator, StyleVectorizer

    mapping = StyleVectorizer(512, 8, lr_mul=0.1).to(device).eval()
    model = Generator(size, 512, network_capacity=16, transparent=True).to(device).eval()

    def draw(count: int) -> None:
        styles = mapping(torch.randn(count, 512, device=device))[:, None].expand(-1, model.num_layers, -1)
        model(styles, torch.rand(count, size, size, 1, device=device))

    return Contestant(draw, [mapping, model], most=8)


def gigagan(size: int, device) -> Contestant:
    """gigagan-pytorch's generator without words, as its README makes it."""
    import torch
    from gigagan_pytorch import Generator

    style = {"dim": 64, "depth": 4}
    options = {"dim_capacity": 8, "dim_max": 512, "num_skip_layers_excite": 4, "unconditional": True}
    model = Generator(image_size=size, style_network=style, **options).to(device).eval()
    return Contestant(lambda count: model(noise=torch.randn(count, 64, device=device)), [model], most=8)


def diffusion(size: int, device) -> Contestant:
    """One step of SD-Turbo's UNet, and its VAE's decoder."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**SD_TURBO_UNET), AutoencoderKL(**SD_TURBO_VAE)
    for model in (unet, vae):
        model.to_empty(device=device).eval().requires_grad_(False)
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(0.001)  # A gigabyte of random numbers would take longer than the drawing.

    def draw(count: int) -> None:
        latents = torch.randn(count, 4, size // 8, size // 8, device=device)
        words = torch.randn(count, 77, 1024, device=device)
        vae.decode(unet(latents, 999, words).sample)

    return Contestant(draw, [unet, vae.decoder, vae.post_quant_conv], most=1)


PEERS = {
    "SD-Turbo's UNet and VAE": diffusion,
    "lightweight-gan": lightweight_gan,
    "stylegan2-pytorch": stylegan2,
    "gigagan-pytorch": gigagan,
}


def others(packages: Path | None, names: list[str] | None, size: int, device) -> dict[str, Contestant]:
    """The peers of these names, or all, that can be imported; of the rest says why not."""
    sys.path.append(str(FOLDER))
    from opponent import _import_torchvision  # Which takes the folder out of the path again.

    found = {}
    for name, make in PEERS.items():
        if names is not None and name not in names:
            continue
        if make is diffusion:  # Before torchvision, which transformers would find and fail on.
            found[name] = make(size, device)
            continue
        if packages and str(packages) not in sys.path:
            sys.path.append(str(packages))
        try:
            _import_torchvision()
            with importable():
                found[name] = make(size, device)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            print(f"  pip install --no-deps --target DIR {' '.join(PACKAGES)}; --packages DIR", file=sys.stderr)
    return found


def peak(device, seconds: float = 1.0) -> float:
    """Products of matrices of float32, or of bfloat16 where mmgen draws in it, in GFLOP a second: the best of ten."""
    import torch

    from mmgen.devices import autocast

    with autocast(device):
        a = torch.randn(1536, 1536, device=device)
        best = 0.0
        for _ in range(10):
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < seconds / 10:
                a @ a
                count += 1
                synchronise(device)
            best = max(best, count * 2 * 1536**3 / (time.perf_counter() - start) / 1e9)
    return best


def synchronise(device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(arguments: argparse.Namespace) -> list[dict]:
    """Let all draw in turns.

    Returns:
        A row for each contestant and batch: `name`, `batch`, the median `seconds` and the `fastest` of a picture, its
        `gflop`, the `share` of the peak, and the `megabytes` of its weights.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mmgen.devices import best_device, prepare_to_draw

    prepare_to_draw()
    device = best_device()
    rows, size = ours(arguments.checkpoint)
    rows |= others(arguments.packages, arguments.beside, size, device)
    limit = peak(device)
    print(f"{device.type}, {torch.get_num_threads()} threads, {size} px, peak {limit:.0f} GFLOP/s")
    result = []
    for batch in arguments.batches:
        those = {name: one for name, one in rows.items() if batch <= one.most}
        spent: dict[str, list[float]] = {name: [] for name in those}
        for number in range(arguments.rounds + 1):
            for name, one in those.items():
                start = time.perf_counter()
                one.draw(batch)
                synchronise(device)
                if number:  # The first is to warm up.
                    spent[name].append((time.perf_counter() - start) / batch)
        for name, one in those.items():
            with FlopCounterMode(display=False) as counter:
                one.draw(1)
            gflop, median = counter.get_total_flops() / 1e9, statistics.median(spent[name])
            result.append(
                {
                    "name": name,
                    "batch": batch,
                    "seconds": median,
                    "fastest": min(spent[name]),
                    "gflop": gflop,
                    "share": gflop / median / limit,
                    "megabytes": one.weights / 1e6,
                }
            )
    return result


def show(result: list[dict]) -> None:
    """Print the rows, batch by batch."""
    print(f"{'':32s} batch  ms a picture   fastest   ratio    GFLOP  share   weights")
    for row in result:
        one = next(other["seconds"] for other in result if other["name"] == OURS and other["batch"] == row["batch"])
        print(
            f"{row['name']:32s} {row['batch']:5d} {1000 * row['seconds']:13.1f} {1000 * row['fastest']:9.1f} "
            f"{row['seconds'] / one:7.2f} {row['gflop']:8.2f} {row['share']:6.2f} {row['megabytes']:6.0f} MB"
        )


def answer(arguments: argparse.Namespace) -> None:
    """For `compare`: whenever a line comes in, draw once with each of ours and print the seconds as JSON."""
    import torch

    with torch.inference_mode():
        rows, _ = ours(arguments.checkpoint)
        print(json.dumps(list(rows)), flush=True)
        for _ in sys.stdin:
            times = {}
            for name, one in rows.items():
                start = time.perf_counter()
                one.draw(1)
                times[name] = time.perf_counter() - start
            print(json.dumps(times), flush=True)


def compare(arguments: argparse.Namespace) -> None:
    """The code of a git revision and this one in two processes that draw in turns."""
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            ["git", "-C", str(ROOT), "archive", arguments.compare, "mmgen"], check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
        from mmgen.checkpoints import default_checkpoint

        checkpoint = str(arguments.checkpoint or default_checkpoint())
        asked = [sys.executable, __file__, "--answer", "--checkpoint", checkpoint, "--root"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        children = [subprocess.Popen([*asked, str(root)], **pipes) for root in (folder, ROOT)]
        try:
            names = [json.loads(child.stdout.readline()) for child in children][1]
            spent: list[list[dict]] = [[], []]
            for number in range(arguments.rounds + 1):
                for child, rounds in zip(children, spent, strict=True):
                    child.stdin.write("draw\n")
                    child.stdin.flush()
                    times = json.loads(child.stdout.readline())
                    if number:
                        rounds.append(times)
        finally:
            for child in children:
                child.stdin.close()
                child.wait()
    print(f"{'':32s} {arguments.compare[:12]:>12s} {'here':>9s} ms   median ratio of the pairs")
    for name in names:
        before, after = ([times[name] for times in rounds] for rounds in spent)
        ratio = statistics.median(new / old for old, new in zip(before, after, strict=True))
        medians = 1000 * statistics.median(before), 1000 * statistics.median(after)
        print(f"{name:32s} {medians[0]:12.1f} {medians[1]:9.1f}      {ratio:5.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="mmgen's model (default: the one that the page opens)")
    parser.add_argument("--packages", type=Path, help="folder of `pip install --target` with the other generators")
    parser.add_argument("--beside", nargs="*", choices=PEERS, help="which of them (default: all)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    parser.add_argument("--compare", metavar="BASE", help="a git revision to draw beside")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.root))
    if arguments.answer:
        answer(arguments)
    elif arguments.compare:
        compare(arguments)
    else:
        import torch

        with torch.inference_mode():
            result = measure(arguments)
        show(result)
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
