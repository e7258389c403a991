"""`python -m mmgen finetune`: a checkpoint learns a person's own pairs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmgen.cli.options import add_options, check_alone, number
from mmgen.errors import UserError
from mmgen.training.finetune.presets import PRESETS
from mmgen.training.finetune.settings import FinetuneSettings


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "finetune",
        help="teach a checkpoint your own pictures",
        description="Fine-tune a checkpoint on pictures with captions, in minutes. The result is OUTPUT/pipeline. "
        + " ".join(f"--preset {name}: {what}." for name, what in PRESETS.items()),
    )
    parser.add_argument("--data", type=Path, required=True, help="folder or zip of pictures; captions may be missing")
    parser.add_argument("--base", type=Path, help="checkpoint to start from (default: the one in checkpoints/)")
    parser.add_argument("--output", type=Path, default=Path("runs/finetune"), help="default runs/finetune")
    parser.add_argument("--settings", type=_settings, help=argparse.SUPPRESS)  # All below but --resume, from a job.
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes", type=number(float, 0.01), default=FinetuneSettings.minutes, help="of training (default 3)"
    )
    length.add_argument("--steps", type=number(int, 1), help="instead of minutes")
    add_options(parser, FinetuneSettings)
    parser.add_argument(
        "--tune-autoencoder",
        action=argparse.BooleanOptionalAction,
        help="whether the picture decoder learns too (default: if it draws these pictures badly)",
    )
    parser.add_argument("--watch", nargs="*", default=[], metavar="PROMPT", help="prompts to draw while it trains")
    parser.add_argument("--resume", action="store_true", help="go on from what OUTPUT holds, or start")
    parser.set_defaults(run=run)


def _settings(text: str) -> FinetuneSettings:
    return FinetuneSettings.from_kept(json.loads(text))


def run(arguments: argparse.Namespace) -> None:
    from mmgen.checkpoints import default_checkpoint, find_checkpoint, load_pipeline
    from mmgen.data.folder import load_pairs
    from mmgen.data.report import Report, changes_since
    from mmgen.pipeline import MAX_SEED
    from mmgen.training.common.control import status
    from mmgen.training.common.run import saved_states
    from mmgen.training.finetune.train import finetune

    check_alone("Fine-tuning")
    settings = arguments.settings or FinetuneSettings.from_kept(vars(arguments))
    settings.check()
    if settings.seed > MAX_SEED:
        raise UserError(f"--seed is {settings.seed}; give at most {MAX_SEED}.")
    base = find_checkpoint(arguments.base or default_checkpoint())
    pipe = load_pipeline(base)
    report = Report()
    splits = load_pairs(arguments.data, need_text=False, report=report, look=True)
    print("\n".join(report.lines()), flush=True)
    if "train" not in splits:
        raise UserError(f"{arguments.data} has no split train; it has {', '.join(splits)}. Name one of them train.")
    data = splits["train"]
    if arguments.resume and status(arguments.output).get("state") == "done":
        raise UserError(
            f"{arguments.output} is done. To go on, start another from it: --base {arguments.output}/pipeline."
        )
    has_state = bool(saved_states(arguments.output))
    for sentence in changes_since(arguments.output, report, arguments.resume and has_state):
        print(f"Note: {sentence}", flush=True)
    run_config = settings.run_config(arguments.output, arguments.resume and has_state)
    folder = finetune(run_config, settings, base, pipe, data)
    if (folder / "model_index.json").is_file():
        print(f"{folder}: a checkpoint that knows {len(data)} more pictures")
