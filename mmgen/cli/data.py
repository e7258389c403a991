"""`python -m mmgen data`: make the data sets."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from mmgen.cli.options import number
from mmgen.datasets.emoji_sets import SETS
from mmgen.errors import UserError


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "data", help="make or check a data set", description="Fetch, render, describe or check a data set."
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    emoji = kinds.add_parser(
        "emoji", help="every emoji in nine styles, and icons, with captions and splits (needs npm)"
    )
    emoji.add_argument("--size", type=int, default=256, help="side of the rendered pictures in pixels (default 256)")
    emoji.add_argument(
        "--synthetic-styles", type=int, default=0, help="how many styles to make up from the real ones (default 0)"
    )
    emoji.add_argument(
        "--sets",
        nargs="+",
        choices=[emoji_set.key for emoji_set in SETS],
        metavar="SET",
        help=f"only some of {', '.join(emoji_set.key for emoji_set in SETS)}",
    )
    drawings = kinds.add_parser("drawings", help="photographs and drawings of many kinds (needs a Debian system)")
    for kind, default in ((emoji, "data/emoji"), (drawings, "data/drawings")):
        kind.add_argument("--output", type=Path, default=Path(default), help=f"folder to write (default {default})")
        kind.add_argument("--seed", type=int, default=0, help="seed of captions and split (default 0)")
        kind.set_defaults(run=run)
    compose = kinds.add_parser(
        "compose",
        help="put pictures of a data set together as small words say: a cat left of a tree, three cats, a blue tile",
        description="Compose pictures of several things, with captions, to be trained on beside the data set that they "
        "are made of: --data DATA --data FOLDER.",
    )
    compose.add_argument("--data", type=Path, required=True, help="pictures of single things, transparent around them")
    compose.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder to write")
    compose.add_argument("--count", type=number(int, 1), default=4000, metavar="N", help="pictures (default 4000)")
    compose.add_argument("--size", type=number(int, 64), default=256, help="their side in pixels (default 256)")
    compose.add_argument("--seed", type=number(int, 0), default=0, help="of what is composed (default 0)")
    compose.set_defaults(run=_compose)
    check = kinds.add_parser(
        "check", help="say what a training would take, guess and leave out of a folder, without training"
    )
    check.add_argument("folder", type=Path, metavar="FOLDER", help="folder, zip, tar or shards of pictures")
    check.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> None:
    from mmgen.data.folder import load_pairs
    from mmgen.data.report import Report

    report = Report()
    splits = load_pairs(arguments.folder, need_text=False, report=report, look=True)
    print("\n".join(report.lines()))
    print("Splits: " + ", ".join(f"{name} {len(rows):,}" for name, rows in splits.items()))


def _compose(arguments: argparse.Namespace) -> None:
    import os
    from concurrent.futures import ProcessPoolExecutor

    from tqdm import tqdm

    from mmgen.data.folder import load_pairs
    from mmgen.data.report import Report
    from mmgen.data.splits import TRAIN
    from mmgen.datasets.composed import build_composed

    report = Report()
    splits = load_pairs(arguments.data, need_text=False, report=report)
    if TRAIN not in splits:
        raise UserError(f"{arguments.data} has no split train; it has {', '.join(splits)}. Name one of them train.")
    with (
        ProcessPoolExecutor(max_workers=os.cpu_count()) as pool,
        tqdm(total=arguments.count, desc="composing", unit="img", mininterval=0.5) as bar,
    ):
        counts = build_composed(
            splits[TRAIN],
            arguments.output,
            arguments.count,
            arguments.seed,
            arguments.size,
            pool,
            lambda done, of: bar.update(done - bar.n),
        )
    _say_counts(counts, arguments.output)


def run(arguments: argparse.Namespace) -> None:
    if arguments.kind == "emoji":
        from mmgen.datasets.emoji import build_emoji

        if not 0 <= arguments.synthetic_styles <= 999:
            raise UserError(f"--synthetic-styles is {arguments.synthetic_styles}; give a number from 0 to 999.")
        sets = tuple(emoji_set for emoji_set in SETS if not arguments.sets or emoji_set.key in arguments.sets)
        counts = build_emoji(arguments.output, arguments.size, arguments.seed, sets, arguments.synthetic_styles)
    else:
        from mmgen.datasets.debian import build_drawings

        counts = build_drawings(arguments.output, seed=arguments.seed)
    _say_counts(counts, arguments.output)


def _say_counts(counts: Counter[str], output: Path) -> None:
    for style, count in counts.most_common():
        print(f"{count:6d}  {style}")
    print(f"{counts.total():6d}  pictures in {output}")
