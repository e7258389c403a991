"""lightweight-gan in a process of its own: its networks, losses, trainer and published defaults, for a given time.

    python benchmarks/opponent.py --packages DIR --recipe cli --pictures DIR --size 128 --until SECONDS --draw 1000
        --output DIR

Trained is the package's own `Trainer`, with the settings that it has where nothing is asked of it. On a GPU it runs
as published. On a CPU, which it refuses, the same code runs with its moves to CUDA left out. Beside the pictures drawn
at the end and `seen.json` it saves its own states, to which it goes back when a loss is no number; they count in its
time. Its sample sheets, which cost it time, are left out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# The script beside this one has the package's name.
sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != FOLDER] + [str(FOLDER.parent)]

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from mmgen.errors import UserError  # noqa: E402

VERSION = "1.2.1"
REQUIREMENTS = (
    "torchvision==0.28.0",
    f"lightweight-gan=={VERSION}",
    "adabelief-pytorch==0.2.1",
    "einops==0.8.2",
    "kornia==0.9.0",
    "kornia_rs==0.2.0",
    "colorama==0.4.6",
    "tabulate==0.10.0",
)
RECIPES = {
    "cli": {
        "batch_size": 10,
        "gradient_accumulate_every": 4,
        "attn_res_layers": [32],
        "disc_output_size": 1,
        "aug_types": ["cutout", "translation"],
    },
    "trainer": {
        "batch_size": 4,
        "gradient_accumulate_every": 1,
        "attn_res_layers": [],
        "disc_output_size": 5,
        "aug_types": ["translation", "cutout"],
    },
}
"""Its published defaults, which are two: those of its command line (`lightweight_gan/cli.py`) and those of `Trainer`.

All others are the same in both. On two CPU cores an update of `cli` takes minutes, one of `trainer` seconds.
"""

AVERAGED_FROM = 20_000  # The update after which its moving average begins; before it holds an old copy.
TRIES = 3  # What its command line gives an update that came to no number.


def load_package(packages: Path):
    """The module `lightweight_gan.lightweight_gan`, able to run on this machine.

    Args:
        packages: folder of `pip install --target`; looked in first where there is one.

    Raises:
        UserError: the package is missing or of another version.
    """
    if packages.is_dir():
        sys.path.insert(0, str(packages))
    cuda = torch.cuda.is_available()
    try:
        _import_torchvision()
        torch.cuda.is_available = lambda: True  # Asserted when it is imported.
        from lightweight_gan import lightweight_gan as package
        from lightweight_gan.version import __version__ as version
    except ImportError as error:
        raise UserError(f"{error.name or 'lightweight-gan'} is not installed. {_how_to_install(packages)}") from error
    finally:
        torch.cuda.is_available = lambda: cuda
    if version != VERSION:
        raise UserError(f"This is lightweight-gan {version}, not {VERSION}. {_how_to_install(packages)}")
    if not cuda:
        _stay_on_cpu(package)
    return package


def _how_to_install(packages: Path) -> str:
    return (
        f"Run: python -m pip install --no-deps --target {packages} {' '.join(REQUIREMENTS)} (into a folder of its own, "
        "as transformers would find this torchvision and fail on it)."
    )


def _import_torchvision() -> None:
    """Import torchvision; where its compiled operators do not load, declare those that it asks for, used by none."""
    declared = torch.library.Library("torchvision", "FRAGMENT")
    while True:
        try:
            import torchvision  # noqa: F401

            return
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if not missing:
                raise
            declared.define(f"{missing[1]}() -> ()")
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]


def _stay_on_cpu(package) -> None:
    """Leave out the package's moves to CUDA, in this process."""

    class Torch:
        def __getattr__(self, name: str):
            return getattr(torch, name)

        def device(self, name: str) -> torch.device:
            return torch.device("cpu")

    package.torch = Torch()
    package.autocast = lambda kind: torch.autocast("cpu", torch.bfloat16)  # Its float16 is for GPUs.
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *place: self


def train(package, recipe: str, pictures: Path, size: int, amp: bool, until: float, folder: Path):
    """Train with `Trainer.train` until `time.time()` reaches `until`, at least one update.

    Returns:
        The trainer and the number of updates.
    """
    torch.manual_seed(42)
    trainer = package.Trainer(
        base_dir=folder, image_size=size, transparent=True, amp=amp, use_aim=False, **RECIPES[recipe]
    )
    trainer.evaluate = lambda *asked, **more: None
    trainer.set_data_src(pictures)
    updates = failed = 0
    while not updates or time.time() < until:
        try:
            trainer.train()
            updates, failed = updates + 1, 0
        except package.NanException:
            failed += 1
            if failed == TRIES:
                raise
        if updates % 10 == 0:
            trainer.print_log()
    return trainer, updates


@torch.inference_mode()
def draw(trainer, updates: int, count: int, folder: Path) -> None:
    """Draw `count` RGBA pictures into `folder`, as the trainer does: of the average, once that has begun."""
    torch.manual_seed(1)
    folder.mkdir()
    gan = trainer.GAN.eval()
    network = gan.GE if updates > AVERAGED_FROM else gan.G
    device = next(network.parameters()).device
    for start in range(0, count, trainer.batch_size):
        latents = torch.randn(min(trainer.batch_size, count - start), gan.latent_dim, device=device)
        pixels = trainer.generate_(network, latents).mul(255).round().byte().cpu().permute(0, 2, 3, 1).numpy()
        for index, picture in enumerate(pixels):
            Image.fromarray(picture, "RGBA").save(folder / f"{start + index:05d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True, help="folder of `pip install --target`")
    parser.add_argument("--recipe", choices=RECIPES, required=True, help="which of its published defaults")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of RGBA PNG files")
    parser.add_argument("--size", type=int, required=True, help="side of the pictures, a power of two")
    parser.add_argument("--until", type=float, required=True, help="when to stop training, in seconds of time.time()")
    parser.add_argument("--draw", type=int, required=True, help="pictures to draw at the end")
    parser.add_argument("--amp", action="store_true", help="its mixed precision, on a CPU in bfloat16")
    parser.add_argument("--output", type=Path, required=True, help="new folder for the pictures and seen.json")
    arguments = parser.parse_args()
    try:
        package = load_package(arguments.packages)
    except UserError as error:
        sys.exit(str(error))
    asked = arguments.recipe, arguments.pictures, arguments.size, arguments.amp, arguments.until, arguments.output
    trainer, updates = train(package, *asked)
    ended = time.time()
    draw(trainer, updates, arguments.draw, arguments.output / "drawn")
    images = updates * trainer.batch_size * trainer.gradient_accumulate_every
    (arguments.output / "seen.json").write_text(json.dumps({"updates": updates, "images": images, "ended": ended}))


if __name__ == "__main__":
    main()
