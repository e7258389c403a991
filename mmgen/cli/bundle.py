"""`python -m mmgen bundle` and `unbundle`: take a training to a machine without a network, and bring it home."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path


def add_parser(commands) -> None:
    from mmgen.cli.options import number

    parser = commands.add_parser(
        "bundle",
        help="pack a training for a machine without a network",
        description="Pack code, data, frozen networks, a base's weights and wheels into OUTPUT/part-1 and so on, for "
        "a machine with PyTorch, transformers and accelerate. There `sh part-1/run.sh` keeps a part, and `sh "
        "part-N/run.sh SECONDS`, of the last, trains and writes the result into $OUT, every two minutes, too.",
    )
    parser.add_argument("--data", type=Path, action="append", help="may be repeated (default data/emoji)")
    parser.add_argument("--base", type=Path, help="a checkpoint to go on from; its encoders and autoencoder are packed")
    parser.add_argument("--encoders", type=Path, help="(default: those of --base, else runs/encoders)")
    parser.add_argument("--autoencoder", type=Path, help="(default: that of --base)")
    parser.add_argument("--from-scratch", action="store_true", help="leave the base's fusion and generator away")
    parser.add_argument("--max-mib", type=number(float, 0.1), default=60, help="of a part (default 60)")
    parser.add_argument("--output", type=Path, default=Path("runs/bundle"), help="empty folder (default runs/bundle)")
    wheels = parser.add_mutually_exclusive_group()
    wheels.add_argument("--wheels", type=Path, help="folder of wheels to pack (default: fetched by pip)")
    wheels.add_argument("--no-wheels", action="store_true", help="where all packages are there already")
    parser.add_argument("--python", default="3.12", help="version of Python there (default 3.12)")
    parser.add_argument("--train-options", default="", help='of `train default` there, such as "--width 384"')
    parser.set_defaults(run=run)

    parser = commands.add_parser(
        "unbundle",
        help="make a checkpoint of what came back",
        description="Join the parts of a result with the frozen parts of the checkpoint that was packed.",
    )
    parser.add_argument("parts", type=Path, nargs="+", help="files, or folders that hold them")
    parser.add_argument("--base", type=Path, required=True, help="the checkpoint that was packed")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write")
    parser.add_argument("--data", type=Path, action="append", default=[], help="to make its memory of; may be repeated")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="for decoded pictures and the like")
    parser.set_defaults(run=run_unbundle)


def run(arguments: argparse.Namespace) -> None:
    from mmgen.bundle.pack import BundleRecipe, make_bundle
    from mmgen.errors import UserError

    base = arguments.base
    autoencoder = arguments.autoencoder or (base and base / "autoencoder")
    if autoencoder is None:
        raise UserError("There is no autoencoder to pack. Give --autoencoder, or a --base that has one.")
    recipe = BundleRecipe(
        data=arguments.data or [Path("data/emoji")],
        encoders=arguments.encoders or base or Path("runs/encoders"),
        autoencoder=autoencoder,
        base=None if arguments.from_scratch else base,
        wheels=arguments.wheels,
        no_wheels=arguments.no_wheels,
        python=arguments.python,
        train_options=shlex.split(arguments.train_options),
    )
    folders = make_bundle(recipe, arguments.output, int(arguments.max_mib * 2**20))
    for folder in folders:
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{size / 2**20:7.2f} MiB  {folder}")
    print("There, on one machine, one after the other:")
    for folder in folders[:-1]:
        print(f"  sh {folder.name}/run.sh")
    print(f"  OUT=... sh {folders[-1].name}/run.sh SECONDS")


def run_unbundle(arguments: argparse.Namespace) -> None:
    from mmgen.bundle.result import unbundle

    pipe = unbundle(arguments.parts, arguments.base, arguments.output, arguments.data, arguments.cache)
    entries = len(pipe.memory) if pipe.memory is not None else 0
    print(f"{arguments.output}: a whole checkpoint, with {entries} entries in its memory")
