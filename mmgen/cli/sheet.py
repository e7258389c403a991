"""`python -m mmgen sheet`: real pictures beside generated ones, for a look at a model."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "sheet",
        help="lay real pictures beside generated ones",
        description="Draw the captions of a split and lay each row of generated pictures under the row of real ones.",
    )
    parser.add_argument("--checkpoint", type=Path, help="model folder (default: the one in checkpoints/)")
    parser.add_argument("--data", type=Path, default=Path("data/emoji"), help="data set (default data/emoji)")
    parser.add_argument("--split", default="train", help="train, unseen_pairs or unseen_labels (default train)")
    parser.add_argument("--count", type=int, default=24, help="captions (default 24)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice and the noise (default 0)")
    parser.add_argument("--output", type=Path, default=Path("sheet.png"), help="picture to write (default sheet.png)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from mmgen.checkpoints import default_checkpoint, load_pipeline
    from mmgen.data.folder import load_pairs
    from mmgen.errors import UserError
    from mmgen.evaluation.sheets import comparison

    splits = load_pairs(arguments.data)
    if arguments.split not in splits:
        raise UserError(f"There is no split {arguments.split} in {arguments.data}; it has {', '.join(splits)}.")
    pipe = load_pipeline(arguments.checkpoint or default_checkpoint())
    sheet, captions = comparison(pipe, splits[arguments.split], arguments.count, arguments.seed)
    sheet.save(arguments.output)
    for caption in captions:
        print(caption)
    print(f"{arguments.output}: rows of real pictures, each above its generated row")
