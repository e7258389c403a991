"""How much of the machine one visitor of a Space may take, and how long their things are kept there."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from mmgen.space import on_space, storage


@dataclass(frozen=True)
class Quota:
    """What one person may have.

    Attributes:
        disk: bytes of everything of theirs together. No picture is taken in and no job is made beyond it; a job that
            trains may go over it.
        pairs: in one draft.
        busy: jobs that train or wait.
        jobs: altogether.
        minutes: that a job may train.
    """

    disk: float = math.inf
    pairs: float = math.inf
    busy: float = math.inf
    jobs: float = math.inf
    minutes: float = math.inf


UNLIMITED = Quota()
VISITOR = Quota(disk=2e9, pairs=500, busy=1, jobs=4, minutes=15)


def quota_of(owner: str) -> Quota:
    """What an owner, as `mmgen.home.home` takes one, may have: a visitor a share, `local` everything."""
    return UNLIMITED if owner == "local" else VISITOR


def keep_seconds() -> float | None:
    """For how long the things of a visitor who does not come back are kept; None for ever."""
    if not on_space():
        return None
    return 7 * 86400.0 if storage() else 86400.0


def disk_use(folder: Path) -> int:
    """Bytes of all files below a folder, those with several names once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                said = os.lstat(os.path.join(place, name))
            except OSError:  # It was just removed.
                continue
            if (said.st_dev, said.st_ino) not in seen:
                seen.add((said.st_dev, said.st_ino))
                total += said.st_size
    return total
