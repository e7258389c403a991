"""Whether the checkpoint in a folder was replaced by another."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

_LOOK_SECONDS = 1.0
_AT_REST_SECONDS = 2.0  # Files that are still being copied are no checkpoint yet.

_Stamp = tuple[tuple[str, int, int, int], ...]


class FolderWatch:
    """Looks at a folder's files, of its parts too, every second at most. Threads may share it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._taken = self._last = _stamp(folder)
        self._looked = self._since = time.monotonic()
        self._lock = threading.Lock()

    def has_changed(self) -> bool:
        """Whether there are other files than were taken, and nobody has written to them for two seconds."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked >= _LOOK_SECONDS:
                self._looked, found = now, _stamp(self.folder)
                if found != self._last:
                    self._last, self._since = found, now
            return bool(self._last) and self._last != self._taken and now - self._since >= _AT_REST_SECONDS

    def take(self) -> None:
        """What is there counts as taken; call it before it is read."""
        with self._lock:
            self._taken = self._last


def _stamp(folder: Path) -> _Stamp:
    """Name, file number, time and size of each file in a folder and in its folders; none without a checkpoint."""
    found = []
    try:
        if not (folder / "model_index.json").is_file():
            return ()
        for path in (*folder.glob("*.json"), *folder.glob("*/*")):
            said = os.stat(path)
            found.append((str(path.relative_to(folder)), said.st_ino, said.st_mtime_ns, said.st_size))
    except OSError:  # It is just being replaced.
        return ()
    return tuple(sorted(found))
