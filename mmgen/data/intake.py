"""Images on their way into a draft: each is checked, and what can be read is made ready to be taken."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from mmgen.data.columns import KEPT_IMAGES
from mmgen.data.folder import Unpacker, nothing_found, read_source, record_of
from mmgen.data.report import Report
from mmgen.data.shards import content_of, name_at
from mmgen.errors import UserError
from mmgen.images import open_image

KEPT_SIDE = 1024
"""Longest side in pixels at which images are kept: four times what the model draws."""

MAX_CAPTION = 20_000
"""Characters of a caption; some hundred times what a text encoder reads."""

_SUFFIXES = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tiff",
    "AVIF": ".avif",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # names that Windows keeps for itself


class Arrival(NamedTuple):
    """An image that is offered, with what is known of it."""

    source: Path | bytes | str  # of a shard's image its place, as `mmgen.data.shards` gives it
    name: str  # the file's own name, or "" if it has none
    captions: list[str]
    machine_written: bool = False
    ours: bool = False  # whether its file may be moved away
    scaled_from: tuple[int, int] | None = None


class Checked(NamedTuple):
    """An image that can be read, in the folder where it waits."""

    file: Path
    name: str  # a safe file name, not yet unique
    captions: list[str]
    machine_written: bool
    scaled_from: tuple[int, int] | None  # its own width and height, if it was scaled down


def check(arrivals: Iterable[Arrival], folder: Path, report: Report) -> Iterator[Checked | None]:
    """Put each image that can be read into `folder`; tell `report` of, and give None for, each other.

    Images larger than `KEPT_SIDE` are scaled down, and kinds that are not in `IMAGES` saved again; all others are
    kept to the byte.
    """
    for number, arrival in enumerate(arrivals):
        try:
            yield _check(arrival, folder / str(number))
        except UserError as error:
            report.refuse(arrival.name, str(error))
            yield None
        except OSError as error:
            if error.errno in _FULL:
                raise
            report.leave_out(arrival.name, f"cannot be read ({error.strerror or error}). Check its permissions.")
            yield None


def _check(arrival: Arrival, target: Path) -> Checked:
    source = content_of(arrival.source) if isinstance(arrival.source, str) else arrival.source
    name = safe_name(arrival.name)
    image = open_image(source, arrival.name or "A picture")
    suffix = Path(name).suffix.lower()
    scaled_from = arrival.scaled_from
    if suffix not in KEPT_IMAGES:
        suffix = _suffix(source)
    if max(image.size) > KEPT_SIDE or suffix not in KEPT_IMAGES:
        if max(image.size) > KEPT_SIDE:
            scaled_from = scaled_from or image.size
            image = _scaled(image)
        suffix = ".png" if image.getchannel("A").getextrema() != (255, 255) else ".jpg"
        kept = image if suffix == ".png" else image.convert("RGB")
        kept.save(target, _format(suffix), **({"quality": 95} if suffix == ".jpg" else {}))
    elif isinstance(source, bytes):
        target.write_bytes(source)
    elif arrival.ours:
        os.replace(source, target)
    else:
        shutil.copyfile(source, target)
    captions = list(dict.fromkeys(words for caption in arrival.captions if (words := clean(caption)))) or [""]
    stem = Path(name).stem if Path(name).suffix.lower() in KEPT_IMAGES else name
    return Checked(target, stem + suffix, captions, arrival.machine_written, scaled_from)


def _scaled(image: Image.Image) -> Image.Image:
    factor = KEPT_SIDE / max(image.size)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.convert("RGBa").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0).convert("RGBA")


def _suffix(source: Path | bytes) -> str:
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return _SUFFIXES.get(image.format or "", "")
    except OSError:  # One of the kinds that Pillow itself does not know.
        return ""


def _format(suffix: str) -> str:
    return next(name for name, value in _SUFFIXES.items() if value == suffix)


def clean(caption: str) -> str:
    """A caption without spaces around it and halves of characters, as `mmgen.data.folder` would read it.

    What is longer than `MAX_CAPTION` is cut there.
    """
    return caption[:MAX_CAPTION].encode("utf-8", "ignore").decode().strip()


def safe_name(name: str) -> str:
    """A file name that every system takes: letters of any language, digits, spaces, `-`, `_`, `.` and brackets."""
    name = unicodedata.normalize("NFC", clean(re.split(r"[\\/]", name)[-1]))
    name = re.sub(r"[^\w\-. ()]", "_", name).strip(". ")
    stem, suffix = os.path.splitext(name)
    if len(suffix.encode()) > 10:
        stem, suffix = name, ""
    stem = stem.encode()[:100].decode("utf-8", "ignore").strip(". ") or "picture"
    return f"_{stem}{suffix}" if _RESERVED.match(stem) else stem + suffix


def unique_names(names: Iterable[str], taken: Iterable[str]) -> Iterator[str]:
    """Each name, or the name with the next free number, so that none is there twice, not even in other case."""
    used = {name.casefold() for name in taken}
    numbers: dict[str, int] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        key, wanted = name.casefold(), name
        while wanted.casefold() in used:
            numbers[key] = numbers.get(key, 1) + 1
            wanted = f"{stem}-{numbers[key]}{suffix}"
        used.add(wanted.casefold())
        yield wanted


def source_arrivals(source: Path, title: str, report: Report, unpacker: Unpacker, ours: bool = False) -> list[Arrival]:
    """The images of a folder, an archive or shards with their captions, as `mmgen.data.folder` reads them, each once.

    Args:
        title: what to call it in messages.
        report: takes what was guessed, and what cannot be taken while the rest can.
        ours: whether the files may be moved away.

    Raises:
        UserError: there are none, or the metadata cannot be read.
    """
    found: dict[str, Arrival] = {}
    wrong = Report()
    for row in read_source(source, report, wrong, unpacker):
        try:
            captions = record_of(row)["captions"]
        except UserError as error:
            wrong.refuse(row.where, str(error))
            continue
        written = str(row.record.get("machine_written")).lower() in ("true", "1")
        new = Arrival(row.path, name_at(row.path), [], written, ours, _size(row.record))
        found.setdefault(row.path, new).captions.extend(captions)
    if not found:
        raise nothing_found(title, wrong)
    report.add(wrong)
    return list(found.values())


def _size(record: dict) -> tuple[int, int] | None:
    size = record.get("scaled_from")
    if isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size):
        return size[0], size[1]
    return None


@contextmanager
def disk_errors_told() -> Iterator[None]:
    """Turn a full disk, or one that cannot be written, into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError("The disk is full, so nothing was changed. Make room and try again.") from error
        what = f"{error.filename or 'The disk'} cannot be read or written ({error.strerror or error})"
        raise UserError(f"{what}, so nothing was changed. Check it and try again.") from error
