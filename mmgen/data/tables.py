"""Metadata: tables that name images and say what they show, as `.jsonl`, `.json`, `.csv` or `.tsv`."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import Any

from mmgen.data.columns import CAPTION_COLUMNS, IMAGE_COLUMNS, SPLITS, column_key
from mmgen.data.report import Report
from mmgen.data.words import as_words, decode
from mmgen.errors import UserError

_ENDINGS = (".jsonl", ".csv", ".json", ".ndjson", ".tsv")
_USUAL = re.compile(
    r"_?(meta[-_ ]?data|meta([-_](cap|clean|lat))?|captions?|prompts?|labels?|annotations?|dataset|data|index|pairs)",
    re.IGNORECASE,
)
WEAK = ("title", "label", "name", "tags")
"""Columns that say what an image shows only where no other does."""

Row = tuple[int, dict[str, Any]]


def is_metadata(name: str) -> bool:
    """Whether a file's name is that of metadata, whatever its case."""
    path = PurePath(name)
    return path.stem.lower() == "metadata" and path.suffix.lower() in _ENDINGS


def may_be_table(name: str) -> bool:
    """Whether a file's name is one that people give to metadata; its content decides."""
    path = PurePath(name)
    usual = _USUAL.fullmatch(path.stem) or path.stem.lower() in SPLITS
    return path.suffix.lower() in _ENDINGS and bool(usual)


def order(name: str) -> tuple[bool, int, str]:
    """For sorting the tables of one folder, of which metadata comes first."""
    return not is_metadata(name), _ENDINGS.index(PurePath(name).suffix.lower()), name


def read_table(content: bytes, title: str, report: Report, wrong: Report, is_there: Callable[[str], bool]) -> list[Row]:
    """The rows of a table with the lines they stand in, and `file_name`, `text` and `captions` under these names.

    Args:
        report: takes what was guessed.
        wrong: takes the rows that cannot be read, while the others can.
        is_there: whether there is such an image, for tables that do not name their columns.

    Raises:
        UserError: it is no table of images.
    """
    try:
        text, encoding = decode(content)
    except UnicodeDecodeError as error:
        raise UserError(f"{title} is not text in UTF-8. Save it as UTF-8.") from error
    if encoding:
        report.guess(f"{title} is not UTF-8 and was read as {encoding}. Save it as UTF-8 if that is wrong.")
    suffix = PurePath(title).suffix.lower()
    if suffix in (".csv", ".tsv"):
        rows = _read_csv(text, title, report, is_there)
    elif suffix == ".json" or (text.lstrip().startswith("[") and _is_json(text)):
        rows = _read_json(text, title, wrong)
    else:
        rows = list(_read_jsonl(text, title, wrong))
    return _named(rows, title, report)


def caption_values(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The columns of a record that may hold its caption and do hold something, the likeliest first."""
    for key in CAPTION_COLUMNS:
        value = record.get(key)
        if (isinstance(value, (list, dict)) and value) or as_words(value) != "":
            yield key, value


def _named(rows: list[Row], title: str, report: Report) -> list[Row]:
    """Rows whose columns have the names that are used here; what was guessed is told."""
    records = [{column_key(key): value for key, value in record.items()} for _, record in rows]
    columns = {key for record in records for key in record}
    image = next((key for key in IMAGE_COLUMNS if key in columns), "file_name")
    if image != "file_name":
        report.guess(f"{title} has no column file_name; the pictures' names were read from {image}.")
    used: dict[str, int] = {}
    strong = any(key not in WEAK and key != image for record in records for key, _ in caption_values(record))
    for record in records:
        name = record.pop(image, None)
        record["file_name"] = name.get("path") if isinstance(name, dict) else name
        for key, value in caption_values(record):
            if strong and key in WEAK:
                continue
            if key not in ("text", "captions"):
                used[key] = used.get(key, 0) + 1
                value = ", ".join(map(str, value)) if key == "tags" and isinstance(value, list) else value
                record["text"] = value
            break
    for key, count in used.items():
        many = "the captions were" if count == len(records) else f"{count:,} of the captions were"
        report.guess(f"{title} has no text there, so {many} read from its column {key}.")
    return [(line, record) for (line, _), record in zip(rows, records, strict=True)]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _read_jsonl(text: str, title: str, wrong: Report) -> Iterator[Row]:
    for line, words in enumerate(text.split("\n"), 1):
        if not words.strip():
            continue
        try:
            record = json.loads(words)
        except (ValueError, RecursionError) as error:
            why = getattr(error, "msg", error)
            wrong.leave_out(f"{title} line {line}", f"is not JSON ({why}). Each line must be one JSON object.")
            continue
        if not isinstance(record, dict):
            wrong.leave_out(
                f"{title} line {line}", "is not a JSON object. Each line must be one with file_name and text."
            )
            continue
        yield line, record


def _read_json(text: str, title: str, wrong: Report) -> list[Row]:
    """A list of objects; captions or objects by the images' names; or images and annotations, as of COCO."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{title} is not JSON ({getattr(error, 'msg', error)}). Correct it.") from error
    if isinstance(content, dict):
        if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
            return list(_coco(content["images"], content["annotations"]))
        lists = [value for value in content.values() if isinstance(value, list) and value]
        if lists and all(isinstance(one, dict) for one in lists[0]):
            content = lists[0]
        else:
            content = [
                {**value, "file_name": name} if isinstance(value, dict) else _said(name, value)
                for name, value in content.items()
            ]
    if not isinstance(content, list):
        raise UserError(f"{title} is neither a list nor an object of pictures. Write a list of objects with file_name.")
    rows = []
    for number, record in enumerate(content, 1):
        if isinstance(record, dict):
            rows.append((number, record))
        else:
            wrong.leave_out(f"{title} entry {number}", "is not a JSON object. Write one with file_name and text.")
    return rows


def _said(name: str, value: Any) -> dict[str, Any]:
    return {"file_name": name, "captions" if isinstance(value, list) else "text": value}


def _coco(images: Iterable[Any], annotations: Iterable[Any]) -> Iterator[Row]:
    said: dict[Any, list[str]] = {}
    for one in annotations:
        if isinstance(one, dict) and isinstance(one.get("caption"), str):
            said.setdefault(one.get("image_id"), []).append(one["caption"])
    for number, image in enumerate(images, 1):
        if isinstance(image, dict):
            yield number, {"file_name": image.get("file_name"), "captions": said.get(image.get("id"), [])}


def _read_csv(text: str, title: str, report: Report, is_there: Callable[[str], bool]) -> list[Row]:
    first = text.split("\n", 1)[0]
    usual = "\t" if title.lower().endswith(".tsv") else ","
    between, names = usual, None
    for separator in dict.fromkeys((usual, ",", ";", "\t", "|")):
        cells = next(csv.reader([first], delimiter=separator), [])
        if any(column_key(cell) in IMAGE_COLUMNS for cell in cells):
            between = separator
            break
        if len(cells) > 1 and is_there(cells[0]):
            between, names = separator, ["file_name", "text", *(f"column {n}" for n in range(3, len(cells) + 1))]
            report.guess(f"{title} does not name its columns; the first was read as names, the second as captions.")
            break
    else:
        raise UserError(f"{title} has no column file_name. Its first line must name the columns, between commas.")
    if between != usual:
        sign = "tabs" if between == "\t" else f"“{between}”"
        report.guess(f"{title} has {sign} between its cells, and was read so.")
    reader = csv.DictReader(io.StringIO(text, newline=""), names, delimiter=between)
    rows = []
    try:
        for record in reader:
            if None in record:
                raise UserError(f"{title} line {reader.line_num} has too many cells. Put those with commas in quotes.")
            rows.append((reader.line_num, dict(record)))
    except csv.Error as error:
        raise UserError(f"{title} line {reader.reader.line_num} is not CSV ({error}). Correct it.") from error
    return rows
