"""Files that are there whole or not at all, JSON, and locks between processes."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Where to write what becomes `file` at the end of the block, at once; after an error nothing has changed."""
    part = file.with_name(f"{file.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Where to lay out what becomes `folder` at the end of the block, at once; for one process at a time.

    What stood there lies in `folder.old` for the moment in between. After an error nothing has changed.
    """
    part, old = (folder.with_name(folder.name + ending) for ending in (".part", ".old"))
    shutil.rmtree(part, ignore_errors=True)
    try:
        yield part
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(file: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(file) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_json(file: Path, content: object, indent: int | None = 1, **options: Any) -> None:
    """Write a JSON file, whole or not at all.

    Args:
        options: of `json.dumps`.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    write_text(file, json.dumps(content, indent=indent, **options) + "\n")


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one if the file is not there, or holds none that can be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


class FileLock:
    """A lock on a file that the system frees when the last process that has it open ends, however that ends.

    It is that of the open file: a child process that is given `fileno()` holds it too, for as long as it lives.
    """

    def __init__(self, file: Path):
        self.file = Path(file)
        self._handle: int | None = None

    def acquire(self, seconds: float = 0.0, shared: bool = False) -> bool:
        """Take the lock, or try to for so many seconds.

        Args:
            shared: with others who share it, where the system has such locks.

        Returns:
            Whether it is held now.

        Raises:
            OSError: the file cannot be made, its folder is gone, or the disk has no locks.
        """
        deadline = time.monotonic() + seconds
        while not self._try(shared):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        return True

    def release(self) -> None:
        """Close the file; a child process that was given it keeps the lock."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def fileno(self) -> int | None:
        """Number of the open file, for `pass_fds`."""
        return self._handle

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def _try(self, shared: bool) -> bool:
        handle = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            # What was locked may be a file that has been moved away meanwhile, with its folder.
            if _lock(handle, shared) and _is_same(handle, self.file):
                self._handle = handle
        finally:
            if self._handle != handle:
                os.close(handle)
        return self._handle is not None


def is_locked(file: Path) -> bool:
    """Whether somebody holds a `FileLock` on a file, not counting those who share it."""
    try:
        handle = os.open(file, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _lock(handle, shared=True)
    finally:
        os.close(handle)


def _lock(handle: int, shared: bool) -> bool:
    """Lock an open file without waiting; False if somebody else has."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # The latter on Windows.
        return False
    return True


def _is_same(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(file))
    except FileNotFoundError:
        return False
