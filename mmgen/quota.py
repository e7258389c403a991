"""How much of the machine one visitor of a Space may take, and how long their things are kept there."""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from mmgen.space import on_space, storage

VISITORS = ("visitor-*", "user-*")
"""What visitors' folders are called."""


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

ADDRESS = Quota(disk=6e9, busy=3)
"""What all visitors of one address may have together, as a new cookie makes a new visitor."""

_ADDRESS_FILE = ".address"
_MAX_ADDRESSES = 10_000
_addresses: OrderedDict[Path, str] = OrderedDict()
_lock = threading.Lock()


def quota_of(owner: str) -> Quota:
    """What an owner, as `mmgen.home.home` takes one, may have: a visitor a share, `local` everything."""
    return UNLIMITED if owner == "local" else VISITOR


def keep_seconds() -> float | None:
    """For how long the things of a visitor who does not come back are kept; None for ever."""
    if not on_space():
        return None
    return 7 * 86400.0 if storage() else 86400.0


def note_address(home: Path, address: str) -> None:
    """Take note of the address that somebody's requests come from, as long as they have a folder on the disk, too.

    Args:
        home: their folder, which need not exist yet.
        address: or what stands for it.
    """
    with _lock:
        is_known = _addresses.get(home) == address
        _addresses[home] = address
        _addresses.move_to_end(home)
        while len(_addresses) > _MAX_ADDRESSES:
            _addresses.popitem(last=False)
    file = home / _ADDRESS_FILE
    try:
        if home.is_dir() and not (is_known and file.exists()):
            file.write_text(address)
    except OSError:  # It is known until the studio ends.
        pass


def neighbours(home: Path) -> list[Path]:
    """The folders of all visitors whose requests come from the same address as somebody's, theirs among them."""
    address = _address_of(home)
    if not address:
        return [home]
    others = [path for pattern in VISITORS for path in home.parent.glob(pattern) if path != home]
    return [home, *(path for path in others if _address_of(path) == address)]


def _address_of(home: Path) -> str:
    with _lock:
        known = _addresses.get(home)
    if known is not None:
        return known
    try:
        return (home / _ADDRESS_FILE).read_text()
    except OSError:
        return ""


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
