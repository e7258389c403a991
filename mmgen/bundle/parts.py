"""A folder as one stream in parts of at most so many bytes, and back."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from mmgen.errors import UserError

_PART = re.compile(r"(?P<name>[\w-]+)\.(?P<number>\d+)of(?P<count>\d+)")


class _Splitter(io.RawIOBase):
    """Writes files `name.1`, `name.2`, ... of at most `most` bytes, and keeps their digests."""

    def __init__(self, folder: Path, name: str, most: int):
        self.folder, self.name, self.most = folder, name, most
        self.files: list[Path] = []
        self._file: io.BufferedWriter | None = None
        self._left = 0

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        view = memoryview(data)
        while len(view):
            file = self._file if self._file and self._left else self._next()
            some = view[: self._left]
            file.write(some)
            self._left -= len(some)
            view = view[len(some) :]
        return len(data)

    def close(self) -> None:
        if self._file:
            self._file.close()
        super().close()

    def _next(self) -> io.BufferedWriter:
        if self._file:
            self._file.close()
        self.files.append(self.folder / f"{self.name}.{len(self.files) + 1}")
        file = open(self.files[-1], "wb")
        self._file, self._left = file, self.most
        return file


def write_parts(source: Path, folder: Path, name: str, most: int) -> list[Path]:
    """Write all that a folder holds as `folder/name.1of3` and so on, each of at most `most` bytes.

    Put end to end they are a tar file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splitter = _Splitter(folder, name, most)
    with io.BufferedWriter(splitter, 1 << 20) as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                tar.add(path, path.relative_to(source).as_posix(), filter=_plain)
    count = len(splitter.files)
    parts = [file.with_name(f"{name}.{number}of{count}") for number, file in enumerate(splitter.files, start=1)]
    for file, part in zip(splitter.files, parts, strict=True):
        os.replace(file, part)
    return parts


def read_parts(parts: list[Path], folder: Path) -> None:
    """Unpack what `write_parts` wrote.

    Raises:
        UserError: they are not whole.
    """

    class Joined(io.RawIOBase):
        def __init__(self):
            self._chunks = self._read()

        def _read(self) -> Iterator[bytes]:
            for part in parts:
                with open(part, "rb") as file:
                    while chunk := file.read(1 << 20):
                        yield chunk

        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:
            if not getattr(self, "_rest", b""):
                self._rest = next(self._chunks, b"")
            some, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
            buffer[: len(some)] = some
            return len(some)

    try:
        with tarfile.open(fileobj=io.BufferedReader(Joined(), 1 << 20), mode="r|") as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{parts[0].parent} holds parts that are damaged. Bring them over again.") from error


def whole_series(files: list[Path]) -> list[list[Path]]:
    """Of files with names as `write_parts` gives them those series that are whole, by name."""
    found: dict[tuple[str, int], dict[int, Path]] = {}
    for file in files:
        if match := _PART.fullmatch(file.name):
            found.setdefault((match["name"], int(match["count"])), {})[int(match["number"])] = file
    return [
        [parts[number] for number in sorted(parts)]
        for (_, count), parts in sorted(found.items())
        if sorted(parts) == list(range(1, count + 1))
    ]


def sha256(file: Path) -> str:
    """Of a file, in hex."""
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """An entry that says nothing of this machine."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o644
    return entry
