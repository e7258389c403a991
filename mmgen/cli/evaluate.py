"""`python -m mmgen evaluate`: the bench."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="measure a model",
        description="Ask judges that had no part in the model how well its pictures follow the words, how real and "
        "how varied they are.",
    )
    parser.add_argument("--checkpoint", type=Path, help="model folder (default: the one in checkpoints/)")
    parser.add_argument("--data", type=Path, default=Path("data/emoji"), help="data set (default data/emoji)")
    parser.add_argument(
        "--photographs",
        type=Path,
        default=Path("data/drawings"),
        help="data set with a split test, for reconstruction alone; left out where absent (default data/drawings)",
    )
    parser.add_argument(
        "--split",
        action="append",
        help="ask this split only; may be repeated (default train, unseen_pairs and unseen_labels; unseen_style is "
        "asked with a reference for each prompt)",
    )
    parser.add_argument("--prompts", type=int, default=1000, help="prompts a split (default 1000)")
    parser.add_argument("--quick", action="store_true", help="200 prompts a split")
    parser.add_argument(
        "--style-set",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="DATA",
        help="measure completed sets alone: in the held-out style of --data, or in that of this data set of one style",
    )
    parser.add_argument(
        "--grammar",
        action="store_true",
        help="measure small words alone: two things in their places, counts, grounds, sizes, colours, mirror images",
    )
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("runs/cache"),
        help="where the judges' weights, and what they saw of the real pictures, are kept",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:

    from mmgen.checkpoints import default_checkpoint, load_pipeline
    from mmgen.errors import UserError
    from mmgen.evaluation.features import efficientnet_lite1, mobilenet
    from mmgen.evaluation.grammar import ASKED as PER_KIND
    from mmgen.evaluation.grammar import evaluate_grammar, grammar_table
    from mmgen.evaluation.report import ALL_SPLITS, SPLITS, evaluate, table
    from mmgen.evaluation.style_set import ASKED, evaluate_style_set, style_set_table
    from mmgen.io import write_json

    odd = set(arguments.split or ()) - set(ALL_SPLITS)
    if odd:
        raise UserError(f"There is no split {sorted(odd)[0]}; choose one of {', '.join(ALL_SPLITS)}.")
    count = 200 if arguments.quick else arguments.prompts
    if count < 10:
        raise UserError(f"--prompts is {count}; give at least 10.")
    if arguments.grammar and arguments.style_set is not None:
        raise UserError("--grammar and --style-set each measure something else alone. Ask for one of them.")
    check_writable(arguments.json)
    checkpoint = arguments.checkpoint or default_checkpoint()
    pipe = load_pipeline(checkpoint)
    if arguments.style_set is not None:
        own = None if arguments.style_set == Path() else arguments.style_set
        sets = evaluate_style_set(
            pipe, mobilenet(arguments.cache), arguments.data, own, arguments.cache, min(count, ASKED), progress, note
        )
        sets["checkpoint"] = str(checkpoint)
        print(style_set_table(sets))
        if arguments.json:
            write_json(arguments.json, _without_nan(sets), indent=2)
        return
    if arguments.grammar:
        words = evaluate_grammar(
            pipe, mobilenet(arguments.cache), arguments.data, arguments.cache, min(count, PER_KIND), progress
        )
        words["checkpoint"] = str(checkpoint)
        print(grammar_table(words))
        if arguments.json:
            write_json(arguments.json, _without_nan(words), indent=2)
        return
    extractor, second = mobilenet(arguments.cache), None
    try:
        second = efficientnet_lite1(arguments.cache)
    except UserError as error:
        print(f"There is no second judge: {error} The first answers alone.", file=sys.stderr)
    photographs = arguments.photographs if arguments.photographs.is_dir() else None
    splits = arguments.split or SPLITS
    report = evaluate(
        pipe, extractor, arguments.data, photographs, arguments.cache, count, splits, progress, second, note
    )
    report["checkpoint"] = str(checkpoint)
    print(table(report))
    if arguments.json:
        write_json(arguments.json, _without_nan(report), indent=2)


def check_writable(file: Path | None) -> None:
    """Find out before the long work that its numbers could not be written."""
    from mmgen.errors import UserError

    if file and not file.parent.is_dir():
        raise UserError(f"There is no folder {file.parent} to write {file.name} into. Make it first.")


def progress(things: Iterable, what: str) -> Iterable:
    """The things behind a progress bar on the standard error, quiet where nobody looks."""
    from tqdm import tqdm

    every = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(list(things), desc=what, mininterval=every, file=sys.stderr)


def note(line: str) -> None:
    """Say something on the standard error, so that the standard output holds the numbers alone."""
    print(line, file=sys.stderr)


def _without_nan(value):
    """The same with None for what is no number, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and value != value else value
