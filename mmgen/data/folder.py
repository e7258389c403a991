"""Pictures with captions from any folder, zip file or shards, as one `datasets.DatasetDict`.

The layout is that of the `imagefolder` builder of `datasets`: a `metadata.jsonl` or `metadata.csv` whose rows have
`file_name` and `text`, in the folder or in each of its split sub-folders; or, without metadata, a `x.txt` beside each
`x.png`, one caption a line. Rows are read here, not by the builder, so that a mistake is told with its file and line.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import datasets

from mmgen.data import celeba, shards
from mmgen.data.columns import IMAGES, METADATA, ORIGIN, SPLITS, to_splits
from mmgen.errors import UserError

MAX_ENTRIES = 100_000
MAX_UNPACKED = 20_000_000_000
MAX_RATIO, RATIO_FROM = 200, 10_000_000  # files below the second may shrink as they like


class _Row(NamedTuple):
    where: str  # the picture's name, and the file and line that names it, for messages
    path: str  # absolute
    split: str  # by the sub-folder the picture lies in
    record: dict[str, Any]


def load_pairs(source: str | Path, *, need_text: bool = True) -> datasets.DatasetDict:
    """Load a folder, zip file or shards of pictures with captions; nothing is decoded or written into the folder.

    A row's split is its column `split`, else the sub-folder train, validation or test that its picture lies in, else
    `train`. A folder that holds CelebA as published is read by `mmgen.data.celeba`.

    Args:
        source: a folder, or a zip file of one, which is unpacked into the system's folder for temporary files, or
            WebDataset shards as `mmgen.data.shards.find_shards` takes them.
        need_text: whether a picture without a caption is an error.

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
    if found := shards.find_shards(path):
        held = ((split, image) for shard, split in found for image in shards.read_shard(shard))
        rows = [_Row(where, place, split, record) for split, (where, place, record) in held]
        return _checked(rows, path, need_text)
    if not path.exists():
        raise UserError(f"There is no folder or zip file at {path}. Check the path and try again.")
    if not path.is_dir() and not zipfile.is_zipfile(path):
        raise UserError(f"{path} is neither a folder nor a zip file. Choose a folder of pictures, or a zip of one.")
    root = path.resolve() if path.is_dir() else _unpack(path)
    while not celeba.is_celeba(root) and (inner := _only_folder(root)):
        root = inner
    if celeba.is_celeba(root):
        return celeba.load_celeba(root)
    rows = list(_rows(root))
    _refuse([row for row in rows if not os.path.isfile(row.path)], "is not there", "Put it there, or remove its row.")
    return _checked(rows, path, need_text)


def _checked(rows: list[_Row], path: Path, need_text: bool) -> datasets.DatasetDict:
    """The rows by split, if there are any and none lacks words that it needs."""
    if not rows:
        raise UserError(
            f"There are no pictures in {path}, or its metadata names none. Give each picture a caption, in a .txt file "
            "of the same name beside it or in a metadata.jsonl whose lines have file_name and text."
        )
    blank = []

    def records() -> Iterator[dict[str, Any]]:
        for row in rows:
            record = _record(row)
            if need_text and not record["text"]:
                blank.append(row)
            yield {**record, "image": row.path}

    splits = to_splits(records())
    _refuse(blank, "has no caption", "Write it as text in the metadata, or in a .txt file of the same name.")
    return splits


def read_rows(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What `load_pairs` reads of a folder, row by row as it stands: whoever takes it checks each picture and caption.

    Yields:
        the picture's name with the file and line that names it, for messages; its absolute path, where there may be
        nothing; and the row as written, whose captions `captions_of` reads.

    Raises:
        UserError: the metadata cannot be read.
    """
    root = folder.resolve()
    while inner := _only_folder(root):
        root = inner
    for row in _rows(root):
        yield row.where, row.path, row.record


def captions_of(where: str, record: dict[str, Any]) -> list[str]:
    """The captions of a row that `read_rows` gave, the first first; [""] if it has none.

    Raises:
        UserError: they are not text.
    """
    return _record(_Row(where, "", "train", record))["captions"]


def _rows(root: Path) -> Iterator[_Row]:
    parts = [part for part in sorted(root.iterdir()) if part.name.lower() in SPLITS and part.is_dir()]
    if _metadata(root) or not any(_metadata(part) for part in parts):
        parts = [root]
    for part in parts:
        table = _metadata(part)
        yield from _listed(root, table) if table else _beside(root, part)


def _refuse(rows: list[_Row], why: str, remedy: str) -> None:
    if rows:
        more = f"; the same goes for {len(rows) - 1} more" if len(rows) > 1 else ""
        raise UserError(f"{rows[0].where} {why}{more}. {remedy}")


def _metadata(folder: Path) -> Path | None:
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def _only_folder(root: Path) -> Path | None:
    """The folder that is all `root` holds, as in most zip files, unless it is a split."""
    inside = [path for path in root.iterdir() if not _hidden(path.name)]
    alone = len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink()
    return inside[0] if alone and inside[0].name.lower() not in SPLITS else None


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _beside(root: Path, folder: Path) -> Iterator[_Row]:
    """The pictures in and below a folder, each with the lines of the .txt file of its name as captions."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        texts = {os.path.splitext(name)[0]: name for name in files if name.lower().endswith(".txt")}
        for name in sorted(files):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() not in IMAGES or _hidden(name):
                continue
            path = Path(place, name)
            lines = _read(path.with_name(texts[stem]), root).splitlines() if stem in texts else []
            where = path.relative_to(root).as_posix()
            if where.encode("utf-8", "ignore").decode() != where:
                raise UserError(f"{_clean(where)} has a name with characters that are not UTF-8. Rename it.")
            yield _Row(where, str(path), _folder_split(path, root), {"captions": lines})


def _listed(root: Path, table: Path) -> Iterator[_Row]:
    """The rows of one metadata file."""
    title = table.relative_to(root).as_posix()
    read = _read_jsonl if table.suffix == ".jsonl" else _read_csv
    for line, record in read(_read(table, root), title):
        where = f"{title} line {line}"
        name = record.get("file_name")
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{where} has no file_name. Name the picture there, relative to {title}.")
        path = os.path.normpath(table.parent / name.strip().replace("\\", "/"))
        if PureWindowsPath(name.strip()).anchor or not Path(path).is_relative_to(os.path.normpath(root)):
            raise UserError(f"{where} names {name}, which is outside the folder. Name pictures relative to {title}.")
        yield _Row(f"{name.strip()} ({where})", path, _folder_split(Path(path), root), record)


def _folder_split(path: Path, root: Path) -> str:
    parts = path.relative_to(root).parts
    return SPLITS.get(parts[0].lower(), "train") if len(parts) > 1 else "train"


def _read(file: Path, root: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file.relative_to(root).as_posix()} is not text in UTF-8. Save it as UTF-8.") from error


def _read_jsonl(text: str, title: str) -> Iterator[tuple[int, dict]]:
    for line, words in enumerate(text.split("\n"), 1):
        if not words.strip():
            continue
        try:
            record = json.loads(words)
        except (ValueError, RecursionError) as error:
            why = getattr(error, "msg", error)
            raise UserError(f"{title} line {line} is not JSON ({why}). Each line must be one JSON object.") from error
        if not isinstance(record, dict):
            raise UserError(f"{title} line {line} is not a JSON object. Each line must be one with file_name and text.")
        yield line, record


def _read_csv(text: str, title: str) -> Iterator[tuple[int, dict]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if "file_name" not in (reader.fieldnames or ()):
            raise UserError(f"{title} has no column file_name. Its first line must name the columns, between commas.")
        for record in reader:
            if None in record:
                raise UserError(f"{title} line {reader.line_num} has too many cells. Put those with commas in quotes.")
            yield reader.line_num, record
    except csv.Error as error:
        raise UserError(f"{title} line {reader.reader.line_num} is not CSV ({error}). Correct it.") from error


def _record(row: _Row) -> dict[str, Any]:
    """The columns of a row, cleaned and with what is absent filled in."""
    words = {key: _words(row, key) for key in ("text", "label", "concept", "style", "group", "split", *ORIGIN)}
    captions = _list(row, "captions", None)
    words["text"] = words["text"] or next(iter(captions), "")
    words["label"] = words["label"] or words["text"]
    words["concept"] = words["concept"] or words["label"]
    words["split"] = words["split"] or row.split
    if not re.fullmatch(r"\w+", words["split"]):
        raise UserError(f"{row.where} is in the split {words['split']!r}. Name splits with letters, digits and _ only.")
    return {**words, "captions": list(dict.fromkeys([words["text"], *captions])), "tags": _list(row, "tags", ",")}


def _words(row: _Row, key: str) -> str:
    value = row.record.get(key)
    if value is not None and not isinstance(value, (str, int, float)):
        raise UserError(f"{row.where} has a {key} that is not text. Write it as one string in quotes.")
    return "" if value is None else _clean(str(value))


def _list(row: _Row, key: str, separator: str | None) -> list[str]:
    """A column that is a list: in JSON a list or one string, in CSV a JSON list or strings between separators."""
    value = row.record.get(key) or []
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            pass  # a caption may begin with a bracket
    if isinstance(value, str):
        value = value.split(separator) if separator else [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UserError(f'{row.where} has {key} that are not a list of texts. Write ["one", "two"].')
    return [words for item in value if (words := _clean(item))]


def _clean(words: str) -> str:
    """Without spaces around it and halves of characters, which JSON can name and Arrow cannot hold."""
    return words.encode("utf-8", "ignore").decode().strip()


def _unpack(file: Path) -> Path:
    """Unpack a zip file with care, once, and return the folder."""
    status = file.stat()
    key = hashlib.sha256(f"{file.resolve()}\0{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()[:24]
    home = Path(tempfile.gettempdir()).resolve() / f"mmgen-zip-{os.getuid() if hasattr(os, 'getuid') else 'files'}"
    home.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and home.lstat().st_uid != os.getuid():
        raise UserError(f"{home} belongs to somebody else. Remove it, or set TMPDIR to a folder of your own.")
    folder, fresh = home / key, Path(tempfile.mkdtemp(dir=home))
    try:
        with _opened(file) as (packed, names):
            if folder.is_dir() and all((folder / name).is_file() for name in names):
                return folder
            _extract(packed, names, fresh)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(fresh, folder)
            return folder
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def unpack(file: Path, folder: Path) -> None:
    """Unpack a zip file with care into an empty folder.

    Raises:
        UserError: it is damaged or could do harm, or the disk is full.
    """
    with _opened(file) as (packed, names):
        _extract(packed, names, folder)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """A zip file and the files in it by relative name; whatever goes wrong with it becomes a sentence."""
    try:
        with zipfile.ZipFile(file) as packed:
            yield packed, _safe_entries(packed, file.name, file.stat().st_size)
    except UserError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file provokes
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise UserError(f"The disk is too full to unpack {file.name}. Make room and try again.") from error
        raise UserError(f"{file.name} could not be unpacked ({error}). Make it again, or give a folder.") from error


def _extract(packed: zipfile.ZipFile, names: dict[str, zipfile.ZipInfo], folder: Path) -> None:
    for name, entry in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with packed.open(entry) as source, open(folder / name, "xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)


def _safe_entries(packed: zipfile.ZipFile, title: str, size: int) -> dict[str, zipfile.ZipInfo]:
    """The files in a zip file by relative name, after checking that none can do harm."""
    entries = packed.infolist()
    total = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ENTRIES:
        raise UserError(f"{title} has more than {MAX_ENTRIES:,} entries. Unpack it yourself and give the folder.")
    if total > MAX_UNPACKED:
        raise UserError(f"{title} is over {MAX_UNPACKED // 10**9} GB unpacked. Unpack it yourself and give the folder.")
    names = {}
    for entry in entries:
        name = PureWindowsPath(entry.filename)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if name.anchor or ".." in name.parts or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"{title} has {entry.filename}, a link or a path outside it. Make it again of plain files.")
        if not entry.is_dir() and not any(_hidden(part) for part in name.parts):
            names[name.as_posix()] = entry
    sizes = [(total, size), *((entry.file_size, entry.compress_size) for entry in entries)]
    if any(large > RATIO_FROM and large > MAX_RATIO * small for large, small in sizes):
        raise UserError(f"{title} unpacks to over {MAX_RATIO} times its size, as no pictures do. Give another file.")
    return names
