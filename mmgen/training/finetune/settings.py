"""What a fine-tuning can be asked for: one form from the page, the command line and a job's folder to the training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmgen.errors import UserError, shown
from mmgen.training.common.config import RunConfig, option
from mmgen.training.finetune.presets import PRESETS

MAX_STEPS, MAX_MINUTES = 10**9, 10**6
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class FinetuneSettings:
    """What a fine-tuning can be asked for; see `python -m mmgen finetune --help`.

    Attributes:
        minutes: of training, unless there are `steps`.
        prior: share of each batch that keeps what the base knows, 0 to 0.9.
        tune_autoencoder: whether the image decoder learns too; None for "if it draws these pictures badly".
        watch: prompts to draw while it trains.
    """

    preset: str = option("everything", "what learns", choices=tuple(PRESETS))
    minutes: float | None = 3.0
    steps: int | None = None
    prior: float = option(0.35, "share of each batch that keeps what the base knows, 0 to 0.9", least=0)
    tune_autoencoder: bool | None = None
    seed: int = option(0, "of everything random", least=0)
    watch: list[str] = field(default_factory=list)
    learning_rate: float = option(2e-3, "of the generator, at its highest; a quarter of it where nothing is spared")
    image_decoder_learning_rate: float = option(
        3e-4, "of the image decoder, at its highest", former="decoder_learning_rate"
    )
    ema_images: float = option(300, "half-life in samples of the averaged weights")
    batch_size: int = option(16, "samples a step", least=2)
    save_minutes: float = option(0.5, "between saved states", least=0)

    @classmethod
    def from_kept(cls, values: Mapping[str, Any]) -> FinetuneSettings:
        """Settings as they were kept; what another version kept beside them is left out."""
        known = {item.name for item in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def to_json(self) -> str:
        """As `from_kept` takes them, in one line."""
        return json.dumps(dataclasses.asdict(self))

    def check(self) -> None:
        """Refuse what cannot be trained, of whatever kind it is.

        Raises:
            UserError: a value is of another kind, or out of range.
        """
        if not isinstance(self.preset, str):
            raise UserError("The preset must be a text.")
        if not isinstance(self.watch, (list, tuple)) or not all(isinstance(prompt, str) for prompt in self.watch):
            raise UserError("The prompts to watch must be a list of texts.")
        if self.steps is not None:
            _check_number("The number of steps", self.steps, whole=True)
        elif self.minutes is not None:
            _check_number("The minutes", self.minutes)
        _check_number("The share kept from the model", self.prior)
        _check_number("The seed", self.seed, whole=True)
        if self.preset not in PRESETS:
            raise UserError(f"There is no preset {shown(self.preset)!r}. Choose one of {', '.join(PRESETS)}.")
        if self.steps is None and (self.minutes is None or not 0.01 <= self.minutes <= MAX_MINUTES):
            raise UserError(f"Say how long to train: 0.01 to {MAX_MINUTES:,} minutes, or a number of steps.")
        if self.steps is not None and self.steps < 1:
            raise UserError(f"{shown(self.steps)} steps teach nothing. Give at least 1.")
        if self.steps is not None and self.steps > MAX_STEPS:
            raise UserError(f"There are {shown(self.steps)} steps; give at most {MAX_STEPS:,}.")
        if not 0 <= self.prior <= 0.9:
            raise UserError(f"The share that keeps what the base knows is {shown(self.prior)}. Give 0 to 0.9.")
        if not 0 <= self.seed <= MAX_SEED:
            raise UserError(f"The seed is {shown(self.seed)}. Give 0 to {MAX_SEED}.")

    @property
    def prompts(self) -> list[str]:
        """Those of `watch` that say something, each in one line."""
        lines = (" ".join(prompt.replace("\0", " ").split()) for prompt in self.watch)
        return [line for line in lines if line]

    def run_config(self, output: Path, resume: bool) -> RunConfig:
        """What the training shares with all others."""
        return RunConfig(
            output=str(output),
            steps=self.steps,
            minutes=None if self.steps is not None else self.minutes,
            batch_size=self.batch_size,
            seed=self.seed,
            save_minutes=self.save_minutes,
            log_every=2,
            log_with="none",
            resume=resume,
        )


def _is_whole(value: int | float) -> bool:
    return isinstance(value, int) or value.is_integer()


def _check_number(what: str, value: object, whole: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (whole and not _is_whole(value)):
        said = "empty" if value is None else shown(value)
        raise UserError(f"{what} is {said}; give a {'whole number' if whole else 'number'}.")
