"""`python -m mmgen vocabulary`: give a checkpoint the words of what it knows, of emoji and of other languages."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmgen.errors import UserError


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "vocabulary",
        help="let a checkpoint say what it can draw, and read emoji and other languages",
        description="Write into a checkpoint what it was trained on, by group, the names of emoji, and the words of "
        "some 25 languages with their English ones. What is there already is replaced.",
    )
    parser.add_argument("--data", type=Path, required=True, help="what it was trained on, such as data/emoji")
    parser.add_argument("--checkpoint", type=Path, required=True, help="model folder, which is changed")
    parser.add_argument(
        "--packages", type=Path, help="folder of fetched packages (default: packages in --data; fetched if missing)"
    )
    parser.add_argument("--about", default="", help='what the model is, in a few words, such as "an emoji artist"')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from mmgen.checkpoints import load_pipeline
    from mmgen.training.vocabulary import build_vocabulary, write_vocabulary

    if not arguments.checkpoint.is_dir():
        raise UserError(f"There is no checkpoint at {arguments.checkpoint}. Give a model folder.")
    pipe = load_pipeline(arguments.checkpoint, "cpu")
    packages = arguments.packages or arguments.data / "packages"
    vocabulary = build_vocabulary(arguments.data, pipe, packages, arguments.about)
    size = write_vocabulary(vocabulary, arguments.checkpoint)
    tables = vocabulary.tables
    terms = sum(len(some.labels) + len(some.words) for some in tables.languages.values())
    print(
        f"{arguments.checkpoint}: {len(tables.labels):,} things to draw, {len(tables.emoji):,} emoji, {terms:,} words "
        f"of {len(tables.languages)} languages, in {size / 1e6:.1f} MB"
    )
