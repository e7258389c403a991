"""`python -m mmgen finetune`: a checkpoint learns a person's own pairs."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from mmgen.cli.options import add_options, check_alone, number
from mmgen.errors import UserError
from mmgen.training.common.config import FinetuneConfig
from mmgen.training.finetune.presets import PRESETS


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
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=number(float, 0.01), help="of training (default 3)")
    length.add_argument("--steps", type=number(int, 1), help="instead of minutes")
    add_options(parser, FinetuneConfig)
    parser.add_argument("--batch-size", type=number(int, 2), default=16, help="samples a step (default 16)")
    parser.add_argument(
        "--tune-autoencoder",
        action=argparse.BooleanOptionalAction,
        help="whether the picture decoder learns too (default: if it draws these pictures badly)",
    )
    parser.add_argument("--watch", nargs="*", default=[], metavar="PROMPT", help="prompts to draw while it trains")
    parser.add_argument("--seed", type=number(int, 0), default=0, help="of everything random (default 0)")
    parser.add_argument("--save-minutes", type=number(float, 0), default=0.5, help="between saved states (default 0.5)")
    parser.add_argument("--resume", action="store_true", help="go on from what OUTPUT holds, or start")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from mmgen.checkpoints import default_checkpoint, find_checkpoint, load_pipeline
    from mmgen.data.folder import load_pairs
    from mmgen.pipeline import MAX_SEED
    from mmgen.training.common.config import RunConfig
    from mmgen.training.common.control import status
    from mmgen.training.common.run import saved_states
    from mmgen.training.finetune.train import finetune

    check_alone("Fine-tuning")
    if arguments.seed > MAX_SEED:
        raise UserError(f"--seed is {arguments.seed}; give at most {MAX_SEED}.")
    if arguments.prior > 0.9:
        raise UserError(f"--prior is {arguments.prior:g}; give at most 0.9, so that something new is learned.")
    base = find_checkpoint(arguments.base or default_checkpoint())
    pipe = load_pipeline(base)
    splits = load_pairs(arguments.data, need_text=False)
    if "train" not in splits:
        raise UserError(f"{arguments.data} has no split train; it has {', '.join(splits)}. Name one of them train.")
    data = splits["train"]
    if arguments.resume and status(arguments.output).get("state") == "done":
        raise UserError(
            f"{arguments.output} is done. To go on, start another from it: --base {arguments.output}/pipeline."
        )
    has_state = bool(saved_states(arguments.output))
    config = FinetuneConfig(
        **{field.name: getattr(arguments, field.name) for field in dataclasses.fields(FinetuneConfig)}
    )
    minutes = None if arguments.steps else arguments.minutes or 3.0
    run_config = RunConfig(
        output=str(arguments.output),
        steps=arguments.steps,
        minutes=minutes,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        save_minutes=arguments.save_minutes,
        log_every=2,
        log_with="none",
        resume=arguments.resume and has_state,
    )
    folder = finetune(run_config, config, base, pipe, data)
    if (folder / "model_index.json").is_file():
        print(f"{folder}: a checkpoint that knows {len(data)} more pictures")
