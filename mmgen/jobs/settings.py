"""What a job can be asked for, and the command that it becomes."""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmgen.errors import UserError
from mmgen.training.common.config import FinetuneConfig
from mmgen.training.finetune.presets import PRESETS

PROGRAM = [sys.executable, "-m", "mmgen"]
"""What a job's process runs, before its arguments."""


@dataclass(frozen=True)
class Settings:
    """What a job can be asked for; see `python -m mmgen finetune --help`.

    Attributes:
        minutes: of training, unless there are `steps`.
        prior: share of the training that keeps what the base knows, 0 to 0.9.
        tune_autoencoder: None for "if it draws these pictures badly".
        watch: prompts to draw while it trains.
    """

    preset: str = FinetuneConfig.preset
    minutes: float | None = 3.0
    steps: int | None = None
    prior: float = FinetuneConfig.prior
    tune_autoencoder: bool | None = None
    seed: int = 0
    watch: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UserError: a value is out of range.
        """
        if self.preset not in PRESETS:
            raise UserError(f"There is no preset {self.preset!r}. Choose one of {', '.join(PRESETS)}.")
        if self.steps is None and (self.minutes is None or not 0.01 <= self.minutes < math.inf):
            raise UserError("Say how long to train: at least 0.01 minutes, or a number of steps.")
        if self.steps is not None and self.steps < 1:
            raise UserError(f"{self.steps} steps teach nothing. Give at least 1.")
        if not 0 <= self.prior <= 0.9:
            raise UserError(f"The share that keeps what the base knows is {self.prior:g}. Give 0 to 0.9.")
        if self.seed < 0:
            raise UserError(f"The seed is {self.seed}. Give 0 or more.")


def to_settings(values: dict[str, Any]) -> Settings:
    """Settings as they were kept; what another version kept beside them is left out."""
    known = {item.name for item in dataclasses.fields(Settings)}
    return Settings(**{name: value for name, value in values.items() if name in known})


def finetune_command(settings: Settings, base: Path, pairs: Path, output: Path) -> list[str]:
    """The command line that trains a job, or goes on with it."""
    command = [*PROGRAM, "finetune", "--data", str(pairs), "--base", str(base), "--output", str(output)]
    command += ["--preset", settings.preset, "--prior", str(settings.prior), "--seed", str(settings.seed)]
    if settings.steps is not None:
        command += ["--steps", str(settings.steps)]
    else:
        command += ["--minutes", str(settings.minutes)]
    if settings.tune_autoencoder is not None:
        command.append("--tune-autoencoder" if settings.tune_autoencoder else "--no-tune-autoencoder")
    command.append("--resume")
    prompts = [" ".join(prompt.replace("\0", " ").split()) for prompt in settings.watch]
    if any(prompts):  # With a space before it, a prompt that begins with a dash is no option.
        command += ["--watch", *(f" {prompt}" if prompt.startswith("-") else prompt for prompt in prompts if prompt)]
    return command
