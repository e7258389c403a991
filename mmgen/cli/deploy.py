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
    from mmgen.cli.sending import hush_client, print_files, tell_progress
    from mmgen.errors import UserError
    from mmgen.hub.space import HARDWARE, deploy

    if arguments.hardware not in HARDWARE:
        raise UserError(f"There is no hardware {arguments.hardware!r}. Give one of {', '.join(HARDWARE)}.")
    hush_client()
    deployed = deploy(
        arguments.name,
        arguments.checkpoint,
        private=not arguments.public,
        oauth=arguments.oauth,
        hardware=arguments.hardware,
        dry_run=arguments.dry_run,
        on_progress=tell_progress,
    )
    if arguments.dry_run:
        print_files(deployed.files, deployed.readme)
        return
    print(f"{deployed.url}  {len(deployed.files)} files, commit {deployed.commit}")
