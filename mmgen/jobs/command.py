"""The command that a job becomes."""

from __future__ import annotations

import sys
from pathlib import Path

from mmgen.training.finetune.settings import FinetuneSettings

PROGRAM = [sys.executable, "-m", "mmgen"]
"""What a job's process runs, before its arguments."""


def finetune_command(settings: FinetuneSettings, base: Path, pairs: Path, output: Path) -> list[str]:
    """The command line that trains a job, or goes on with it."""
    places = ["--data", str(pairs), "--base", str(base), "--output", str(output)]
    return [*PROGRAM, "finetune", *places, "--settings", settings.to_json(), "--resume"]
