"""`python -m mmgen memory`: make a memory of any data set for a checkpoint to draw from, and look into one."""

from __future__ import annotations

import argparse
from pathlib import Path

MAX_SHOWN = 30


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "memory", help="build a memory to draw from, or look into one", description="Build a memory, or look into one."
    )
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    build = parts.add_parser(
        "build",
        help="make a memory of a data set, on one process or, by torchrun, on many",
        description="Make a memory of the pictures of a data set, for `generate --memory` and `app.py --memory`. "
        "Stopped and started again it goes on. Under torchrun each process encodes its share; all must see the folder.",
    )
    build.add_argument("--data", required=True, help="folder, zip or shards, or user/name of a data set on the Hub")
    build.add_argument("--checkpoint", help="whose encoders to use (default: the one in checkpoints/)")
    build.add_argument("--output", type=Path, required=True, help="folder to make")
    build.add_argument("--split", default="train", help="of the data set (default train)")
    for name in ("style", "source", "licence", "author"):
        build.add_argument(f"--{name}", default="", help=f"{name} of the pictures that have none of their own")
    build.set_defaults(run=_build)
    show = parts.add_parser("show", help="count entries by style, source and licence")
    show.add_argument("memory", help="folder of a memory, or a checkpoint")
    show.set_defaults(run=_show)


def _build(arguments: argparse.Namespace) -> None:
    from mmgen.checkpoints import default_checkpoint, find_checkpoint, load_pipeline
    from mmgen.cli.train import one_after_another
    from mmgen.devices import best_device
    from mmgen.training.index import build_index, load_rows

    about = {name: getattr(arguments, name) for name in ("style", "source", "licence", "author")}
    with one_after_another():  # What has to be fetched or unpacked is so once.
        checkpoint = find_checkpoint(arguments.checkpoint or default_checkpoint())
        rows = load_rows(arguments.data, arguments.split, arguments.output, about)
    count = build_index(rows, load_pipeline(checkpoint, str(best_device())), arguments.output)
    if count:
        print(f"{arguments.output}: a memory of {count:,} pictures")


def _show(arguments: argparse.Namespace) -> None:
    from mmgen.checkpoints import open_memory

    memory = open_memory(arguments.memory)
    sources = memory.sources
    print(f"{len(memory):,} pictures")
    licences: dict[str, int] = {}
    for origin, count in zip(sources, memory.counts("source"), strict=True):
        licences[origin["licence"]] = licences.get(origin["licence"], 0) + count
    named = [", by ".join(filter(None, (origin["source"], origin["author"]))) for origin in sources]
    _print_counts("style", memory.config.styles, memory.counts("style"))
    _print_counts("source", named, memory.counts("source"))
    _print_counts("licence", list(licences), list(licences.values()))


def _print_counts(title: str, names: list[str], counts: list[int]) -> None:
    print(f"\nby {title}")
    rows = sorted(zip(names, counts, strict=True), key=lambda row: -row[1])
    for name, count in rows[:MAX_SHOWN]:
        print(f"{count:12,}  {name or f'(no {title})'}")
    if len(rows) > MAX_SHOWN:
        print(f"{sum(count for _, count in rows[MAX_SHOWN:]):12,}  of {len(rows) - MAX_SHOWN:,} others")
