"""`python -m mmgen deploy`: put the studio on the Hugging Face Hub as a Space."""

from __future__ import annotations

import argparse


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "deploy",
        help="put the studio on the Hugging Face Hub as a Space",
        description="Upload the app with one checkpoint as a Gradio Space, which then starts by itself. Who has run "
        "`hf auth login`, or has set HF_TOKEN, is signed in.",
    )
    parser.add_argument("name", metavar="user/space", help="what to call it on the Hub")
    parser.add_argument("--checkpoint", help="model folder, or user/name on the Hub (default: that of the page)")
    parser.add_argument("--public", action="store_true", help="for everybody to see (default: private)")
    parser.add_argument("--dry-run", action="store_true", help="show the files and the README; send nothing")
    parser.add_argument(
        "--oauth",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let visitors sign in with Hugging Face, to publish (default: yes)",
    )
    parser.add_argument("--hardware", default="cpu-basic", help="suggested to who copies it (default cpu-basic)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    import sys

    from huggingface_hub.utils import disable_progress_bars, logging

    from mmgen.errors import UserError
    from mmgen.hub.space import HARDWARE, deploy

    if arguments.hardware not in HARDWARE:
        raise UserError(f"There is no hardware {arguments.hardware!r}. Give one of {', '.join(HARDWARE)}.")
    logging.set_verbosity_error()  # What goes wrong for good is told at the end, in one sentence.
    if not sys.stderr.isatty():
        disable_progress_bars()
    deployed = deploy(
        arguments.name,
        arguments.checkpoint,
        private=not arguments.public,
        oauth=arguments.oauth,
        hardware=arguments.hardware,
        dry_run=arguments.dry_run,
        on_progress=lambda share, text: print(text, file=sys.stderr),
    )
    if arguments.dry_run:
        for file in deployed.files:
            print(f"{file.size:>12,}  {file.path}")
        print(f"{sum(file.size for file in deployed.files):>12,}  bytes in {len(deployed.files)} files\n")
        print(deployed.readme)
        return
    print(f"{deployed.url}  {len(deployed.files)} files, commit {deployed.commit}")
