"""All jobs of one person, each in a folder of its own that tells everything about it.

jobs/lock            held while a job is changed
served               its time is that of the last start of a job
jobs/<id>/
  job.json           name, base, settings, place in the queue
  pairs/             the pictures as they were when the job was started
  process.lock       held from before the job's process starts until it has ended
  output.txt         what the process printed
  run/               the training run: config.json, log.csv, samples/, state-*/, pipeline/ and its control files
"""

from __future__ import annotations

import math
import os
import re
import secrets
import shutil
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmgen.errors import UserError
from mmgen.io import FileLock, replacing, write_json
from mmgen.jobs.job import Job, read_job
from mmgen.quota import ADDRESS, UNLIMITED, Quota, disk_use, neighbours
from mmgen.training.common.control import is_alive, is_disk_full, send, take_command
from mmgen.training.finetune.settings import FinetuneSettings

if TYPE_CHECKING:
    from mmgen.data.draft import Draft

MAX_NAME = 200
MAX_WAITING = 20
"""Jobs in the whole queue beyond which nobody with a quota adds one."""

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
_ENDING_SECONDS, _CHANGING_SECONDS = 10.0, 10.0


class Jobs:
    """One person's jobs. Any number of threads and processes may use it at once.

    Args:
        home: the person's folder; its parent is the root whose jobs share the machine.
        quota: what the person may have.

    Raises:
        UserError: from every method, if the disk is full or cannot be written, and if there is no such job.
    """

    def __init__(self, home: Path, quota: Quota = UNLIMITED):
        self.home = Path(home).absolute()
        self.quota = quota
        self.folder = self.home / "jobs"

    def start(self, draft: Draft, base: Path | str, name: str, settings: FinetuneSettings) -> Job:
        """Queue a job on the pairs as they are now.

        Args:
            base: folder of a checkpoint.

        Raises:
            UserError: no name, no pairs, no such checkpoint, settings out of range, more than the quota, or a system
                without such jobs.
        """
        if os.name == "nt":
            raise UserError("Jobs need Linux or macOS. Train with `python -m mmgen finetune` here.")
        name, base = _to_name(name), Path(base).expanduser().absolute()
        settings.check()
        self._refuse_too_much(settings)
        if not (base / "model_index.json").is_file():
            raise UserError(f"There is no checkpoint at {base} any more. Choose another model to start from.")
        now = time.time()
        job_id = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{secrets.token_hex(4)}"
        with _disk_errors_told():
            new = self.folder / f".new-{job_id}"
            with FileLock(new / "process.lock") as making:
                with self.changing():
                    (new / "run").mkdir(parents=True)
                    making.acquire()  # So that `sweep` leaves it alone.
                try:
                    draft.freeze(new / "pairs")
                    with self.changing():
                        self._refuse_too_much(settings)  # Two may have been started at once.
                        job = Job(job_id, name, now, base, settings, new, self._last_place())
                        write_job(job)
                        making.release()
                        os.rename(new, self.folder / job_id)
                except BaseException:
                    shutil.rmtree(new, ignore_errors=True)
                    raise
        return self.get(job_id)

    def list(self) -> list[Job]:
        """All jobs, newest first."""
        jobs = [read_job(path) for path in self.folder.glob("*") if _ID.fullmatch(path.name)]
        return sorted((job for job in jobs if job), key=lambda job: (job.created, job.id), reverse=True)

    def get(self, job_id: str) -> Job:
        """The job of an id."""
        job = read_job(self.folder / job_id) if _ID.fullmatch(job_id) else None
        if job is None:
            raise UserError("This job is not there any more. Choose another.")
        return job

    def position(self, job_id: str) -> int | None:
        """Place among all that wait on this machine, 1 for the next to train; None if it does not wait."""
        waiting = [(job.folder.parent, job.id) for job in queue(self.home.parent)]
        return waiting.index((self.folder, job_id)) + 1 if (self.folder, job_id) in waiting else None

    def pause(self, job_id: str) -> None:
        """Ask it to end such that it can go on later; from the queue it is taken at once.

        Raises:
            UserError: it neither trains nor waits.
        """
        self.get(job_id)  # Before anything is made for who has no jobs.
        with self.changing():
            job = self.get(job_id)
            state = job.state
            if state not in ("queued", "running", "paused"):
                raise UserError(f"“{job.name}” does not train, so there is nothing to pause.")
            if state != "paused":
                self._send(job, "pause")

    def stop(self, job_id: str) -> None:
        """Ask it to end and keep what there is; nothing happens if it has ended."""
        self.get(job_id)  # Before anything is made for who has no jobs.
        with self.changing():
            job = self.get(job_id)
            if job.state in ("queued", "running", "paused", "interrupted"):
                self._send(job, "stop")

    def resume(self, job_id: str) -> None:
        """Queue it again, to go on from its last saved state, or take back a pause or stop it has not heard yet.

        Raises:
            UserError: it trains, or is done, or as many others train or wait as the quota allows.
        """
        self.get(job_id)  # Before anything is made for who has no jobs.
        with self.changing():
            job = self.get(job_id)
            state = job.state
            if state == "done":
                raise UserError(f"“{job.name}” is done. Start a new job from its result to go on.")
            if state == "running" and take_command(job.run) is None:
                raise UserError(f"“{job.name}” is still training. Wait until it has ended.")
            if state not in ("running", "queued"):
                self._refuse_another()
                write_job(replace(job, queued_at=self._last_place()))
                take_command(job.run)

    def rename(self, job_id: str, name: str) -> None:
        """Give it another name.

        Raises:
            UserError: no name.
        """
        name = _to_name(name)
        self.get(job_id)
        with self.changing():
            write_job(replace(self.get(job_id), name=name))

    def delete(self, job_id: str) -> None:
        """Delete it with all it has made.

        Raises:
            UserError: it trains, or its result is just being exported.
        """
        job = self.get(job_id)
        with self._at_rest(job):
            away = self.folder / f".deleted-{job_id}"
            with self.changing():
                os.rename(job.folder, away)
            shutil.rmtree(away, ignore_errors=True)

    def export(self, job_id: str, path: Path | str) -> Path:
        """Write the result as a zip file with one folder, which is named like the file.

        Raises:
            UserError: there is no result yet, or it may change because the job trains.
        """
        job, path = self.get(job_id), Path(path)
        with self._at_rest(job, shared=True):
            result = job.result
            if result is None:
                raise UserError(f"“{job.name}” has no result yet. Resume it, and let it train to its end.")
            # Stored: weights do not shrink.
            with replacing(path) as part, zipfile.ZipFile(part, "w", strict_timestamps=False) as packed:
                for file in sorted(file for file in result.rglob("*") if file.is_file()):
                    packed.write(file, f"{path.stem}/{file.relative_to(result).as_posix()}")
        return path

    def sweep(self) -> None:
        """Remove what a crash has left of jobs that were just being made or deleted."""
        left = [path for pattern in (".new-*", ".deleted-*") for path in self.folder.glob(pattern)]
        if left:
            with _disk_errors_told(), self.changing():
                for folder in left:
                    with FileLock(folder / "process.lock") as lock:
                        if lock.acquire():
                            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock under which jobs of this person change; always before a job's own lock, or without waiting."""
        with _disk_errors_told():
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock") as lock:
                if not lock.acquire(_CHANGING_SECONDS):
                    raise UserError("The jobs are being changed by another program. Try again in a moment.")
                yield

    @contextmanager
    def _at_rest(self, job: Job, shared: bool = False) -> Iterator[None]:
        """Keep a job from being trained; one that has said its last word is given a moment to end."""
        with _disk_errors_told(), FileLock(job.process_lock) as lock:
            try:
                held = job.state != "running" and lock.acquire(_ENDING_SECONDS, shared)
            except FileNotFoundError:
                held = False
            self.get(job.id)
            if not held or is_alive(job.run):
                raise UserError(f"“{job.name}” is in use. Stop it first, and wait until it has ended.")
            yield

    def _refuse_too_much(self, settings: FinetuneSettings) -> None:
        """Raises UserError if the quota does not allow one more job such as this."""
        quota = self.quota
        if quota == UNLIMITED:
            return
        if settings.minutes is not None and settings.minutes > quota.minutes:
            raise UserError(f"A training may take {quota.minutes:g} minutes here, not {settings.minutes:g}. Give less.")
        self._refuse_another()
        if len(self.list()) >= quota.jobs:
            raise UserError(f"You have {quota.jobs:g} jobs, as many as are kept here. Delete one first.")
        if disk_use(self.home) >= quota.disk:
            raise UserError(f"Your {quota.disk / 1e6:,.0f} MB here are full. Remove pairs, or delete jobs.")
        if sum(map(disk_use, neighbours(self.home))) >= ADDRESS.disk:
            raise UserError("What is kept here for all of your network is full. Remove pairs, or delete jobs.")

    def _refuse_another(self) -> None:
        """Raises UserError if the quota does not allow another job that trains or waits."""
        if math.isinf(self.quota.busy):
            return
        busy = [job for job in self.list() if job.state in ("queued", "running")]
        if len(busy) >= self.quota.busy:
            raise UserError(f"“{busy[0].name}” trains or waits, and there is no room for more. Wait, or stop it first.")
        waiting, near = queue(self.home.parent), neighbours(self.home)
        if sum(job.folder.parent.parent in near for job in waiting) >= ADDRESS.busy:
            raise UserError(
                f"{ADDRESS.busy:g} trainings that were started from your network wait. Try again when one is done."
            )
        if len(waiting) >= MAX_WAITING:
            raise UserError(f"{MAX_WAITING} trainings of others wait already. Try again later.")

    def _send(self, job: Job, command: str) -> None:
        """Send a command, under which a job that waits is known as paused or stopped, and take it from the queue."""
        send(job.run, command)
        if job.queued_at is not None:
            write_job(replace(job, queued_at=None))

    def last_served(self) -> float:
        """When a job of this person was last started, in seconds since 1970; 0 if none was."""
        try:
            return (self.home / "served").stat().st_mtime
        except OSError:
            return 0.0

    def serve(self) -> None:
        """Take note that a job of this person is started now."""
        (self.home / "served").touch()

    def _last_place(self) -> float:
        """A time that is later than that of everything queued, whatever the clock says."""
        return max([time.time(), *((job.queued_at or 0.0) + 0.001 for job in queue(self.home.parent))])


def homes(root: Path) -> Iterator[Jobs]:
    """The jobs of everybody who has a folder in the root."""
    for folder in Path(root).glob("*/jobs"):
        yield Jobs(folder.parent)


def queue(root: Path) -> list[Job]:
    """All jobs in the root that wait, the next one first: each person's in turn, who was served last being the last."""
    turns = []
    for jobs in homes(root):
        waiting = [job for job in jobs.list() if job.queued_at is not None]
        waiting.sort(key=lambda job: (job.queued_at, job.id))
        served = jobs.last_served() if waiting else 0.0
        turns += [(turn, served, job.queued_at, job.id, job) for turn, job in enumerate(waiting)]
    return [job for *_, job in sorted(turns, key=lambda one: one[:-1])]


def write_job(job: Job) -> None:
    """Write job.json; only under `Jobs.changing`."""
    settings = asdict(job.settings)
    values = {"name": job.name, "created": job.created, "base": str(job.base), "settings": settings}
    write_json(job.folder / "job.json", {**values, "queued_at": job.queued_at})


def _to_name(name: str) -> str:
    words = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:MAX_NAME]
    if not words:
        raise UserError("The job has no name. Give it one.")
    return words


@contextmanager
def _disk_errors_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise UserError("The disk is full. Make room, and try again.") from error
        raise UserError(f"{error.filename or 'The disk'} cannot be used ({error.strerror or error}).") from error
