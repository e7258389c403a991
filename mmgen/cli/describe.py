"""`python -m mmgen describe`: pictures back into words."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmgen.errors import UserError


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "describe", help="say what pictures show", description="Read pictures back into words, the likeliest first."
    )
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="a picture file")
    parser.add_argument("--captions", type=int, default=3, help="of each picture, 1 to 16 (default 3)")
    parser.add_argument(
        "--checkpoint",
        help="model folder, or user/name[@revision] on the Hugging Face Hub (default: the one in checkpoints/)",
    )
    parser.add_argument("--device", help="cpu, cuda, ... (default: the GPU where there is one)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from mmgen.checkpoints import default_checkpoint, load_pipeline
    from mmgen.images import open_image

    pipe = load_pipeline(arguments.checkpoint or default_checkpoint(), arguments.device)
    unread = 0
    for path in arguments.pictures:
        try:
            image = open_image(path)
        except UserError as error:
            if len(arguments.pictures) == 1:
                raise
            unread += 1
            print(f"{path}\n  {error}")
            continue
        captions = pipe.describe(image, arguments.captions)[0]
        print(path)
        for caption in captions:
            print(f"  {caption.probability:.3f}  {caption.text}")
        if not captions:
            print("  nothing to say: it is transparent all over")
    if unread:
        raise UserError(f"{unread} of {len(arguments.pictures)} pictures could not be read.")
