"""Zip and tar files, opened with care: nothing in them reaches outside their folder, or is far larger than it looks."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any

from charset_normalizer import from_bytes

from mmgen.errors import UserError

MAX_ENTRIES = 100_000
MAX_UNPACKED = 20_000_000_000
MAX_RATIO, RATIO_FROM = 200, 10_000_000  # files below the second may shrink as they like

_PACKED_TAR: dict[str, Callable[..., Any]] = {
    **{".tar.gz": gzip.open, ".tgz": gzip.open},
    **{".tar.bz2": bz2.open, ".tbz2": bz2.open},
    **{".tar.xz": lzma.open, ".txz": lzma.open},
}
_CODE_PAGES = ("cp437", "cp850", "cp932", "gb18030", "cp949", "big5", "cp866", "cp1251", "cp1252")


def is_zip(path: Path) -> bool:
    """Whether a file is a zip file, by its content."""
    return path.is_file() and zipfile.is_zipfile(path)


def packed_tar(path: Path) -> str:
    """The ending of a compressed tar file's name, or ""."""
    return next((ending for ending in _PACKED_TAR if path.name.lower().endswith(ending)), "")


def is_archive(path: Path) -> bool:
    """Whether a file is a zip file or a tar file, compressed or not, by its name."""
    return path.suffix.lower() in (".zip", ".tar") or bool(packed_tar(path))


def hidden(name: str) -> bool:
    """Whether a file or folder is one that the system put there."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def unpack(file: Path, folder: Path) -> None:
    """Unpack a zip or tar file with care into an empty folder.

    Raises:
        UserError: it is damaged or could do harm, or the disk is full.
    """
    with _opened(file) as extract:
        extract(folder)


def unpack_once(file: Path) -> Path:
    """Unpack a zip or tar file with care below the system's folder for temporary files, once, and return the folder.

    Raises:
        UserError: it is damaged or could do harm, or the disk is full.
    """
    home, folder = _place(file)
    fresh = Path(tempfile.mkdtemp(dir=home))
    try:
        with _opened(file) as extract:
            if folder.is_dir() and all((folder / name).is_file() for name in extract(None)):
                return folder
            extract(fresh)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(fresh, folder)
            return folder
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def plain_tar(file: Path, folder: Path | None = None) -> Path:
    """A tar file without its compression: the file itself if it has none.

    Args:
        folder: where to write it; by default, once, below the system's folder for temporary files.

    Raises:
        UserError: it is damaged, or unpacks to too much, or the disk is full.
    """
    ending = packed_tar(file)
    if not ending:
        return file
    title = file.name[: -len(ending)] + ".tar"
    if folder is None:
        home, folder = _place(file)
        if (folder / title).is_file():
            return folder / title
    folder.mkdir(parents=True, exist_ok=True)
    size = file.stat().st_size
    part = folder / f"{title}.part"
    try:
        with _told(file), _PACKED_TAR[ending](file) as source, open(part, "wb") as target:
            while block := source.read(1 << 20):
                target.write(block)
                done = target.tell()
                if done > MAX_UNPACKED or (done > RATIO_FROM and done > MAX_RATIO * size):
                    raise UserError(f"{file.name} unpacks to far more than pictures do. Give another file.")
        os.replace(part, folder / title)
    finally:
        part.unlink(missing_ok=True)
    return folder / title


def tar_names(file: Path) -> Iterator[str]:
    """Names of the files in a tar file without compression; those before its damage, if it has any."""
    try:
        with tarfile.open(file, "r:") as packed:
            while member := packed.next():
                packed.members.clear()  # type: ignore[attr-defined]  # which would hold every header
                yield member.name
    except (tarfile.TarError, OSError, ValueError):
        return


def unpacked_size(file: Path) -> int:
    """Bytes that a zip file says it unpacks to; 0 for what cannot be read."""
    try:
        with zipfile.ZipFile(file) as packed:
            return sum(entry.file_size for entry in packed.infolist())
    except (OSError, zipfile.BadZipFile):
        return 0 if not file.is_file() else file.stat().st_size


def _place(file: Path) -> tuple[Path, Path]:
    """The folder below which archives are unpacked, and that of this one."""
    status = file.stat()
    key = hashlib.sha256(f"{file.resolve()}\0{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()[:24]
    home = Path(tempfile.gettempdir()).resolve() / f"mmgen-zip-{os.getuid() if hasattr(os, 'getuid') else 'files'}"
    home.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and home.lstat().st_uid != os.getuid():
        raise UserError(f"{home} belongs to somebody else. Remove it, or set TMPDIR to a folder of your own.")
    return home, home / key


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Whatever goes wrong with an archive becomes a sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file provokes
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise UserError(f"The disk is too full to unpack {file.name}. Make room and try again.") from error
        if isinstance(error, NotImplementedError):
            why = "it is packed in a way that cannot be read here"
        else:
            why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file.name} could not be unpacked ({why}). Make it again, or give a folder.") from error


@contextmanager
def _opened(file: Path) -> Iterator[Callable[[Path | None], list[str]]]:
    """A function that unpacks an archive into a folder, and gives the names in it; with None it only gives these."""
    with _told(file):
        if is_zip(file):
            with zipfile.ZipFile(file) as packed:
                entries = _safe_entries(packed, file.name, file.stat().st_size)
                yield lambda folder: _extract(entries, packed.open, folder)
        elif not tarfile.is_tarfile(file):
            raise UserError(f"{file.name} is neither a zip nor a tar file, or a damaged one. Make it again.")
        else:
            with tarfile.open(file, "r:*") as opened:
                members = _safe_members(opened, file.name, file.stat().st_size)
                yield lambda folder: _extract(members, opened.extractfile, folder)


def _extract(names: dict[str, Any], read: Callable[[Any], Any], folder: Path | None) -> list[str]:
    for name, entry in names.items() if folder is not None else ():
        assert folder is not None
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with read(entry) as source, open(folder / name, "xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    return list(names)


def _safe_entries(packed: zipfile.ZipFile, title: str, size: int) -> dict[str, zipfile.ZipInfo]:
    """The files in a zip file by relative name, after checking that none can do harm."""
    entries = packed.infolist()
    total = sum(entry.file_size for entry in entries)
    _refuse_many(title, len(entries), total)
    names = {}
    for entry, written in zip(entries, _names(packed, entries), strict=True):
        name = PureWindowsPath(written)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if name.anchor or ".." in name.parts or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"{title} has {written}, a link or a path outside it. Make it again of plain files.")
        if entry.flag_bits & 1:
            raise UserError(f"{title} is locked with a password. Make it again without one, or give a folder.")
        if not written.endswith(("/", "\\")) and not any(hidden(part) for part in name.parts):
            names[name.as_posix()] = entry
    sizes = [(total, size), *((entry.file_size, entry.compress_size) for entry in entries)]
    if any(large > RATIO_FROM and large > MAX_RATIO * small for large, small in sizes):
        raise UserError(f"{title} unpacks to over {MAX_RATIO} times its size, as no pictures do. Give another file.")
    return names


def _safe_members(packed: tarfile.TarFile, title: str, size: int) -> dict[str, tarfile.TarInfo]:
    """The files in a tar file by relative name, after checking that none can do harm."""
    names, total = {}, 0
    for count, member in enumerate(packed, 1):
        total += member.size
        _refuse_many(title, count, total)
        if total > RATIO_FROM and total > MAX_RATIO * size:
            raise UserError(f"{title} unpacks to over {MAX_RATIO} times its size, as no pictures do. Give another.")
        name = PureWindowsPath(member.name)
        if name.anchor or ".." in name.parts or not (member.isreg() or member.isdir()):
            raise UserError(f"{title} has {member.name}, a link or a path outside it. Make it again of plain files.")
        if member.isreg() and not any(hidden(part) for part in name.parts):
            names[name.as_posix()] = member
    return names


def _refuse_many(title: str, count: int, total: int) -> None:
    if count > MAX_ENTRIES:
        raise UserError(f"{title} has more than {MAX_ENTRIES:,} entries. Unpack it yourself and give the folder.")
    if total > MAX_UNPACKED:
        raise UserError(f"{title} is over {MAX_UNPACKED // 10**9} GB unpacked. Unpack it yourself and give the folder.")


def _names(packed: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> list[str]:
    """The names in a zip file, of which those without the mark of UTF-8 are in the code page of who made it.

    `zipfile` reads these as code page 437. What they are is told by metadata that names them, or else guessed.
    """
    raw = [None if entry.flag_bits & 0x800 else entry.filename.encode("cp437", "replace") for entry in entries]
    odd = b"\n".join(name for name in raw if name and not name.isascii())
    if not odd:
        return [entry.filename for entry in entries]
    page = _code_page(odd, _told_names(packed, entries))
    return [
        entry.filename if name is None or name.isascii() else name.decode(page, "replace")
        for name, entry in zip(raw, entries, strict=True)
    ]


def _told_names(packed: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> str:
    """The text of all tables in a zip file, for the names in them."""
    tables = [one for one in entries if one.filename.lower().endswith((".jsonl", ".csv", ".json"))]
    texts = []
    for entry in tables[:10]:
        if entry.file_size < RATIO_FROM and not entry.flag_bits & 1:
            content = packed.read(entry).decode("utf-8", "ignore")
            texts.append(re.sub(r"\\u([0-9a-fA-F]{4})", lambda one: chr(int(one[1], 16)), content))
    return "\n".join(texts)


def _code_page(names: bytes, told: str) -> str:
    """The encoding of names, one a line."""
    if _decodes(names, "utf-8"):
        return "utf-8"
    able = [page for page in _CODE_PAGES if _decodes(names, page)]
    for page in able:
        if told and all(Path(name).stem in told for name in names.decode(page).split("\n")):
            return page
    high = [letter for letter in names.decode("cp437") if letter > "\x7f"]
    if all(letter.isalpha() for letter in high) and 4 * len(high) <= len(names):
        return "cp437"
    best = from_bytes(names, cp_isolation=[page for page in able if page not in ("cp437", "cp850")]).best()
    return best.encoding if best else "cp437"


def _decodes(names: bytes, page: str) -> bool:
    try:
        names.decode(page)
    except UnicodeDecodeError:
        return False
    return True
