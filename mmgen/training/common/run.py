"""One training run in one folder: steps, seeds, log, samples, saved state and exact resume, on accelerate.

With several processes, on one machine or many, the first alone writes.

output/
  config.json         what was asked for
  log.csv             one line each `log_every` steps
  logs/               TensorBoard (or the tracker named)
  samples/            sheets at fixed seeds
  state-00001000/     everything to go on from step 1000 (the newest two are kept)
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from mmgen.devices import best_device, has_fast_bf16, use_fast_kernels
from mmgen.errors import UserError
from mmgen.io import read_json, write_json, write_text
from mmgen.training.common.config import RunConfig
from mmgen.training.common.control import Control
from mmgen.training.common.schedules import warmed_and_cooled
from mmgen.training.common.states import damage

CLOCK = "clock.json"


def saved_states(output: Path) -> list[Path]:
    """The folders of a run's saved states, the newest last."""
    return sorted(path for path in output.glob("state-*") if path.is_dir())


def check_output(config: RunConfig) -> None:
    """Find out before anything long is prepared that a run cannot start, or go on, in its folder.

    Raises:
        UserError: it holds another run and `resume` was not asked for, or the other way round.
    """
    states = saved_states(Path(config.output))
    if states and not config.resume:
        raise UserError(
            f"{config.output} already holds a run. Add --resume to go on with it, or choose another --output."
        )
    if config.resume and not states:
        raise UserError(f"There is nothing to resume in {config.output}. Leave --resume away to start anew.")


class Run:
    """A run that can be stopped at any moment and goes on as if it had not been.

    All randomness of step n comes from (seed, n, rank): nothing but the step number has to be remembered.

    Args:
        recipe: everything else that was asked for, kept in config.json; what differs on resume is said aloud.

    Raises:
        UserError: the folder holds another run and `resume` was not asked for, or the tracker is not installed.
    """

    def __init__(self, config: RunConfig, recipe: dict[str, object] | None = None, control: Control | None = None):
        self.config, self.control = config, control
        self._kept: dict[str, nn.Module] = {}
        self.output = Path(config.output)
        self.step = 0
        self.seconds = 0.0  # Of training, over all sittings.
        self.images = 0  # Seen by all ranks.
        self.batch_size = config.batch_size  # Of this step and process.
        self._sampled = 0.0  # Seconds of training at the last sheet that came by time.
        self.paused = self.stopped = False  # Ended before its time: to go on later, or for good.
        self._stop = False
        self._last_loss: float | None = None
        self._postfix: dict[str, str] = {}
        check_output(config)
        precision = config.precision
        if precision == "auto":
            precision = "bf16" if has_fast_bf16(best_device()) else "no"
        if config.log_with != "none" and find_spec(config.log_with) is None:
            raise UserError(f"The tracker {config.log_with} is not installed. Install it, or choose --log-with none.")
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision=precision,
            log_with=None if config.log_with == "none" else config.log_with,
            project_dir=self.output / "logs",
        )
        use_fast_kernels(self.accelerator.device)
        # Saved without the wrapper that several processes train in, so that any number of them can go on from it.
        self.accelerator.register_save_state_pre_hook(self._unwrapped_states)
        self.accelerator.register_load_state_pre_hook(self._unwrap)
        if self.is_main:
            (self.output / "samples").mkdir(parents=True, exist_ok=True)
        self.accelerator.init_trackers(self.output.name)
        if self.is_main:
            self._note_config({**asdict(config), **(recipe or {}), "processes": self.accelerator.num_processes})

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    def register_for_checkpointing(self, name: str, module: nn.Module) -> None:
        """Save and load a module that accelerate does not prepare, such as an average, with the state."""
        self._kept[name] = module

    def resume(self) -> None:
        """Load the newest whole state, if `resume` was asked for; call after everything is prepared and kept.

        Raises:
            UserError: no state is whole, or machines whose disks hold different states.
        """
        if self.config.resume:
            newest = self._newest_whole()
            mine = torch.tensor([int(newest.name.rpartition("-")[2])], device=self.device)
            if len(set(self.accelerator.gather(mine).tolist())) > 1:
                raise UserError(
                    f"The machines hold different states in {self.output}. Put it on a disk that all of them see, or "
                    "copy it from the first machine to the others."
                )
            self.accelerator.load_state(str(newest))
            for name, module in self._kept.items():
                module.load_state_dict(load_file(newest / f"{name}.safetensors"))
            self.step = int(mine)
            clock = json.loads((newest / CLOCK).read_text()) if (newest / CLOCK).exists() else {}
            self.seconds = self._sampled = clock.get("seconds", 0.0)
            self.images = clock.get("images", self.step * self.batch_size * self.accelerator.num_processes)
            self._cut_log()

    def _newest_whole(self) -> Path:
        """The newest state that is whole; a damaged one is put aside, which is told, and an older one taken.

        Raises:
            UserError: none is whole.
        """
        kinds = ((self.accelerator._models, "model", "safetensors"), (self.accelerator._optimizers, "optimizer", "bin"))
        wanted = [f"{name}{f'_{i}' if i else ''}.{kind}" for of, name, kind in kinds for i in range(len(of))]
        wanted += [f"{name}.safetensors" for name in self._kept]
        states = saved_states(self.output)
        while states:
            wrong = damage(states[-1], wanted) if self.is_main else None
            if not int(self.accelerator.gather(torch.tensor([int(wrong is not None)], device=self.device)).sum()):
                return states[-1]
            if len(states) == 1:
                break
            if self.is_main:
                aside = states[-1].with_name(f"damaged-{states[-1].name}")
                shutil.rmtree(aside, ignore_errors=True)
                states[-1].rename(aside)
                print(f"{states[-1].name} is put aside, as its {wrong}: the training goes on from {states[-2].name}.")
            self.accelerator.wait_for_everyone()
            states.pop()
        raise UserError(
            f"No saved state in {self.output} is whole, so the training cannot go on. Start it again in another folder."
        )

    def average(self, tensor: torch.Tensor) -> None:
        """Bring a buffer that each rank tracks by itself to its mean over the ranks, in place."""
        if self.accelerator.num_processes > 1:
            tensor.copy_(self.accelerator.reduce(tensor, "mean"))

    @property
    def progress(self) -> float:
        """How much of the run is done, 0 to 1: of its minutes if it has them, else of its steps."""
        if self.config.minutes is not None:
            return min(1.0, self.seconds / (60 * self.config.minutes))
        return min(1.0, self.step / self.config.steps) if self.config.steps else 0.0

    def learning_rate(self, base: float, warmup: int = 100) -> float:
        """At this step, as `mmgen.training.common.schedules` says."""
        return warmed_and_cooled(base, self.step, self.progress, self.config, warmup)

    def steps(self) -> Iterator[int]:
        """Yield step numbers; saves between them, and at the end or when the process is told to pause or stop."""
        if self.config.deadline is not None and self.config.minutes is not None:
            left = max(0.0, self.config.deadline - time.time())
            self.config.minutes = max(1e-3, min(self.config.minutes, (self.seconds + left) / 60))
        previous = {s: signal.signal(s, self._ask_to_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        stop = False
        bar = tqdm(
            total=self.config.steps,
            initial=self.step,
            desc=self.output.name,
            unit="step",
            disable=not self.is_main,
            mininterval=1.0 if sys.stderr.isatty() else 30.0,
        )
        saved, started, first = time.monotonic(), time.monotonic(), self.images
        try:
            while self.progress < 1 and not stop:
                self._seed()
                before = time.monotonic()
                yield self.step
                self.step += 1
                self.images += self.batch_size * self.accelerator.num_processes
                self.seconds += time.monotonic() - before
                per_second = (self.images - first) / (time.monotonic() - started)
                self._postfix["images/s"] = f"{per_second:.1f}"
                bar.set_postfix(self._postfix, refresh=False)
                bar.update()
                self._obey(per_second)
                stop, save = self._agree(self._stop, time.monotonic() - saved > self.config.save_minutes * 60)
                self._agree_on_time()
                if save:
                    self.save()
                    saved = time.monotonic()
            self.save()
        finally:
            bar.close()
            for number, handler in previous.items():
                signal.signal(number, handler)
        self.accelerator.end_training()

    def log(self, values: dict[str, torch.Tensor | float]) -> None:
        """Write the values of this step to the log, the tracker and the bar, each `log_every` steps."""
        if self.step % self.config.log_every or not self.is_main:
            return
        numbers = {name: torch.as_tensor(value).detach().item() for name, value in values.items()}
        self._last_loss = next((value for value in numbers.values() if value == value), None)
        self._postfix.update({name: f"{value:.3f}" for name, value in numbers.items()})
        self.accelerator.log(numbers, step=self.step)
        row = {"step": self.step, "images": self.images, "time": round(time.time(), 1), **numbers}
        file = self.output / "log.csv"
        new = not file.exists()
        with open(file, "a", newline="") as handle:
            writer = csv.DictWriter(handle, list(row))
            if new:
                writer.writeheader()
            writer.writerow({name: f"{v:.6g}" if name in numbers else v for name, v in row.items()})

    def due(self, every: int) -> bool:
        """Whether something that happens each `every` steps, or each `sample_minutes`, is due after this step."""
        by_time = self.config.sample_minutes and self.seconds - self._sampled >= 60 * self.config.sample_minutes
        if by_time:
            self._sampled = self.seconds
        return bool(by_time or every and ((self.step + 1) % every == 0 or self.step + 1 == self.config.steps))

    def sample(self, sheet: Image.Image, steps: int | None = None) -> None:
        """Keep a sample sheet of what so many steps have made of the model; by default those with the present one."""
        if self.is_main:
            sheet.save(self.output / "samples" / f"{self.step + 1 if steps is None else steps:08d}.png")

    def save(self) -> None:
        """Save the state beside the older one, and put it in place only when it is whole.

        Raises:
            UserError: the training has diverged; the last good state stays, if there is one.
        """
        values = (value for module in self._kept.values() for value in module.parameters())
        if not all(bool(value.isfinite().all()) for value in values):
            kept = "The last good state is kept; add --resume and a smaller learning rate to go on from it."
            if not saved_states(self.output):
                kept = "Nothing had been saved yet; start again with a smaller learning rate."
            raise UserError(
                f"The training diverged before step {self.step}: there are weights that are no numbers. {kept}"
            )
        final = self.output / f"state-{self.step:08d}"
        part = self.output / "state.part"
        if self.is_main and not final.exists():
            shutil.rmtree(part, ignore_errors=True)
            self.accelerator.save_state(str(part))
            for name, module in self._kept.items():
                state = {key: value.contiguous() for key, value in module.state_dict().items()}
                save_file(state, part / f"{name}.safetensors")
            (part / CLOCK).write_text(json.dumps(self._clock()))
            part.rename(final)
        if self.is_main:
            for old in saved_states(self.output)[:-2]:
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()

    def _clock(self) -> dict[str, object]:
        return {"seconds": round(self.seconds, 3), "images": self.images, "over": self.progress >= 1}

    def _unwrapped_states(self, models: list[nn.Module], states: list[dict], folder: str) -> None:
        states[:] = [self.accelerator.unwrap_model(model).state_dict() for model in models]

    def _unwrap(self, models: list[nn.Module], folder: str) -> None:
        models[:] = [self.accelerator.unwrap_model(model) for model in models]

    def _note_config(self, asked: dict[str, Any]) -> None:
        """Write config.json at the start; on resume append what was asked for now, and say what differs."""
        file = self.output / "config.json"
        asked = json.loads(json.dumps(asked, default=str))
        config = asked
        if self.config.resume and file.exists():
            config = read_json(file)  # It may have been edited by hand.
            free = {"resume", "steps", "output", "cache", "deadline"}
            free |= {"save_minutes", "sample_every", "sample_minutes", "log_every", "log_with"}
            for name in sorted(asked.keys() & config.keys() - free - {"resumed"}):
                if asked[name] != config[name]:
                    print(f"Note: {name} was {config[name]} when this run began; it goes on with {asked[name]}.")
            config.setdefault("resumed", []).append(asked)
        write_json(file, config, indent=2)

    def _cut_log(self) -> None:
        """Drop the log's lines from after the state that was loaded: those steps are made again."""
        file = self.output / "log.csv"
        if self.is_main and file.exists():
            whole = [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
            kept = [line for line in whole[1:] if int(line.partition(",")[0]) < self.step]
            if kept:
                write_text(file, "".join([whole[0], *kept]))
            else:
                file.unlink()

    def _agree(self, *flags: bool) -> list[bool]:
        """The same flags on all ranks: set where any rank sets them."""
        if self.accelerator.num_processes == 1:
            return list(flags)
        mine = torch.tensor([float(flag) for flag in flags], device=self.device)
        return (self.accelerator.reduce(mine, "sum") > 0).tolist()

    def _agree_on_time(self) -> None:
        """The mean of the ranks' seconds on all of them, so that schedules by time are the same everywhere."""
        if self.config.minutes is not None and self.accelerator.num_processes > 1:
            mine = torch.tensor([self.seconds], device=self.device)
            self.seconds = float(self.accelerator.reduce(mine, "mean"))

    def _obey(self, per_second: float) -> None:
        """Report to whoever watches, and do what they say."""
        if self.control is None:
            return
        command = self.control.command()
        self.stopped = self.stopped or command == "stop"
        self._stop = self._stop or command is not None
        self.paused = self._stop and not self.stopped
        left = (1 - self.progress) / max(self.progress, 1e-9) * self.seconds
        values = {"loss": self._last_loss, "images_per_second": round(per_second, 2), "eta_seconds": round(left, 1)}
        budget = None if self.config.minutes is None else 60 * self.config.minutes
        self.control.report(
            step=self.step,
            steps=self.config.steps,
            seconds=round(self.seconds, 1),
            budget_seconds=budget,
            images=self.images,
            **values,
        )

    def end(self, why: str) -> None:
        """End after this step, as if it had been the last; what was learned is kept."""
        self.accelerator.print(f"Note: the run ends at step {self.step + 1}: {why}")
        self._stop = True

    def _ask_to_stop(self, number: int, frame: object) -> None:
        if self._stop and number == signal.SIGINT:  # Others may come twice, from a cluster and from torchrun.
            raise KeyboardInterrupt
        self._stop = True

    @property
    def step_seed(self) -> int:
        """Of everything random in this step of this process."""
        ranks = self.accelerator.num_processes
        return (self.config.seed * 1_000_003 + self.step * ranks + self.accelerator.process_index) % 2**32

    def _seed(self) -> None:
        seed = self.step_seed
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


def allocator_environment() -> dict[str, str]:
    """glibc settings with which training on a CPU is several times faster: freed blocks are kept, not given back."""
    return {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "536870912"}


def restart_with_allocator() -> None:
    """Start this process again with `allocator_environment`, once, on Linux without a GPU."""
    wanted = allocator_environment()
    if sys.platform == "linux" and not torch.cuda.is_available() and not wanted.keys() & os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **wanted})
