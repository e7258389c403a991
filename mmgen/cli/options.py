"""What the commands that train share: options from a config's fields, numbers, and what is for one process."""

from __future__ import annotations

import argparse
import dataclasses
import os

from mmgen.errors import UserError


def add_options(parser, config: type) -> None:
    """One option for each field of a config that has a help text."""
    for field in dataclasses.fields(config):
        if "help" in field.metadata:
            least = field.metadata.get("least", 1 if isinstance(field.default, int) else 1e-12)
            choices = field.metadata.get("choices")
            kind = {"type": str if choices else number(type(field.default), least), "choices": choices}
            help = f"{field.metadata['help']} (default {field.default})"
            parser.add_argument(_flag(field.name), default=field.default, help=help, **kind)
            if former := field.metadata.get("former"):  # As it was called before.
                words = {"dest": field.name, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
                parser.add_argument(_flag(former), **words, **kind)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def check_alone(what: str) -> None:
    """Raise a `UserError` under `torchrun`, for what is for one process."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(f"{what} is for one process. Start it without torchrun.")


def number(kind: type, least: float):
    """A reader of whole or broken numbers, not below `least`, for argparse."""

    def read(text: str):
        value = kind(text)
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is too small; give at least {least}")
        return value

    read.__name__ = "whole number" if kind is int else "number"
    return read
