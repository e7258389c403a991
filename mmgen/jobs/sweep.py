"""Visitors' folders that nobody came back for, and trainings of theirs that take too long."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from mmgen.errors import UserError
from mmgen.jobs.store import Jobs, homes
from mmgen.quota import VISITORS, quota_of
from mmgen.training.common.control import pending_command

_GONE = ".gone-"
_MINUTE = 60.0


def sweep_visitors(root: Path, keep_seconds: float) -> None:
    """Remove the folders of visitors who were last here so long ago, unless a job of theirs trains or waits.

    A folder's own time is that of its visitor's last request, as `mmgen.ui.web.owner` keeps it.
    """
    for left in Path(root).glob(f"{_GONE}*"):  # By a crash.
        shutil.rmtree(left, ignore_errors=True)
    for folder in [folder for pattern in VISITORS for folder in Path(root).glob(pattern)]:
        if not _is_old(folder, keep_seconds):
            continue
        jobs, away = Jobs(folder), folder.with_name(f"{_GONE}{folder.name}")
        try:
            with jobs.changing():
                if any(job.is_alive or job.queued_at is not None for job in jobs.list()):
                    continue
                os.rename(folder, away)
        except (OSError, UserError):  # In use; the next time will do.
            continue
        shutil.rmtree(away, ignore_errors=True)


def stop_overtime(root: Path) -> None:
    """Stop what visitors train beyond the minutes they may, such as a job of very many steps; its result is kept."""
    for jobs in homes(root):
        most = quota_of(jobs.home.name).minutes * 60
        for job in jobs.list():
            if job.is_alive and float(job.status.get("seconds") or 0) > most + _MINUTE and not pending_command(job.run):
                jobs.stop(job.id)


def _is_old(folder: Path, seconds: float) -> bool:
    try:
        return folder.is_dir() and time.time() - folder.stat().st_mtime > seconds
    except OSError:
        return False
