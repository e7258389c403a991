"""What a training process tells the world, and hears from it, by small files in its run's folder.

lock         held as long as the process lives, so that nobody has to trust a process number
status.json  how far it is
command      "pause" or "stop", taken away once it is obeyed
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from pathlib import Path

from mmgen.errors import UserError
from mmgen.io import FileLock, is_locked, read_json, write_json, write_text

COMMANDS = ("pause", "stop")
DISK_FULL = "The disk is full. The last saved state is kept; make room, then resume."
DISK_FULL_AT_ONCE = "The disk is full, and nothing had been saved yet. Make room, then start again."

_REPORT_SECONDS, _LISTEN_SECONDS, _LOCK_SECONDS = 0.5, 0.2, 2.0


class Halted(Exception):
    """Told to pause or stop before the first step."""


class Control:
    """The training process's side. A context manager that holds the lock; a failure inside becomes the status.

    Raises:
        UserError: another process trains in the folder, or it cannot be written.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._values: dict[str, object] = {}
        self._reported = self._listened = float("-inf")
        self._lock = FileLock(self.folder / "lock")

    def __enter__(self) -> Control:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = self._lock.acquire(_LOCK_SECONDS)  # Whoever asks `is_alive` holds it for a moment.
        except OSError as error:
            raise UserError(explain(error, self.folder)) from error
        if not held:
            raise UserError(f"Another process trains in {self.folder}. Wait for it, or choose another --output.")
        self._values = status(self.folder)
        self.report(state="starting", message="", error=None)
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            if isinstance(error, Exception) and not isinstance(error, Halted):
                self.report(state="failed", error=explain(error, self.folder))
            self._write()
        finally:
            self._lock.release()

    def report(self, **values: object) -> None:
        """Write what has changed; at most twice a second, unless the state changes. A full disk loses a report only."""
        hurry = values.get("state", self._values.get("state")) != self._values.get("state")
        self._values.update(values)
        if hurry or time.monotonic() - self._reported >= _REPORT_SECONDS:
            self._write()

    def command(self) -> str | None:
        """`pause`, `stop` or None; the file is taken away."""
        if time.monotonic() - self._listened < _LISTEN_SECONDS:
            return None
        self._listened = time.monotonic()
        return take_command(self.folder)

    def check_abort(self) -> None:
        """Obey a command where nothing has been trained yet that could be lost.

        Raises:
            Halted: there was one; the status says so.
        """
        command = self.command()
        if command:
            self.report(state="paused" if command == "pause" else "stopped", message="", eta_seconds=None)
            raise Halted(command)

    def failed(self, error: Exception) -> UserError:
        """Report a failure of the disk, and give the sentence to raise."""
        text = explain(error, self.folder)
        self.report(state="failed", error=text)
        return UserError(text)

    def _write(self) -> None:
        self._reported = time.monotonic()
        self._values.update(memory_mb=_memory(), updated=round(time.time(), 1))
        try:
            write_status(self.folder, self._values)
        except OSError:
            pass


def is_alive(folder: Path) -> bool:
    """Whether a process trains in a folder."""
    return is_locked(Path(folder) / "lock")


def status(folder: Path) -> dict:
    """What the process last reported; empty if it has said nothing that can be read."""
    return read_json(Path(folder) / "status.json")


def write_status(folder: Path, values: dict[str, object]) -> None:
    """Replace the whole status; for whoever holds the lock, or knows that nobody does.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    write_json(Path(folder) / "status.json", values)


def send(folder: Path, command: str) -> None:
    """Ask the process in a folder to `pause` or to `stop`; a pause after an unheard stop changes nothing.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    if command not in COMMANDS:
        raise ValueError(f"{command!r} is no command")
    if not (command == "pause" and pending_command(folder) == "stop"):
        write_text(Path(folder) / "command", command)


def pending_command(folder: Path) -> str | None:
    """The command that has been sent and not been heard."""
    return _read_command(Path(folder) / "command")


def take_command(folder: Path) -> str | None:
    """The command that has been sent, which is taken away; one that comes at the same moment is not lost."""
    taken = Path(folder) / f"command.{secrets.token_hex(4)}.taken"
    try:
        os.replace(Path(folder) / "command", taken)
    except OSError:
        return None
    command = _read_command(taken)
    taken.unlink(missing_ok=True)
    return command


def explain(error: BaseException, folder: Path) -> str:
    """A sentence for what went wrong in a training in `folder`."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if is_disk_full(error):
        return DISK_FULL if any(Path(folder).glob("state-*")) else DISK_FULL_AT_ONCE
    if isinstance(error, OSError):
        return f"{error.filename or folder} cannot be used ({error.strerror or error}). Check it, then resume."
    if isinstance(error, MemoryError):
        return "The memory was not enough. Close other programs, then resume."
    words = " ".join(str(error).split())
    return f"The training failed ({type(error).__name__}: {words[:300]})."


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, is that of a full disk; libraries wrap it in errors of their own."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            return True
        if "No space left on device" in str(error) or "PytorchStreamWriter failed writing" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _read_command(file: Path) -> str | None:
    try:
        word = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return word if word in COMMANDS else None


def _memory() -> int | None:
    """Megabytes that this process holds now, where the system tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000
