"""`python -m mmgen publish`: put a checkpoint on the Hugging Face Hub."""

from __future__ import annotations

import argparse


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "publish",
        help="put a checkpoint or a completed set on the Hugging Face Hub",
        description="Publish a set that `complete` made as a data set; or a checkpoint with a filled-in card and the "
        "code by which diffusers alone loads it. Who has run `hf auth login`, or has set HF_TOKEN, is signed in.",
    )
    parser.add_argument("checkpoint", help="folder of a model or of a set")
    parser.add_argument("name", metavar="user/name", help="what to call it on the Hub")
    parser.add_argument("--public", action="store_true", help="for everybody to see (default: private)")
    parser.add_argument("--dry-run", action="store_true", help="show the files and the card; send nothing")
    parser.add_argument("--revision", help="branch to publish on (default main)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from mmgen.cli.sending import hush_client, print_files, tell_progress
    from mmgen.errors import UserError
    from mmgen.hub.dataset import is_set, publish_set
    from mmgen.hub.publish import publish

    hush_client()
    options = {"private": not arguments.public, "dry_run": arguments.dry_run, "on_progress": tell_progress}
    if is_set(arguments.checkpoint):
        if arguments.revision:
            raise UserError("A set is published on the main branch. Leave --revision away.")
        published = publish_set(arguments.checkpoint, arguments.name, **options)
    else:
        published = publish(arguments.checkpoint, arguments.name, revision=arguments.revision, **options)
    if arguments.dry_run:
        print_files(published.files, published.card)
        return
    print(f"{published.url}  {len(published.files)} files, commit {published.commit}")
