"""Pairs of pictures and captions in a folder that is whole at every moment.

The folder holds `pictures/`, and a `metadata.jsonl` with `file_name` and `text`, and where there is something to tell
`captions` (all of them, if a picture has several), `machine_written` and `scaled_from`.
`mmgen.data.folder.load_pairs(folder, need_text=False)` reads it.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

from PIL import Image

from mmgen.data.intake import clean, disk_errors_told
from mmgen.errors import UserError
from mmgen.images import open_image
from mmgen.io import replacing

_LOCKS: defaultdict[Path, threading.RLock] = defaultdict(threading.RLock)


@dataclass(frozen=True)
class Pair:
    """A picture and what is said of it.

    Attributes:
        name: the picture's file name, which stays the same and is there once in the draft.
        text: the caption, "" if there is none.
        machine_written: whether the caption was written by a model.
        others: further captions of the same picture.
        scaled_from: width and height that the picture had, if it was scaled down when it was added.
    """

    name: str
    path: Path
    text: str
    machine_written: bool = False
    others: tuple[str, ...] = ()
    scaled_from: tuple[int, int] | None = None


class PairFolder:
    """The pairs in a folder, made if it is not there. Several threads may use it; several processes may not.

    Raises:
        UserError: from every method, if the disk is full or cannot be written; the pairs are then as they were.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder).resolve()
        self._images = self.folder / "pictures"
        self._metadata = self.folder / "metadata.jsonl"
        self._lock = _LOCKS[self.folder]
        self._known: tuple[tuple, dict[str, Pair]] | None = None
        with disk_errors_told(), self._lock:
            self._images.mkdir(parents=True, exist_ok=True)
            if not self._metadata.exists():
                self._save({})

    @property
    def pairs(self) -> list[Pair]:
        """All pairs, in the order in which they were added."""
        return list(self._load().values())

    def pair(self, name: str) -> Pair:
        """The pair of a name.

        Raises:
            UserError: there is none.
        """
        try:
            return self._load()[name]
        except KeyError:
            raise UserError(f"{name} is not among the pairs any more. Choose another.") from None

    def __len__(self) -> int:
        return len(self._load())

    def set_caption(self, name: str, text: str, machine_written: bool = False) -> None:
        """Give a pair another caption.

        Raises:
            UserError: there is no such pair.
        """
        self.pair(name)
        self.set_captions({name: text}, machine_written)

    def set_captions(self, texts: Mapping[str, str], machine_written: bool | None = False) -> None:
        """Give many pairs other captions at once; names that are not there any more are passed over.

        Args:
            machine_written: whether a model wrote them; None leaves what was said of that.
        """
        with self._change() as pairs:
            for name in texts.keys() & pairs.keys():
                written = pairs[name].machine_written if machine_written is None else machine_written
                pairs[name] = replace(pairs[name], text=clean(texts[name]), machine_written=written)

    def fill_captions(self, texts: Mapping[str, str]) -> int:
        """Give captions that a model wrote to those pairs that have none by now; other names are passed over.

        Returns:
            How many were given.
        """
        with self._change() as pairs:
            empty = [name for name in texts.keys() & pairs.keys() if not pairs[name].text]
            for name in empty:
                pairs[name] = replace(pairs[name], text=clean(texts[name]), machine_written=True)
        return len(empty)

    def remove(self, names: Iterable[str]) -> None:
        """Remove pairs; names that are not there any more are passed over."""
        with self._change() as pairs:
            for name in names:
                pairs.pop(name, None)

    def clear(self) -> None:
        """Remove all pairs."""
        with self._change() as pairs:
            pairs.clear()

    def merge(self, copies: Mapping[str, str]) -> None:
        """Remove copies, each named with the pair it is a copy of, which takes over the copy's captions."""
        with self._change() as pairs:
            for copy, kept in copies.items():
                if copy != kept and copy in pairs and kept in pairs:
                    gone, stays = pairs.pop(copy), pairs[kept]
                    if not stays.text:
                        stays = replace(stays, text=gone.text, machine_written=gone.machine_written)
                    others = dict.fromkeys((*stays.others, gone.text, *gone.others))
                    further = tuple(words for words in others if words not in ("", stays.text))
                    pairs[kept] = replace(stays, others=further)

    def export(self, path: Path | str) -> Path:
        """Write a zip file that `add_archive` reads back, captions equal to the byte.

        Raises:
            UserError: there are no pairs.
        """
        path = Path(path)
        with disk_errors_told(), self._lock:
            pairs = self._load()
            if not pairs:
                raise UserError("There are no pairs to export. Add pictures first.")
            # Stored, not deflated: pictures do not shrink, and words that shrink too well look like a zip bomb.
            with replacing(path) as part, zipfile.ZipFile(part, "w", strict_timestamps=False) as packed:
                packed.writestr("metadata.jsonl", _lines(pairs.values()))
                for pair in pairs.values():
                    packed.write(pair.path, f"pictures/{pair.name}")
        return path

    def freeze(self, target: Path | str) -> Path:
        """Lay the pairs as they are now into a new folder, which nothing done to the draft later will alter.

        Raises:
            UserError: there are no pairs, a picture is not there any more, or the folder is there and not empty.
        """
        target = Path(target)
        part = target.with_name(target.name + ".part")
        with disk_errors_told(), self._lock:
            pairs = self._load()
            if not pairs:
                raise UserError("There are no pairs to train on. Add pictures first.")
            shutil.rmtree(part, ignore_errors=True)
            try:
                (part / "pictures").mkdir(parents=True)
                for pair in pairs.values():
                    _link(pair.path, part / "pictures" / pair.name)
                (part / "metadata.jsonl").write_text(_lines(pairs.values()), encoding="utf-8", newline="\n")
                os.replace(part, target)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        return target

    def thumbnail(self, name: str, side: int = 96) -> Path:
        """A small WebP copy of a picture, at most `side` pixels wide and high, made once.

        Raises:
            UserError: there is no such pair, or its picture cannot be read.
        """
        source = self.pair(name).path
        target = self.folder / "thumbnails" / str(side) / f"{name}.webp"
        with disk_errors_told():
            changed = source.stat().st_mtime_ns
            if not (target.exists() and target.stat().st_mtime_ns == changed):
                image = open_image(source)
                image.thumbnail((side, side), Image.Resampling.LANCZOS)
                target.parent.mkdir(parents=True, exist_ok=True)
                with replacing(target) as part:
                    image.save(part, "WEBP", quality=80, method=2)
                    os.utime(part, ns=(changed, changed))
        return target

    @contextmanager
    def _change(self) -> Iterator[dict[str, Pair]]:
        """The pairs to be changed; they are written once at the end, and pictures that are in none go."""
        with disk_errors_told(), self._lock:
            before = self._load()
            pairs = dict(before)
            try:
                yield pairs
                if pairs != before:
                    self._save(pairs)
            except BaseException:
                self._discard(pairs.keys() - before.keys())
                raise
            self._discard(before.keys() - pairs.keys())

    def _discard(self, names: Iterable[str]) -> None:
        small = list(self.folder.glob("thumbnails/*"))
        for name in names:
            for path in (self._images / name, *(sizes / f"{name}.webp" for sizes in small)):
                path.unlink(missing_ok=True)

    def _load(self) -> dict[str, Pair]:
        with disk_errors_told():
            stamp = _stamp(self._metadata)
            if self._known is None or self._known[0] != stamp:
                self._known = (stamp, self._read())
            return self._known[1]

    def _read(self) -> dict[str, Pair]:
        pairs = {}
        try:
            for line in self._metadata.read_text(encoding="utf-8").split("\n"):
                if line.strip():
                    row = json.loads(line)
                    name = PureWindowsPath(row["file_name"]).name
                    size = row.get("scaled_from")
                    others = tuple(words for words in row.get("captions", ()) if words != row["text"])
                    pairs[name] = Pair(
                        name,
                        self._images / name,
                        row["text"],
                        bool(row.get("machine_written")),
                        others,
                        tuple(size) if size else None,
                    )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{self._metadata} is damaged. Mend it by hand, or start a new set of pairs.") from error
        return pairs

    def _save(self, pairs: dict[str, Pair]) -> None:
        with replacing(self._metadata) as part:
            part.write_text(_lines(pairs.values()), encoding="utf-8", newline="\n")
            stamp = _stamp(part)
        self._known = (stamp, pairs)


def _lines(pairs: Iterable[Pair]) -> str:
    return "".join(json.dumps(_row(pair), ensure_ascii=False) + "\n" for pair in pairs)


def _row(pair: Pair) -> dict[str, object]:
    row: dict[str, object] = {"file_name": f"pictures/{pair.name}", "text": pair.text}
    if pair.others:
        row["captions"] = [words for words in (pair.text, *pair.others) if words]
    if pair.machine_written:
        row["machine_written"] = True
    if pair.scaled_from:
        row["scaled_from"] = list(pair.scaled_from)
    return row


def _stamp(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _link(source: Path, target: Path) -> None:
    """A hard link where the disk has them, else a copy; no draft writes into a picture, so either stays as it is."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
