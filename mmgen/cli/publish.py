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
    from mmgen.cli.sending import hush_client, print_files, tell_progress
    from mmgen.hub.publish import publish

    hush_client()
    published = publish(
        arguments.checkpoint,
        arguments.name,
        private=not arguments.public,
        dry_run=arguments.dry_run,
        on_progress=tell_progress,
        revision=arguments.revision,
    )
    if arguments.dry_run:
        print_files(published.files, published.card)
        return
    print(f"{published.url}  {len(published.files)} files, commit {published.commit}")
