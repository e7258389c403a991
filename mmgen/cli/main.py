"""The command line: one sub-command a module, errors in one line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmgen.cli import (
    bundle,
    complete,
    data,
    deploy,
    describe,
    encoders,
    evaluate,
    evaluate_captioner,
    finetune,
    generate,
    memory,
    publish,
    sheet,
    train,
    vocabulary,
)
from mmgen.errors import UserError

COMMANDS = (
    *(generate, complete, describe, data, encoders, train, finetune, memory, vocabulary),
    *(sheet, evaluate, evaluate_captioner, bundle, publish, deploy),
)


def build_parser() -> argparse.ArgumentParser:
    """The whole parser; each module of `COMMANDS` adds its own sub-command and sets `run`."""
    called = "mmgen" if Path(sys.argv[0]).stem == "mmgen" else "python -m mmgen"
    parser = argparse.ArgumentParser(prog=called, description="A small, fast, steerable picture generator.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_parser(commands)
    parser.set_defaults(build_parser=build_parser)  # For a command that is made of others.
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0, or 1 after a `UserError`, which is printed as one line.
    """
    arguments = build_parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except UserError as error:
        print(f"mmgen: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mmgen: stopped.", file=sys.stderr)
        return 130
    return 0
