"""Starts the jobs that wait, one at a time on the machine, however many studios are open.

    <root>/training.lock   inherited by the process of the job that trains, so it is free exactly when none does

The locks that a process inherits are held by it from its first moment to its last, whatever becomes of the studio, and
nobody has to be trusted to give them back.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import mmgen
from mmgen.errors import UserError
from mmgen.io import FileLock
from mmgen.jobs.command import finetune_command
from mmgen.jobs.job import Job, read_job
from mmgen.jobs.store import Jobs, homes, queue, write_job
from mmgen.jobs.sweep import stop_overtime, sweep_visitors
from mmgen.jobs.zero_gpu import GpuTraining
from mmgen.space import on_zero_gpu, without_secrets
from mmgen.training.common.control import is_alive, status, take_command, write_status

_POLL_SECONDS = 1.0
_VISITORS_SECONDS = 20.0


class Scheduler:
    """A thread that starts what waits under a root; jobs run on when it ends.

    Args:
        root: the folder of everybody's folders; it need not exist yet.
        keep_seconds: for how long a visitor's things are kept after the last visit; by default for ever. If given, no
            visitor trains for longer than `mmgen.quota` allows, either.
        chore: what else is to be cleared away then, every now and again.
    """

    def __init__(self, root: Path, keep_seconds: float | None = None, chore: Callable[[], None] | None = None):
        self.root = Path(root)
        self.chore = chore
        self.keep_seconds = keep_seconds
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="jobs", daemon=True)
        self._children: list[subprocess.Popen | GpuTraining] = []

    def start(self) -> None:
        """Start the thread, once."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        self._thread.join()

    def _watch(self) -> None:
        told: set[str] = set()
        swept = False
        next_visitors = 0.0
        while True:
            try:
                if not swept:
                    swept = True
                    for jobs in homes(self.root):
                        jobs.sweep()
                if self.keep_seconds is not None and time.monotonic() >= next_visitors:
                    next_visitors = time.monotonic() + _VISITORS_SECONDS
                    sweep_visitors(self.root, self.keep_seconds)
                    stop_overtime(self.root)
                    if self.chore:
                        self.chore()
                self._poll()
            except Exception as error:  # What is wrong now may be well again in a second; it is said once.
                if str(error) not in told:
                    told.add(str(error))
                    text = f"mmgen: {error}\n" if isinstance(error, UserError) else traceback.format_exc()
                    sys.stderr.write(text)
            if self._ending.wait(_POLL_SECONDS):
                return

    def _poll(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]  # Leaves no zombies.
        if os.name == "nt" or not queue(self.root):
            return
        with FileLock(self.root / "training.lock") as machine:
            if not machine.acquire():
                return
            troubles = []
            for job in queue(self.root):  # Read again: another studio may have been quicker.
                try:
                    child = _launch(job, machine)
                except (OSError, UserError) as error:  # The others need not wait because of this one.
                    troubles.append(error)
                    continue
                if child:
                    self._children.append(child)
                    return
            if troubles:
                raise troubles[0]


def _launch(queued: Job, machine: FileLock) -> subprocess.Popen | GpuTraining | None:
    """Start a job's process, which takes over the machine's lock; None if the job is in use, or not queued any more."""
    jobs = Jobs(queued.folder.parent.parent)
    with jobs.changing():
        job = read_job(queued.folder)
        if job is None or job.queued_at is None:
            return None
        with FileLock(job.process_lock) as lock:
            if not lock.acquire() or is_alive(job.run):
                return None
            # Killed here, at whatever line, it is still queued, or else interrupted: in no case trained twice.
            with open(job.folder / "output.txt", "wb") as output:
                write_status(job.run, {**status(job.run), "state": "starting", "message": "", "error": None})
                take_command(job.run)
                write_job(replace(job, queued_at=None))
                jobs.serve()
                try:
                    return _spawn(job, output, machine.fileno(), lock.fileno())
                except OSError as error:
                    why = f"The training could not be started ({error.strerror or error}). Resume to try again."
                    write_status(job.run, {**status(job.run), "state": "failed", "error": why})
                    return None


def _spawn(job: Job, output: BinaryIO, *held: int | None) -> subprocess.Popen | GpuTraining:
    """The job's process: away from the studio's terminal, with nothing of the studio open but the locks."""
    nice = shutil.which("nice")
    locks = tuple(handle for handle in held if handle is not None)
    command = finetune_command(job.settings, job.base, job.folder / "pairs", job.run)
    if on_zero_gpu():
        return GpuTraining(job, command, locks)
    return subprocess.Popen(
        [*([nice, "-n", "5"] if nice else []), *command],
        cwd=Path(mmgen.__file__).resolve().parent.parent,
        env={**without_secrets(os.environ), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=locks,
    )
