"""`python -m mmgen train default`: the whole recipe, in shares of some minutes."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from mmgen.cli.options import number


def add_parser(parts) -> None:
    part = parts.add_parser(
        "default",
        help="all of it, one after the other",
        description="Make a whole checkpoint, OUTPUT/pipeline, in shares of --minutes: the encoders if there are none, "
        "the autoencoder if none is given, the GAN, its image decoder, the captioner and the card. OUTPUT/plan.json "
        "tells what is done. The minutes are those of training; what is prepared before comes on top.",
    )
    part.add_argument(
        "--data", type=Path, action="append", required=True, help="folder, zip or shards; may be repeated"
    )
    part.add_argument("--minutes", type=number(float, 1e-3), required=True, help="of training, all stages together")
    part.add_argument("--output", type=Path, default=Path("runs/default"), help="folder (default runs/default)")
    part.add_argument("--resume", action="store_true", help="go on with what OUTPUT holds")
    part.add_argument("--base", type=Path, help="a checkpoint to go on from, with its encoders and autoencoder")
    part.add_argument("--encoders", type=Path, default=Path("runs/encoders"), help="made there if they are missing")
    part.add_argument("--autoencoder", type=Path, help="folder of a trained one")
    part.add_argument("--cache", type=Path, default=Path("runs/cache"), help="for decoded pictures and the like")
    part.add_argument("--size", type=number(int, 32), default=256, help="side of the pictures (default 256)")
    part.add_argument("--width", type=number(int, 4), default=256, help="of fusion and generator without a base")
    part.add_argument("--depth", type=number(int, 1), default=8, help="blocks of the generator without a base")
    part.add_argument("--batch-size", type=number(int, 1), help="pictures a step (default 64, on a GPU 1024)")
    part.add_argument(
        "--autoencoder-share", type=number(float, 1e-3), default=0.25, help="of the minutes (default 0.25)"
    )
    part.add_argument(
        "--captioner-share", type=number(float, 0), default=0.125, help="of the minutes, 0 for none (default 0.125)"
    )
    part.add_argument("--seed", type=number(int, 0), default=0, help="of everything random (default 0)")
    part.add_argument("--save-minutes", type=number(float, 0), default=5.0, help="between saved states (default 5)")
    part.add_argument(
        "--sample-minutes", type=number(float, 0), default=10.0, help="between sheets and checkpoints (default 10)"
    )
    part.add_argument("--log-with", default="tensorboard", choices=("tensorboard", "wandb", "trackio", "none"))
    part.add_argument(
        "--deadline", type=number(float, 0), help="seconds since 1970 at which the GAN's minutes end at the latest"
    )
    part.add_argument("--gan-options", default="", help='more options of `train gan`, such as "--loss bce"')
    part.add_argument("--captioner-options", default="", help='the same of `train captioner`, such as "--views 1"')
    part.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    import dataclasses

    from mmgen.cli.options import check_alone
    from mmgen.errors import UserError
    from mmgen.training.default import DefaultRecipe, make_default

    check_alone("The whole recipe")
    if arguments.size % 32:
        raise UserError(f"--size is {arguments.size}; give a multiple of 32.")
    asked = {f.name: getattr(arguments, f.name) for f in dataclasses.fields(DefaultRecipe)}
    for name in ("gan_options", "captioner_options"):
        asked[name] = shlex.split(asked[name])
    recipe = DefaultRecipe(**asked)

    def run_command(words) -> None:
        parsed = arguments.build_parser().parse_args(list(words))
        parsed.run(parsed)

    make_default(recipe, run_command, arguments.resume, lambda line: print(line, flush=True))
