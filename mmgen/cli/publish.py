"""`python -m mmgen publish`: put a checkpoint on the Hugging Face Hub."""

from __future__ import annotations

import argparse


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "publish",
        help="put a checkpoint on the Hugging Face Hub",
        description="Publish a checkpoint with a filled-in card, and with the code by which diffusers alone loads it. "
        "Who has run `hf auth login`, or has set HF_TOKEN, is signed in.",
    )
    parser.add_argument("checkpoint", help="model folder")
    parser.add_argument("name", metavar="user/name", help="what to call it on the Hub")
    parser.add_argument("--public", action="store_true", help="for everybody to see (default: private)")
    parser.add_argument("--dry-run", action="store_true", help="show the files and the card; send nothing")
    parser.add_argument("--revision", help="branch to publish on (default main)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    import sys

    from huggingface_hub.utils import disable_progress_bars, logging

    from mmgen.hub.publish import publish

    logging.set_verbosity_error()  # What goes wrong for good is told at the end, in one sentence.
    if not sys.stderr.isatty():
        disable_progress_bars()
    published = publish(
        arguments.checkpoint,
        arguments.name,
        private=not arguments.public,
        dry_run=arguments.dry_run,
        on_progress=lambda share, text: print(text, file=sys.stderr),
        revision=arguments.revision,
    )
    if arguments.dry_run:
        for file in published.files:
            print(f"{file.size:>12,}  {file.path}")
        print(f"{sum(file.size for file in published.files):>12,}  bytes in {len(published.files)} files\n")
        print(published.card)
        return
    print(f"{published.url}  {len(published.files)} files, commit {published.commit}")
