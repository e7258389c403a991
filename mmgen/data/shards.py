"""Pictures with captions from WebDataset shards: `.tar` files of `key.png` beside `key.txt` or `key.json`.

A shard is read where it lies. Its headers and captions are read once, in order; a picture is then read from its place
in the file when it is wanted. Nothing is unpacked, and only names and captions are held in memory.
"""

from __future__ import annotations

import glob
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from mmgen.data.columns import IMAGES, METADATA, SPLITS
from mmgen.errors import UserError
from mmgen.images import MAX_BYTES, open_image

MAX_TEXT = 1_000_000
PATTERN = set("*?[{")
_PLACE = re.compile(r"(?P<shard>.+\.tar)#(?P<start>\d+)\+(?P<size>\d+)/(?P<name>.+)", re.DOTALL | re.IGNORECASE)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass
class _Sample:
    """What a shard holds under one key."""

    images: dict[str, str] = field(default_factory=dict)  # place by what follows the key
    captions: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)


def find_shards(source: Path) -> list[tuple[Path, str]]:
    """The shards that a source names, each with its split, in order; none if it is another kind of source.

    Args:
        source: a `.tar` file, a pattern such as `pets-{000..009}.tar` or `shards/*.tar`, or a folder with `.tar` files
            in it or in its split sub-folders, and no metadata, pictures or other folders beside them. A shard's split
            is that of its sub-folder or the one in its name, as in `pets-test-000.tar`, else `train`.

    Raises:
        UserError: a pattern that fits nothing, or a shard of it that is missing.
    """

    def split_of(name: str) -> str:
        return next((SPLITS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in SPLITS), "train")

    if source.is_dir():
        shards, folders = [], [source]
        for folder in folders:
            for name in os.listdir(folder):
                file = folder / name
                if name in METADATA or file.suffix.lower() in IMAGES:
                    return []
                if _is_shard(file):
                    shards.append(file)
                elif file.is_dir() and not name.startswith("."):
                    if folder != source or name.lower() not in SPLITS:
                        return []
                    folders.append(file)
        return [(file, split_of(file.relative_to(source).as_posix())) for file in sorted(shards)]
    if not _is_shard(source):
        return []
    if source.exists():
        shards = [source]
    elif PATTERN.intersection(str(source)):
        shards = [Path(name) for name in _expand(str(source))]
    else:
        return []
    return [(file, split_of(file.name)) for file in shards]


def read_shard(shard: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What a shard holds, picture by picture.

    Yields:
        the picture's name for messages, its path for `open_image_at`, and its record: what `key.json` says, and the
        lines of `key.txt` as captions where that has neither `text` nor `captions`.

    Raises:
        UserError: the shard or one of its members is damaged or wrong.
    """
    for key, sample in _samples(shard).items():
        # `key.seg.png` and the like are about the picture `key.png`.
        images = {kind: place for kind, place in sample.images.items() if "." not in kind} or sample.images
        if len(images) != 1:
            count = "several pictures" if images else "a caption but no picture"
            raise UserError(f"{shard.name} holds {count} named {key}. Write one picture for each key.")
        [(kind, place)] = images.items()
        record = sample.record
        if not record.get("text") and not record.get("captions"):
            record = {**record, "captions": sample.captions}
        yield f"{key}.{kind} in {shard.name}", place, record


def open_image_at(path: str) -> Image.Image:
    """Open the picture of a row, which is a file of its own or lies in a shard, as straight RGBA.

    Raises:
        UserError: it cannot be read.
    """
    place = _PLACE.fullmatch(path)
    if not place:
        return open_image(path)
    shard, size = Path(place["shard"]), int(place["size"])
    name = f"{place['name']} in {shard.name}"
    if size > MAX_BYTES:
        raise UserError(f"{name} is larger than {MAX_BYTES // 1_000_000} MB. Write a smaller copy of it.")
    try:
        with open(shard, "rb") as file:
            file.seek(int(place["start"]))
            content = file.read(size)
    except OSError as error:
        raise UserError(f"{shard} can no longer be read ({error.strerror}). Put it back and try again.") from error
    return open_image(content, name)


def file_of(path: str) -> str:
    """The file on disk that holds the picture of a row."""
    place = _PLACE.fullmatch(path)
    return place["shard"] if place else path


def _is_shard(path: Path) -> bool:
    return path.suffix.lower() == ".tar" and not path.name.startswith(".")


def _expand(pattern: str) -> list[str]:
    """The files that a pattern with `{000..009}`, `*`, `?` or `[...]` names, in order."""
    if span := _RANGE.search(pattern):
        first, last = span.groups()
        numbers = [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
        names = [pattern[: span.start()] + number + pattern[span.end() :] for number in numbers]
        found = [file for name in names for file in _expand(name)]
    else:
        found = [pattern] if os.path.isfile(pattern) else sorted(glob.glob(pattern))
    if not found:
        raise UserError(f"There is no shard {pattern}. Check the path, and put patterns between quotes.")
    return found


def _samples(shard: Path) -> dict[str, _Sample]:
    """Everything in a shard by key, after one pass over its headers and captions."""
    samples: dict[str, _Sample] = {}
    try:
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as packed:
            while member := packed.next():
                packed.members.clear()  # type: ignore[attr-defined]  # which would hold every header
                _add(samples, shard, packed, member)
            file.seek(packed.offset)  # `tarfile` takes damage between two members for the end.
            if any(file.read(512)):
                raise tarfile.ReadError(f"no header at byte {packed.offset:,}")
    except UserError:
        raise
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(
            f"{shard.name} could not be read as a shard ({error}); it may be damaged, cut short or compressed. Fetch "
            "it again, as a plain .tar file."
        ) from error
    return samples


def _add(samples: dict[str, _Sample], shard: Path, packed: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    """Put one member where it belongs; what is neither a picture nor a caption is left out."""
    path = PurePosixPath(member.name)
    if member.isdir() or any(part.startswith(".") or part == "__MACOSX" for part in path.parts if part != "."):
        return
    where = f"{path.name} in {shard.name}"
    if not member.isreg() or member.issparse():
        raise UserError(f"{where} is a link or no plain file. Write the shard again with plain files alone.")
    if where.encode("utf-8", "ignore").decode() != where:
        shown = where.encode("utf-8", "replace").decode()
        raise UserError(f"{shown} has a name with characters that are not UTF-8. Rename it.")
    stem, _, kind = path.name.partition(".")
    key, kind = (path.parent / stem).as_posix(), kind.lower()
    is_image = f".{kind.rpartition('.')[2]}" in IMAGES
    if not is_image and kind not in ("txt", "json"):
        return
    sample = samples.setdefault(key, _Sample())
    if is_image:
        if kind in sample.images:
            raise UserError(f"{where} is there twice. Write one picture for each key.")
        sample.images[kind] = f"{shard.resolve()}#{member.offset_data}+{member.size}/{path.name}"
    elif kind == "txt":
        sample.captions = _text(packed, member, where).splitlines()
    else:
        sample.record = _json(_text(packed, member, where), where)


def _text(packed: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> str:
    if member.size > MAX_TEXT:
        raise UserError(f"{where} is larger than {MAX_TEXT // 1_000_000} MB, as no caption is. Write a shorter one.")
    file = packed.extractfile(member)
    try:
        return file.read().decode("utf-8-sig") if file else ""
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not text in UTF-8. Write it as UTF-8.") from error


def _json(text: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({getattr(error, 'msg', error)}). Correct it.") from error
    if not isinstance(record, dict):
        raise UserError(f"{where} is not a JSON object. Write one with text, and captions, label or style as you like.")
    return record
