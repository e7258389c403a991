"""Images with captions from WebDataset shards: `.tar` files of `key.png` beside `key.txt` or `key.json`.

A shard is read where it lies. Its headers and captions are read once, in order; an image is then read from its place
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

from mmgen.data.archives import hidden, is_archive
from mmgen.data.columns import IMAGES, SPLITS, column_key
from mmgen.data.report import Report
from mmgen.data.tables import WEAK, caption_values, is_metadata
from mmgen.data.words import clean, decode, fold
from mmgen.errors import UserError
from mmgen.images import HEAD, MAX_BYTES, open_image, pixel_version

MAX_TEXT = 1_000_000
PATTERN = set("*?[{")
_PLACE = re.compile(r"(?P<shard>.+\.tar)#(?P<start>\d+)\+(?P<size>\d+)/(?P<name>.+)", re.DOTALL | re.IGNORECASE)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass
class _Sample:
    """What a shard holds under one key.

    Attributes:
        images: place by what follows the key; others: captions and records likewise.
    """

    images: dict[str, str] = field(default_factory=dict)
    captions: dict[str, list[str]] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)

    def parts(self, key: str) -> Iterator[tuple[str, _Sample]]:
        """The samples whose names have a dot in their key, as `22.05.png`, and the rest.

        `key.seg.png` is about the image `key.png`, unless it has words of its own.
        """
        kinds = [*self.images, *self.captions, *self.records]
        dotted = {kind.rpartition(".")[0] for kind in kinds if "." in kind}
        plain_image = any("." not in kind for kind in self.images)
        plain_words = any("." not in kind for kind in (*self.captions, *self.records))
        rest = _Sample(dict(self.images), dict(self.captions), dict(self.records))
        for prefix in sorted(dotted):
            own = _Sample(*(_below(prefix, one) for one in (self.images, self.captions, self.records)))
            told = own.captions or own.records
            if own.images and (told or not (plain_image or plain_words)):
                yield f"{key}.{prefix}", own
                for ours, theirs in (
                    (rest.images, own.images),
                    (rest.captions, own.captions),
                    (rest.records, own.records),
                ):
                    for kind in theirs:
                        ours.pop(f"{prefix}.{kind}", None)
        if rest.images or rest.captions or rest.records:
            yield key, rest


def _below(prefix: str, kinds: dict[str, Any]) -> dict[str, Any]:
    return {kind.rpartition(".")[2]: value for kind, value in kinds.items() if kind.rpartition(".")[0] == prefix}


def find_shards(source: Path) -> list[tuple[Path, str]]:
    """The shards that a source names, each with its split, in order; none if it is another kind of source.

    Args:
        source: a `.tar` file, a pattern such as `pets-{000..009}.tar` or `shards/*.tar`, or a folder with `.tar` files
            in it or in its split sub-folders, and no metadata, images or other folders beside them. A shard's split
            is that of its sub-folder or the one in its name, as in `pets-test-000.tar`, else `train`.

    Raises:
        UserError: a pattern that fits nothing, or a shard of it that is missing.
    """

    if source.is_dir():
        shards, folders = [], [source]
        for folder in folders:
            for name in os.listdir(folder):
                file = folder / name
                if is_metadata(name) or file.suffix.lower() in IMAGES or (is_archive(file) and not _is_shard(file)):
                    return []
                if _is_shard(file):
                    shards.append(file)
                elif file.is_dir() and not hidden(name):
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


def split_of(name: str) -> str:
    """The split that a shard's or an archive's name says, as `pets-test-000.tar` does, else `train`."""
    return next((SPLITS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in SPLITS), "train")


def read_shard(shard: Path, report: Report, wrong: Report) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What a shard holds, image by image.

    Args:
        report: takes what was guessed and left out; wrong: takes what is wrong with single samples.

    Yields:
        the image's name for messages, its path for `open_image_at`, and its record: what `key.json` says, and the
        lines of `key.txt` as captions where that has none.

    Raises:
        UserError: the shard is damaged.
    """
    samples = _samples(shard, report, wrong)
    _join_forms(samples)
    for whole, group in samples.items():
        for key, sample in group.parts(whole):
            images = {kind: place for kind, place in sample.images.items() if "." not in kind} or sample.images
            if len(images) != 1:
                count = "several pictures" if images else "a caption but no picture"
                wrong.leave_out(shard.name, f"holds {count} named {key}. Write one picture for each key.")
                continue
            [(kind, place)] = images.items()
            record: dict[str, Any] = {}
            for one in sample.records.values():
                record = {**one, **record}
            if not record.get("text") and not record.get("captions"):
                said = [words for _, some in sorted(sample.captions.items(), key=_txt_first) for words in some]
                record = {**record, "captions": said}
            yield f"{key}.{kind} in {shard.name}", place, record


def named_record(text: str) -> dict[str, Any] | None:
    """The record in a JSON file beside an image, its captions under the names used here; None if it is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    record = {column_key(key): value for key, value in content.items()}
    strong = any(key not in WEAK for key, _ in caption_values(record))
    for key, value in caption_values(record):
        if not (strong and key in WEAK):
            return record if key in ("text", "captions") else {**record, "text": value}
    return record


def _join_forms(samples: dict[str, _Sample]) -> None:
    """Bring words to the image whose key differs from theirs in case or Unicode form alone, where there is one."""
    without = {key for key, one in samples.items() if one.images and not (one.captions or one.records)}
    lonely = [key for key, one in samples.items() if not one.images]
    folded: dict[str, list[str]] = {}
    for key in without if lonely else ():
        folded.setdefault(fold(key), []).append(key)
    for key in lonely:
        found = folded.get(fold(key), [])
        if len(found) == 1:
            words = samples.pop(key)
            samples[found[0]].captions |= words.captions
            samples[found[0]].records |= words.records


def _txt_first(one: tuple[str, list[str]]) -> tuple[bool, str]:
    return one[0] != "txt", one[0]


def open_image_at(path: str) -> Image.Image:
    """Open the image of a row, which is a file of its own or lies in a shard, as straight RGBA.

    Raises:
        UserError: it cannot be read.
    """
    place = _PLACE.fullmatch(path)
    content = content_of(path)
    if not place or isinstance(content, Path):
        return open_image(path)
    return open_image(content, f"{place['name']} in {Path(place['shard']).name}")


def content_of(path: str) -> Path | bytes:
    """What holds the image of a row: its file or, if it lies in a shard, its bytes.

    Raises:
        UserError: the shard cannot be read.
    """
    place = _PLACE.fullmatch(path)
    if not place:
        return Path(path)
    shard, size = Path(place["shard"]), int(place["size"])
    if size > MAX_BYTES:
        name = f"{place['name']} in {shard.name}"
        raise UserError(f"{name} is larger than {MAX_BYTES // 1_000_000} MB. Write a smaller copy of it.")
    try:
        with open(shard, "rb") as file:
            file.seek(int(place["start"]))
            return file.read(size)
    except OSError as error:
        raise UserError(f"{shard} can no longer be read ({error.strerror}). Put it back and try again.") from error


def pixel_stamp(path: str) -> str:
    """What changes with the pixels of a row's image: its place, its file's size and time, and how it is read.

    What always was read alike keeps the stamp that it has had, so that all that was computed of it stays good.

    Raises:
        OSError: its file is not there.
    """
    place, status = _PLACE.fullmatch(path), os.stat(file_of(path))
    with open(file_of(path), "rb") as file:
        file.seek(int(place["start"]) if place else 0)
        version = pixel_version(file.read(min(HEAD, int(place["size"])) if place else HEAD))
    return f"{path}|{status.st_size}|{status.st_mtime_ns}" + (f"|{version}" if version > 1 else "")


def name_at(path: str) -> str:
    """The image's own file name, without its folder."""
    place = _PLACE.fullmatch(path)
    return os.path.basename(place["name"] if place else path)


def file_of(path: str) -> str:
    """The file on disk that holds the image of a row."""
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


def _samples(shard: Path, report: Report, wrong: Report) -> dict[str, _Sample]:
    """Everything in a shard by key, after one pass over its headers and captions."""
    samples: dict[str, _Sample] = {}
    try:
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as packed:
            while member := packed.next():
                packed.members.clear()  # type: ignore[attr-defined]  # which would hold every header
                try:
                    _add(samples, shard, packed, member, report)
                except UserError as error:
                    wrong.refuse(f"{PurePosixPath(member.name).name} in {shard.name}", str(error))
            file.seek(packed.offset)  # `tarfile` takes damage between two members for the end.
            if any(file.read(512)):
                raise tarfile.ReadError(f"no header at byte {packed.offset:,}")
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(
            f"{shard.name} could not be read as a shard ({error}); it may be damaged, or cut short. Fetch it again."
        ) from error
    return samples


def _add(
    samples: dict[str, _Sample], shard: Path, packed: tarfile.TarFile, member: tarfile.TarInfo, report: Report
) -> None:
    """Put one member where it belongs; what is neither an image nor a caption is left out."""
    path = PurePosixPath(member.name)
    if member.isdir():
        return
    if any(hidden(part) for part in path.parts if part != "."):
        report.system.append(f"{path.name} in {shard.name}")
        return
    where = f"{path.name} in {shard.name}"
    if not member.isreg() or member.issparse():
        raise UserError(f"{where} is a link or no plain file. Write the shard again with plain files alone.")
    if where.encode("utf-8", "ignore").decode() != where:
        shown = where.encode("utf-8", "replace").decode()
        raise UserError(f"{shown} has a name with characters that are not UTF-8. Rename it.")
    stem, _, kind = path.name.partition(".")
    key, kind = (path.parent / stem).as_posix(), kind.lower()
    last = kind.rpartition(".")[2]
    is_image = f".{last}" in IMAGES
    if not is_image and last not in ("txt", "caption", "cap", "json"):
        report.leave_out(where, "is neither a picture nor words of one. It is not needed.")
        return
    sample = samples.setdefault(key, _Sample())
    if is_image:
        if kind in sample.images:
            raise UserError(f"{where} is there twice. Write one picture for each key.")
        sample.images[kind] = f"{shard.resolve()}#{member.offset_data}+{member.size}/{path.name}"
        return
    text = _text(packed, member, where, report)
    if last == "json":
        sample.records[kind] = _json(text, where, report)
    else:
        sample.captions[kind] = [words for line in re.split(r"\r\n|\r|\n", text) if (words := clean(line))]
    report.read.append(where)


def _text(packed: tarfile.TarFile, member: tarfile.TarInfo, where: str, report: Report) -> str:
    if member.size > MAX_TEXT:
        raise UserError(f"{where} is larger than {MAX_TEXT // 1_000_000} MB, as no caption is. Write a shorter one.")
    file = packed.extractfile(member)
    try:
        text, encoding = decode(file.read()) if file else ("", "")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not text in UTF-8. Write it as UTF-8.") from error
    if encoding:
        report.guess(f"{where} is not UTF-8 and was read as {encoding}. Save it as UTF-8 if that is wrong.")
    return text


def _json(text: str, where: str, report: Report) -> dict[str, Any]:
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({getattr(error, 'msg', error)}). Correct it.") from error
    record = named_record(text)
    if record is None:
        raise UserError(f"{where} is not a JSON object. Write one with text, and captions, label or style as you like.")
    return record
