"""Pictures with captions from any folder, archive or shards, as one `datasets.DatasetDict`.

The layout is that of the `imagefolder` builder of `datasets`: a `metadata.jsonl` or `metadata.csv` whose rows have
`file_name` and `text`; or a `x.txt` beside each `x.png`, one caption a line. What people bring beside that is read too,
and told in a `Report`: other names of columns and files, several tables, archives in a folder.

The builder itself is not used. It drops what it does not know without a word (captions beside pictures, a column
`Text`, a picture that no row names), takes the labels of folders for captions, and names neither file nor line.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import datasets

from mmgen.data import celeba, shards
from mmgen.data.archives import hidden, is_archive, is_zip, packed_tar, plain_tar, tar_names, unpack_once
from mmgen.data.columns import IMAGES, ORIGIN, OTHER_IMAGES, SPLITS, split_name, to_splits
from mmgen.data.report import Report
from mmgen.data.tables import caption_values, is_metadata, may_be_table, order, read_table
from mmgen.data.words import NOTHING, as_words, clean, decode, fold
from mmgen.errors import UserError

_BESIDE = (".txt", ".caption", ".cap", ".json")
_REPEATS = re.compile(r"\d+_(\S.*)")
_RUNS = ("status.json", "log.csv", "samples", "clock.json")
_OF_A_RUN = ("samples", "cache", "pipeline", "autoencoder", "states")
_MAX_DEPTH = 2  # of archives in archives

Unpacker = Callable[[Path], Path]
"""Takes an archive, and gives a folder in which it is unpacked."""


class Row(NamedTuple):
    """What is said of a picture.

    Attributes:
        where: its name, and the file and line that names it, for messages.
        path: absolute; or a place in a shard, as `mmgen.data.shards.open_image_at` takes it.
        split: by where it lies.
        record: the columns as they were written, under the names that are used here.
        name: the picture's own, relative to its folder.
    """

    where: str
    path: str
    split: str
    record: dict[str, Any]
    name: str


def load_pairs(
    source: str | Path, *, need_text: bool = True, report: Report | None = None, look: bool = False
) -> datasets.DatasetDict:
    """Load a folder, archive or shards of pictures with captions; nothing is written into the folder.

    A row's split is its column `split`, else the sub-folder train, validation or test that its picture lies in, else
    `train`. A folder that holds CelebA as published is read by `mmgen.data.celeba`.

    Args:
        source: a folder; or a zip or tar file of one, which is unpacked into the system's folder for temporary files;
            or WebDataset shards as `mmgen.data.shards.find_shards` takes them; or a folder of those.
        need_text: whether a picture without a caption is an error.
        report: takes what was taken, guessed and left out. With it, what is wrong with one picture, row or caption
            costs that alone; without it, it is an error.
        look: whether to decode each picture, so that what cannot be read is left out too; else nothing is decoded.

    Returns:
        splits with the columns of `mmgen.data.columns.FEATURES`: `image` ({"path", "bytes"}, not decoded;
        `mmgen.data.shards.open_image_at` opens the path), `text` (str, "" if it has none), `captions` (list, `text`
        first, never empty), `label` (`text` unless given), `concept` (what labels have in common, `label` unless
        given), `style`, `tags` (list), `group`, where it comes from: `source`, `licence` and `author`, and the
        `base_style` that a synthetic style is made from. Columns with other names are left out.

    Raises:
        UserError: the source, its metadata, one of its captions or one of its pictures is missing or wrong.
    """
    path = Path(source).expanduser()
    told = Report() if report is None else report
    wrong = Report()
    rows: list[Row] | None
    if path.is_dir() and (root := _celeba(path)):
        splits = celeba.load_celeba(root)
        for part in splits.values():
            for image in part["image"]:
                told.take(Path(image["path"]).name, image["path"], captioned=True)
        return splits
    rows = read_source(path, told, wrong, unpack_once)
    if report is None and wrong.left_out:
        raise UserError(wrong.problems()[0])
    return _checked(rows, path, need_text, told, wrong, report is None, look)


def load_and_tell(source: str | Path, tell: Callable[[str], object], *, need_text: bool = True) -> datasets.DatasetDict:
    """As `load_pairs`, but what is wrong with single pictures costs those alone; `tell` takes the report's lines."""
    report = Report()
    splits = load_pairs(source, need_text=need_text, report=report)
    for line in report.lines():
        tell(f"{source}: {line}")
    return splits


def read_source(path: Path, report: Report, wrong: Report, unpacker: Unpacker, depth: int = 0) -> list[Row]:
    """What a folder, archive or shards say of their pictures, row by row as it stands.

    Args:
        report: takes what was read, guessed and left out; what is taken is up to whoever checks the rows.
        wrong: takes what is wrong with single rows and files.

    Raises:
        UserError: there is no such source, or it cannot be read at all.
    """
    if path.is_dir() and not shards.find_shards(path):
        return _Folder(path, report, wrong, unpacker, depth).rows()
    found = shards.find_shards(path)
    if not found and packed_tar(path) and path.is_file():
        found = [(plain_tar(path), shards.split_of(path.name))]
    if found:
        return [row for shard, split in found for row in _shard_rows(shard, split, report, wrong, unpacker, depth)]
    if not path.exists():
        raise UserError(f"There is no folder or zip file at {path}. Check the path and try again.")
    if not is_zip(path):
        raise UserError(f"{path} is neither a folder nor a zip file. Choose a folder of pictures, or a zip of one.")
    return read_source(unpacker(path), report, wrong, unpacker, depth)


def record_of(row: Row) -> dict[str, Any]:
    """The columns of a row, cleaned and with what is absent filled in.

    Raises:
        UserError: its captions are not text, or another column is not what it should be.
    """
    given = row.record
    words = {key: _words(row, key) for key in ("label", "concept", "style", "group", "split", *ORIGIN)}
    text = given.get("text")
    texts = _list(row, "text", None) if isinstance(text, list) else [_words(row, "text")]
    captions = [*filter(None, texts), *_list(row, "captions", None)]
    words["text"] = next(iter(captions), "")
    words["label"] = words["label"] or words["text"]
    words["concept"] = words["concept"] or words["label"]
    split = split_name(words["split"]) or row.split
    if not re.fullmatch(r"\w+", split):
        raise UserError(f"{row.where} is in the split {words['split']!r}. Name splits with letters, digits and _ only.")
    captions = list(dict.fromkeys(captions)) or [""]
    return {**words, "split": split, "captions": captions, "tags": _list(row, "tags", ",")}


def nothing_found(title: str, wrong: Report) -> UserError:
    """The error of a source of which nothing was taken: the first thing that is wrong with it, if there is one."""
    if wrong.left_out:
        return UserError(wrong.problems()[0])
    return UserError(
        f"There are no pictures in {title}, or its metadata names none. Give each picture a caption, in a .txt file "
        "of the same name beside it or in a metadata.jsonl whose lines have file_name and text."
    )


def _celeba(path: Path) -> Path | None:
    root = path.resolve()
    while not celeba.is_celeba(root) and (inner := _only_folder(root)):
        root = inner
    return root if celeba.is_celeba(root) else None


def _checked(
    rows: list[Row], path: Path, need_text: bool, report: Report, wrong: Report, strict: bool, look: bool
) -> datasets.DatasetDict:
    """The rows by split, if there are any and none lacks words that it needs."""
    blank: list[str] = []

    def records() -> Iterator[dict[str, Any]]:
        for row in rows:
            try:
                record = record_of(row)
                if look:
                    shards.open_image_at(row.path)
            except UserError as error:
                if strict:
                    raise
                wrong.refuse(row.where if str(error).startswith(row.where) else row.name, str(error))
                continue
            report.take(row.name, row.path, bool(record["text"]))
            if not record["text"]:
                blank.append(row.where)
            yield {**record, "image": row.path}

    splits = to_splits(records())
    if not splits:
        raise nothing_found(str(path), wrong)
    report.add(wrong)
    if need_text and blank:
        more = f"; the same goes for {len(blank) - 1} more" if len(blank) > 1 else ""
        remedy = "Write it as text in the metadata, or in a .txt file of the same name."
        raise UserError(f"{blank[0]} has no caption{more}. {remedy}")
    return splits


def _shard_rows(
    shard: Path, split: str, report: Report, wrong: Report, unpacker: Unpacker, depth: int
) -> Iterator[Row]:
    """What a tar file holds: a shard's samples or, if there is metadata in it, a folder's pictures."""
    names = [PurePosixPath(name) for name in tar_names(shard) if not hidden(PurePosixPath(name).name)]
    images = {fold(name.stem) for name in names if name.suffix.lower() in IMAGES}
    if any(is_metadata(name.name) or (may_be_table(name.name) and fold(name.stem) not in images) for name in names):
        yield from read_source(unpacker(shard), report, wrong, unpacker, depth)
        return
    for where, place, record in shards.read_shard(shard, report, wrong):
        yield Row(where, place, split, record, where)


def _only_folder(root: Path) -> Path | None:
    """The folder that is all `root` holds, as in most zip files, unless it is a split."""
    inside = [path for path in root.iterdir() if not hidden(path.name)]
    alone = len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink()
    return inside[0] if alone and inside[0].name.lower() not in SPLITS else None


class _Folder:
    """One reading of a folder: first all files are found, then what is said of the pictures among them."""

    def __init__(self, path: Path, report: Report, wrong: Report, unpacker: Unpacker, depth: int):
        self.report, self.wrong, self.unpacker, self.depth = report, wrong, unpacker, depth
        self.given = Path(os.path.abspath(path))
        root = path.resolve()
        while inner := _only_folder(root):
            root = inner
        self.root = root
        self.images: dict[str, str] = {}  # absolute path -> name relative to the root
        self.tables: list[Path] = []
        self.beside: dict[Path, dict[str, list[Path]]] = defaultdict(
            lambda: defaultdict(list)
        )  # by what they belong to
        self.archives: list[Path] = []
        self.others: list[Path] = []
        self.used: set[Path] = set()
        self.encodings: dict[str, list[str]] = {}
        self.moved: dict[str, list[str]] = {}
        self._folded: dict[str, list[str]] | None = None
        self._loose: dict[Path, dict[str, list[Path]]] = {}
        self._walk(root)
        self.tables.sort(key=lambda table: (len(table.parts), table.parent, order(table.name)))

    def rows(self) -> list[Row]:
        """All rows, and what became of every file."""
        read: list[tuple[Path, list[tuple[int, dict[str, Any]]]]] = []
        for table in self.tables:
            if (found := self._table(table, read)) is not None:
                read.append((table, found))
        opened = self._open_archives(read)
        rows: list[Row] = []
        named: dict[str, Path] = {}
        for table, records in read:
            for row in self._listed(table, records):
                if named.setdefault(row.path, table) != table:
                    other = self._name(named[row.path])
                    self.report.leave_out(row.where, f"is named in {other} already. One of the two rows is enough.")
                else:
                    rows.append(row)
        unnamed = [path for path in self.images if path not in named]
        rows += self._beside_rows(unnamed, [table for table, _ in read])
        for path in named:
            for file in self._files_beside(path):
                if file not in self.used:
                    self.used.add(file)
                    why = "is not read, as metadata says what its picture shows. Remove it, or the picture's row."
                    self.report.leave_out(self._name(file), why)
        self._account()
        return rows + opened

    def _name(self, path: Path | str) -> str:
        path = Path(path)
        return clean(path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name)

    def _walk(self, root: Path) -> None:
        seen: set[str] = set()
        own_run = _is_run(root)
        for place, folders, files in os.walk(root, followlinks=True):
            here = Path(place)
            if (real := os.path.realpath(place)) in seen:
                folders.clear()
                continue
            seen.add(real)
            for name in sorted(folders):
                of_run = own_run and here == root and name in _OF_A_RUN
                if hidden(name):
                    self.report.system.append(self._name(here / name) + "/")
                elif of_run or _is_run(here / name):
                    why = "was written by a training or a checkpoint. Move it out if it holds pictures to learn from."
                    self.report.leave_out(self._name(here / name) + "/", why)
                else:
                    continue
                folders.remove(name)
            folders.sort()
            for name in sorted(files):
                self._sort(here / name)

    def _sort(self, path: Path) -> None:
        """Put one file where it belongs."""
        name, suffix = path.name, path.suffix.lower()
        if hidden(name):
            self.report.system.append(self._name(path))
        elif path.is_symlink() and not path.exists():
            keep = self.wrong if suffix in IMAGES else self.report
            keep.leave_out(self._name(path), "is a link to a file that is not there. Mend it, or remove it.")
        elif suffix in IMAGES:
            relative = path.relative_to(self.root).as_posix()
            if clean(relative) != relative.strip():
                self.wrong.leave_out(clean(relative), "has a name with characters that are not UTF-8. Rename it.")
            else:
                self.images[str(path)] = relative
        elif is_metadata(name) or may_be_table(name):
            self.tables.append(path)
            if suffix == ".json" and not is_metadata(name):
                self.beside[path.parent][path.stem].append(path)
        elif is_archive(path):
            self.archives.append(path)
        elif suffix in _BESIDE:
            self.beside[path.parent][path.stem].append(path)
        else:
            self.others.append(path)

    # Tables

    def _table(self, table: Path, read: list) -> list[tuple[int, dict[str, Any]]] | None:
        """The rows of a table; None if it is none, or another in its folder comes before it."""
        first = next((one for one, _ in read if one.parent == table.parent and is_metadata(one.name)), None)
        if first is not None:
            if table.stem not in {Path(path).stem for path in self.images}:
                self.report.leave_out(self._name(table), f"is not read, as there is {first.name}. Remove one of them.")
                self.used.add(table)
            return None
        guessed = Report()

        def is_there(name: str) -> bool:
            return bool(name.strip()) and (table.parent / name.strip()).is_file()

        try:
            rows = read_table(table.read_bytes(), self._name(table), guessed, self.wrong, is_there)
        except UserError:
            if is_metadata(table.name):
                raise
            rows = []
        if not is_metadata(table.name):
            rows = rows if any(self._find(row, table) for _, row in rows) else []
            self.moved.clear()
            if not rows:
                if table.suffix.lower() != ".json":
                    self.others.append(table)
                return None
            guessed.guess(f"{self._name(table)} was read as metadata, as it names the pictures.")
        elif table.name != table.name.lower():
            guessed.guess(f"{self._name(table)} was read as {table.name.lower()}.")
        self.report.add(guessed)
        self.report.read.append(self._name(table))
        self.used.add(table)
        return rows

    def _listed(self, table: Path, records: list[tuple[int, dict[str, Any]]]) -> Iterator[Row]:
        """The rows of one table whose pictures are there."""
        title = self._name(table)
        split = SPLITS.get(table.stem.lower(), "")
        word = "entry" if table.suffix.lower() == ".json" else "line"
        for line, record in records:
            where = f"{title} {word} {line}"
            name = record.get("file_name")
            if not isinstance(name, str) or not name.strip():
                self.wrong.leave_out(where, f"has no file_name. Name the picture there, relative to {title}.")
                continue
            shown = clean(name)
            path = self._find(record, table)
            if path:
                placed = self._split(path)
                if not any(value for _, value in caption_values(record)):
                    for one in self._words_beside(path):
                        record = {**record, "captions": [*record.get("captions", ()), *_as_list(one)]}
                yield Row(f"{shown} ({where})", path, placed if placed != "train" else split or placed, record, shown)
            elif re.match(r"\w{2,}://", shown):
                why = "names an address, which is not fetched. Fetch the picture, and name its file."
                self.wrong.leave_out(f"{shown} ({where})", why)
            elif self._target(name, table) is None:
                why = f"names {shown}, which is outside the folder. Name pictures relative to {title}."
                self.wrong.leave_out(where, why)
            else:
                self.wrong.leave_out(f"{shown} ({where})", "is not there. Put it there, or remove its row.")
        for how, names in self.moved.items():
            count = f"{len(names):,} pictures were" if len(names) > 1 else f"{names[0]} was"
            self.report.guess(f"{count} not where {title} says, and found {how}.")
        self.moved.clear()

    def _target(self, name: str, table: Path) -> str | None:
        """Where a row says that its picture is, if that is inside the folder."""
        written = name.strip().replace("\\", "/")
        if not PureWindowsPath(name.strip()).anchor:
            path = os.path.normpath(table.parent / written)
            return path if Path(path).is_relative_to(self.root) else None
        path = os.path.normpath(written)
        inside = (base for base in (self.root, self.given) if os.path.isabs(path) and Path(path).is_relative_to(base))
        return next((str(self.root / Path(path).relative_to(base)) for base in inside), None)

    def _find(self, record: dict[str, Any], table: Path) -> str | None:
        """The absolute path of the picture that a row names, if it is in the folder."""
        name = record.get("file_name")
        if not isinstance(name, str) or not name.strip():
            return None
        target = self._target(name, table)
        if target and os.path.isfile(target):
            return target
        index, written = self._index(), name.strip().replace("\\", "/")
        whole = fold(os.path.relpath(target, self.root).replace(os.sep, "/")) if target else ""
        base = fold(os.path.basename(written))
        for key, how in (
            (whole, "under a name in another case or form"),
            (f"{whole}.*", "under a name with an ending"),
            (fold(written), "below the whole folder"),
            (f"*/{base}", "by its name alone"),
            (f"*/{base}.*", "by its name alone"),
        ):
            found = index.get(key, [])
            if whole + key and base and len(found) == 1:
                self.moved.setdefault(how, []).append(clean(name))
                return found[0]
        return None

    def _index(self) -> dict[str, list[str]]:
        if self._folded is None:
            self._folded = defaultdict(list)
            for path, relative in self.images.items():
                key = fold(relative)
                stem, base = os.path.splitext(key)[0], key.rpartition("/")[2]
                for one in (key, f"{stem}.*", f"*/{base}", f"*/{os.path.splitext(base)[0]}.*"):
                    self._folded[one].append(path)
        return self._folded

    # Captions beside pictures

    def _beside_rows(self, paths: list[str], tables: list[Path]) -> Iterator[Row]:
        """The pictures that no table names, and words for those whose rows have none."""
        raster = {fold(os.path.splitext(path)[0]) for path in paths if Path(path).suffix.lower() not in OTHER_IMAGES}
        captions = {path: self._words_beside(path) for path in paths}
        captions = {**captions, **self._words_elsewhere([path for path in paths if not captions[path]])}
        for path in paths:
            name, here = self.images[path], Path(path)
            table = next((one for one in reversed(tables) if here.is_relative_to(one.parent)), None)
            said = captions[path]
            record: dict[str, Any] = {}
            if here.suffix.lower() in OTHER_IMAGES and fold(os.path.splitext(path)[0]) in raster:
                self.report.leave_out(name, "is the picture beside it once more, of another kind. One is enough.")
                continue
            if table is not None and not said:
                self.report.leave_out(
                    name, f"is not named in {self._name(table)}. Add a row for it, or words beside it."
                )
                continue
            if table is not None:
                title = self._name(table)
                self.report.guess(f"Pictures that {title} does not name, but that have words beside them, were taken.")
            if not said and (repeats := _REPEATS.fullmatch(here.parent.name)):
                said = [{"text": repeats[1].replace("_", " ")}]
                self.report.guess(
                    f"Pictures in {here.parent.name} without a caption have its words as one: {repeats[1]}."
                )
            for one in said:
                record = {**one, **record, "captions": [*record.get("captions", ()), *_as_list(one)]}
            record.pop("text", None)
            yield Row(name, path, self._split(path), record, name)

    def _words_beside(self, path: str) -> list[dict[str, Any]]:
        """What the files beside a picture say of it."""
        files = sorted(self._files_beside(path), key=_first_txt)
        return [said for file in files if (said := self._said(file)) is not None]

    def _files_beside(self, path: str) -> list[Path]:
        """The files beside a picture that have its name, with or without its ending.

        Where there is none, those whose name differs in case or Unicode form alone and belongs to no other picture.
        """
        here = Path(path)
        if here.parent not in self.beside:
            return []
        beside = self.beside[here.parent]
        files = [*beside.get(here.stem, ()), *(beside.get(here.name, ()) if here.name != here.stem else ())]
        if files:
            return files
        if here.parent not in self._loose:
            own = {name for one in self.images if os.path.dirname(one) == str(here.parent) for name in _names(one)}
            loose: dict[str, list[Path]] = defaultdict(list)
            self._loose[here.parent] = loose
            for key, some in beside.items():
                if key not in own:
                    loose[fold(key)] += some
        loose = self._loose[here.parent]
        return [file for key in dict.fromkeys(map(fold, _names(path))) for file in loose.get(key, ())]

    def _words_elsewhere(self, paths: list[str]) -> dict[str, list[dict[str, Any]]]:
        """Words in a folder of their own, for pictures that have none, where both names are there once."""
        with_images = {Path(path).parent for path in self.images}
        files: dict[str, list[Path]] = defaultdict(list)
        for folder, beside in self.beside.items():
            if folder not in with_images:
                for key, some in beside.items():
                    files[fold(key)] += [file for file in some if file.suffix.lower() != ".json"]
        found: dict[str, list[dict[str, Any]]] = {path: [] for path in paths}
        index = self._index() if files else {}
        for path in paths:
            stem = fold(Path(path).stem)
            some = files.get(stem, [])
            if len(some) == 1 and len(index[f"*/{stem}.*"]) == 1 and (said := self._said(some[0])):
                found[path] = [said]
                self.report.guess(f"Words in {self._name(some[0].parent)}/ were taken for the pictures of their names.")
        return found

    def _said(self, file: Path) -> dict[str, Any] | None:
        """What a file beside a picture says; None if it is none that does."""
        name = self._name(file)
        try:
            text, encoding = decode(file.read_bytes())
        except UnicodeDecodeError:
            self.used.add(file)
            self.wrong.leave_out(name, "is not text in UTF-8. Save it as UTF-8.")
            return None
        except OSError as error:
            self.used.add(file)
            self.wrong.leave_out(name, f"cannot be read ({error.strerror or error}). Check its permissions.")
            return None
        said: dict[str, Any] = {}
        if file.suffix.lower() == ".json":
            record = shards.named_record(text)
            if record is None:
                return None
            said = record
        else:
            said["captions"] = [words for line in re.split(r"\r\n|\r|\n", text) if (words := clean(line))]
        if encoding:
            self.encodings.setdefault(encoding, []).append(name)
        if file not in self.used:
            self.used.add(file)
            self.report.read.append(name)
        return said

    def _split(self, path: str) -> str:
        parts = Path(path).relative_to(self.root).parts if Path(path).is_relative_to(self.root) else ()
        return SPLITS.get(parts[0].lower(), "train") if len(parts) > 1 else "train"

    # Archives in the folder

    def _open_archives(self, read: list[tuple[Path, list]]) -> list[Row]:
        """Open the archives of a folder whose pictures lie in them; others stay closed, which is told."""
        lacking = bool(self.archives) and any(
            not self._find(record, table) for table, records in read for _, record in records
        )
        self.moved.clear()
        rows: list[Row] = []
        for file in self.archives:
            name = self._name(file)
            if (self.images and not lacking) or self.depth >= _MAX_DEPTH:
                why = "lies beside pictures, so it was not opened. Give it by itself if it holds more of them."
                self.report.leave_out(name, why)
                continue
            try:
                if read:
                    self._take_over(self.unpacker(file))
                else:
                    rows += read_source(file, self.report, self.wrong, self.unpacker, self.depth + 1)
            except UserError as error:
                self.wrong.refuse(name, str(error))
                continue
            self.report.read.append(name)
        return rows

    def _take_over(self, folder: Path) -> None:
        """Count what was unpacked to the pictures that tables name."""
        for place, _, files in os.walk(folder):
            for name in sorted(files):
                path = Path(place, name)
                if path.suffix.lower() in IMAGES and not hidden(name):
                    self.images[str(path)] = path.relative_to(folder).as_posix()
        self._folded = None

    def _account(self) -> None:
        """Tell of everything that was not used."""
        for encoding, names in self.encodings.items():
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            is_are = "is not UTF-8 and was" if len(names) == 1 else "are not UTF-8 and were"
            self.report.guess(f"{shown} {is_are} read as {encoding}. Save as UTF-8 if that is wrong.")
        for folder in self.beside.values():
            for files in folder.values():
                for file in files:
                    if file not in self.used:
                        self.used.add(file)
                        if file.suffix.lower() == ".json":
                            self.others.append(file)
                        else:
                            why = "belongs to no picture. Give it the name of its picture."
                            self.report.leave_out(self._name(file), why)
        for file in self.others:
            self.report.leave_out(self._name(file), "is neither a picture nor words of one. It is not needed.")


def _is_run(folder: Path) -> bool:
    """Whether a training wrote a folder, or it is a checkpoint."""
    if (folder / "model_index.json").is_file():
        return True
    return (folder / "config.json").is_file() and any((folder / name).exists() for name in _RUNS)


def _names(path: str) -> tuple[str, str]:
    return Path(path).stem, Path(path).name


def _first_txt(file: Path) -> tuple[int, str]:
    return _BESIDE.index(file.suffix.lower()), file.name


def _as_list(said: dict[str, Any]) -> list[Any]:
    text, captions = said.get("text"), said.get("captions") or []
    first = text if isinstance(text, list) else [text] if text else []
    return [*first, *(captions if isinstance(captions, list) else [captions])]


def _words(row: Row, key: str) -> str:
    words = as_words(row.record.get(key))
    if words is None:
        raise UserError(f"{row.where} has a {key} that is not text. Write it as one string in quotes.")
    return words


def _list(row: Row, key: str, separator: str | None) -> list[str]:
    """A column that is a list: in JSON a list or one string, in CSV a JSON list or strings between separators."""
    value = row.record.get(key) or []
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            pass  # a caption may begin with a bracket, or with thousands
    if isinstance(value, str):
        value = value.split(separator) if separator else [value]
    if isinstance(value, float) and as_words(value) == "":
        value = []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        kind = "text that is not text" if key == "text" else f"{key} that are not a list of texts"
        raise UserError(f'{row.where} has {"a " if key == "text" else ""}{kind}. Write ["one", "two"].')
    return [words for item in value if (words := clean(item)) and words not in NOTHING]
