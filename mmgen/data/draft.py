"""A person's pairs of pictures and captions while they are being prepared: what comes in, and from where."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mmgen.data.archives import is_archive, is_zip, packed_tar, plain_tar, unpack, unpacked_size
from mmgen.data.columns import IMAGES
from mmgen.data.hub import stream_pairs
from mmgen.data.intake import Arrival, Checked, check, disk_errors_told, source_arrivals, unique_names
from mmgen.data.pair_folder import Pair, PairFolder
from mmgen.data.report import Report
from mmgen.data.tables import is_metadata, may_be_table
from mmgen.data.words import fold
from mmgen.errors import UserError
from mmgen.quota import ADDRESS, UNLIMITED, Quota, disk_use, neighbours

__all__ = ["MAX_PAIRS", "Added", "Draft", "Pair"]

MAX_PAIRS = 50_000
SPARE = 2e9
"""Bytes of the disk that pairs of people with a quota leave free."""

Progress = Callable[[float, str], None]
"""Takes how much is done, 0 to 1, and what is being done, in words."""

_ARRIVING: set[Path] = set()  # folders that hold pictures on their way in; others of the kind were left by a crash


@dataclass
class Added:
    """What came of adding.

    Attributes:
        names: of the new pairs.
        report: what was taken, guessed and left out.
        refused: a sentence for each reason for which something was not taken.
    """

    names: list[str] = field(default_factory=list)
    report: Report = field(default_factory=Report)

    @property
    def refused(self) -> list[str]:
        return self.report.problems()


class Draft(PairFolder):
    """Pairs that a person gathers from files, zip files, folders and the Hub, kept as `PairFolder` says.

    Args:
        folder: `drafts/<id>` in the person's folder, if there is a quota.
        quota: how many pairs and bytes the person may have.
    """

    def __init__(self, folder: Path | str, quota: Quota = UNLIMITED):
        super().__init__(folder)
        self._quota, self._disk = quota, quota.disk

    def add_images(
        self,
        paths: Sequence[Path | str],
        captions: Sequence[str] | None = None,
        on_progress: Progress | None = None,
    ) -> Added:
        """Add picture files; the readable ones are taken, whatever the others are.

        Args:
            captions: one for each path; none by default.

        Raises:
            UserError: there are not as many captions as paths.
        """
        if captions is not None and len(captions) != len(paths):
            raise UserError(f"There are {len(captions)} captions for {len(paths)} pictures; give as many.")
        texts = captions if captions is not None else [""] * len(paths)
        arrivals = [Arrival(Path(path), Path(path).name, [text]) for path, text in zip(paths, texts, strict=True)]
        with self._incoming() as scratch:
            return self._take(arrivals, len(arrivals), scratch, Report(), on_progress)

    def add_files(self, paths: Sequence[Path | str], on_progress: Progress | None = None) -> Added:
        """Add whatever a person drops at once: pictures, captions beside them, metadata, zip files and folders."""
        added, loose = Added(), []
        for path in map(Path, paths):
            if path.is_dir() or is_archive(path):
                add = self.add_folder if path.is_dir() else self.add_archive
                self._gather(added, partial(add, path, on_progress))
            else:
                loose.append(path)
        told = [path for path in loose if path.is_file() and (_tells(path) or path.suffix.lower() in IMAGES)]
        if any(map(_tells, told)):
            self._gather(added, lambda: self._add_told(told, on_progress))
            loose = [path for path in loose if path not in told]
        if loose:
            self._gather(added, lambda: self.add_images(loose, on_progress=on_progress))
        return added

    def add_archive(self, path: Path | str, on_progress: Progress | None = None) -> Added:
        """Add a zip or tar file of pictures, laid out as `mmgen.data.folder.load_pairs` reads them, or a shard.

        Raises:
            UserError: it is no such file, could do harm, is damaged, holds no pictures, or its metadata is wrong.
        """
        path = Path(path).expanduser()
        is_tar = path.suffix.lower() == ".tar" or packed_tar(path)
        if not path.is_file() or not (is_tar or is_zip(path)):
            raise UserError(f"{path.name} is not a zip file, or a damaged one. Make it again, or give the pictures.")
        with self._incoming() as scratch:
            self._refuse_large(path)
            if packed_tar(path):
                path = plain_tar(path, scratch / "tar")
            return self._add_below(path, path.name, scratch, on_progress, ours=True)

    def add_folder(self, path: Path | str, on_progress: Progress | None = None) -> Added:
        """Add copies of the pictures of a folder, laid out as in `add_archive`.

        Raises:
            UserError: there is no such folder, it holds no pictures, or its metadata is wrong.
        """
        path = Path(path).expanduser()
        if not path.is_dir():
            raise UserError(f"There is no folder at {path}. Check the path and try again.")
        with self._incoming() as scratch:
            return self._add_below(path, str(path), scratch, on_progress)

    def add_hub(
        self,
        name: str | Path,
        image_column: str | None = None,
        text_column: str | None = None,
        revision: str | None = None,
        split: str = "train",
        limit: int = 10_000,
        on_progress: Progress | None = None,
    ) -> Added:
        """Add the first pairs of a data set of the Hub, fetched as they are needed; its code is never run.

        Args:
            name: `user/name` on the Hub. Only a `Path`, never a string, may be a folder of this machine, so that what
                a stranger types into a page opens nothing here.
            image_column, text_column: guessed where None.

        Raises:
            UserError: it cannot be reached, there is no such data set, split or column, or the columns cannot be
                guessed. What was fetched before a connection broke is kept.
        """
        report = Report()
        arrivals = stream_pairs(name, image_column, text_column, revision, split, limit, report)
        with self._incoming() as scratch:
            return self._take(arrivals, limit, scratch, report, on_progress)

    def _gather(self, added: Added, add: Callable[[], Added]) -> None:
        """Add what `add` adds; what it refuses altogether becomes one more sentence."""
        try:
            more = add()
        except UserError as error:
            more = Added()
            more.report.refuse("", str(error))
        added.names += more.names
        added.report.add(more.report)

    def _add_told(self, files: list[Path], on_progress: Progress | None) -> Added:
        """Pictures that came loose together with their captions or metadata.

        Files of one folder belong together. A browser tells no folders: there names decide, and what is named twice has
        no caption rather than another's.
        """
        with self._incoming() as scratch:
            together = scratch / "together"
            report = Report()
            for number, some in enumerate(_groups(files, report)):
                folder = together / f"{number}" if number else together
                folder.mkdir(parents=True, exist_ok=True)
                for path in some:
                    shutil.copyfile(path, folder / path.name)
            added = self._add_below(together, "what was dropped", scratch, on_progress, ours=True)
        report.add(added.report)
        return Added(added.names, report)

    def _add_below(
        self, source: Path, title: str, scratch: Path, on_progress: Progress | None, ours: bool = False
    ) -> Added:
        report = Report()

        def unpacked(file: Path) -> Path:
            self._refuse_large(file)
            folder = Path(tempfile.mkdtemp(prefix="unpacked-", dir=scratch))
            unpack(file, folder)
            return folder

        arrivals = source_arrivals(source, title, report, unpacked, ours)
        return self._take(arrivals, len(arrivals), scratch, report, on_progress)

    def _take(
        self,
        arrivals: Iterable[Arrival],
        count: int,
        scratch: Path,
        report: Report,
        on_progress: Progress | None,
    ) -> Added:
        """Check pictures, which may take long and holds nobody up, then take them into the draft at once."""
        ready = scratch / "ready"
        ready.mkdir()
        most = int(min(MAX_PAIRS, self._quota.pairs))
        room, bytes_left = most - len(self), self._bytes_left()
        checked: list[Checked] = []
        for number, item in enumerate(check(arrivals, ready, report), 1):
            if item and len(checked) >= room:
                report.refuse("", f"There is room for {most:,} pairs: those from {item.name} on are left out.")
                break
            if item:
                bytes_left -= item.file.stat().st_size
                if bytes_left < 0:
                    report.refuse("", f"{self._full()} Those from {item.name} on are left out.")
                    break
                checked.append(item)
            if on_progress:
                on_progress(min(1.0, number / max(1, count)), f"{number:,} pictures read")
        if not checked:
            return Added([], report)
        names = self._take_in(checked)
        report.taken += names
        report.uncaptioned += [name for name, item in zip(names, checked, strict=True) if not item.captions[0]]
        return Added(names, report)

    def _take_in(self, checked: list[Checked]) -> list[str]:
        with self._change() as pairs:
            for left in os.listdir(self._images):  # by a crash between moving pictures and writing of them
                if left not in pairs:
                    (self._images / left).unlink()
            names = list(unique_names((item.name for item in checked), pairs))
            for name, item in zip(names, checked, strict=True):
                path = self._images / name
                os.replace(item.file, path)
                text, *others = item.captions
                pairs[name] = Pair(name, path, text, item.machine_written, tuple(others), item.scaled_from)
        return names

    def _bytes_left(self) -> float:
        """Of what the person may keep on the disk."""
        if math.isinf(self._disk):
            return self._disk
        free = shutil.disk_usage(self.folder).free - SPARE  # What one visitor may have must be there, too.
        home = self.folder.parent.parent
        near = ADDRESS.disk - sum(map(disk_use, neighbours(home)))
        return min(self._disk - disk_use(home), near, free)

    def _full(self) -> str:
        return f"Your {self._disk / 1e6:,.0f} MB here, or the disk, are full. Remove pairs, or delete jobs."

    def _refuse_large(self, path: Path) -> None:
        """Refuse a zip file that would not fit, before it is unpacked."""
        if not math.isinf(self._disk) and (size := unpacked_size(path)) > self._bytes_left():
            raise UserError(f"{path.name} has {size / 1e6:,.0f} MB unpacked, too much here. {self._full()}")

    @contextmanager
    def _incoming(self) -> Iterator[Path]:
        """A folder for pictures on their way in, on the draft's own disk."""
        with disk_errors_told():
            with self._lock:
                for left in self.folder.glob("incoming-*"):
                    if left not in _ARRIVING:
                        shutil.rmtree(left, ignore_errors=True)
                scratch = Path(tempfile.mkdtemp(prefix="incoming-", dir=self.folder))
                _ARRIVING.add(scratch)
            try:
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
                _ARRIVING.discard(scratch)


def _tells(path: Path) -> bool:
    """Whether a file may tell of pictures: captions beside one, or metadata."""
    return path.suffix.lower() in (".txt", ".caption", ".cap", ".json") or may_be_table(path.name)


def _groups(files: list[Path], report: Report) -> list[list[Path]]:
    """Files that were dropped at once, by where they belong together."""
    folders: dict[Path, list[Path]] = {}
    for path in files:
        folders.setdefault(path.parent, []).append(path)
    whole = [some for some in folders.values() if any(map(_tells, some)) and not all(map(_tells, some))]
    alone = [path for some in folders.values() if some not in whole for path in some]
    groups, seen = [list(some) for some in whole], set()
    rest: list[Path] = []
    tells = [path for path in alone if _tells(path)]
    images = [fold(path.stem) for path in alone if not _tells(path)]
    words = [(fold(path.name)) for path in tells]
    for path in alone:
        stem = fold(path.stem)
        if not _tells(path):
            key = fold(path.name)
            if key in seen:
                groups.append([path])
            else:
                rest.append(path)
            seen.add(key)
        elif is_metadata(path.name) or (words.count(fold(path.name)) == 1 and images.count(stem) <= 1):
            rest.append(path)
        else:
            why = "is there with more than one picture of its name. Drop a zip or the folders, to tell them apart."
            report.leave_out(path.name, why)
    return [rest, *groups] if rest or len(groups) != 1 else groups
