"""Pairs from a data set of the Hugging Face Hub, one after the other as they arrive."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import datasets
from datasets.utils.file_utils import xopen
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from mmgen.data.columns import column_key
from mmgen.data.intake import Arrival
from mmgen.data.report import Report
from mmgen.errors import UserError
from mmgen.images import MAX_BYTES
from mmgen.space import on_space

CAPTION_COLUMNS = ("text", "caption", "captions", "prompt", "description", "sentence", "title", "label", "name")
IMAGE_COLUMNS = ("image", "picture", "img", "photo", "jpg", "jpeg", "png", "webp")
_ON_THE_HUB = re.compile(r"(zip://[^:]*::)?hf://datasets/")


def stream_pairs(
    name: str | Path,
    image_column: str | None,
    text_column: str | None,
    revision: str | None,
    split: str,
    limit: int,
    report: Report,
) -> Iterator[Arrival]:
    """The first `limit` pairs of a data set. Nothing that comes with a data set is run as code, and none is unpickled.

    Args:
        name: `user/name` on the Hub, always there and never a folder here; or a `Path` of a folder here.
        image_column, text_column: guessed where None; a data set without captions gives images alone.
        report: takes the columns that were guessed, each row without an image, and whether the rest could be fetched.

    Raises:
        UserError: it cannot be reached, there is no such data set, split or column, or the columns cannot be guessed.
    """
    rows, image, caption = _open(name, image_column, text_column, revision, split)
    features = rows.features
    if caption is None:
        report.guess(f"{name} has no column of captions.")
    elif not text_column and caption != "text":
        report.guess(f"The captions of {name} were read from its column {caption}.")
    labels = features[caption] if caption and isinstance(features[caption], datasets.ClassLabel) else None
    count = 0
    try:
        for number, row in enumerate(islice(rows, limit), 1):
            count = number
            try:
                source, file_name = _image(row[image], local=isinstance(name, Path))
            except UserError as error:
                report.refuse(f"Row {number} of {name}", str(error))
                continue
            yield Arrival(source, file_name or f"{number:05}", _captions(row.get(caption), labels))
    except Exception as error:  # whatever the network, the Hub's client or a decoder of tables raises
        if count == 0:
            raise _explained(error, name, split) from error
        report.refuse("The rest", f"of {name} could not be fetched after {count:,} rows ({_first_line(error)}).")


def _open(
    name: str | Path, image_column: str | None, text_column: str | None, revision: str | None, split: str
) -> tuple[datasets.IterableDataset, str, str | None]:
    """The rows, with images as they are stored, and the columns of images and captions."""
    if isinstance(name, Path):
        if not name.is_dir():
            raise UserError(f"There is no folder at {name}. Check the path and try again.")
        address = str(name.resolve())
    else:
        name = name.strip().removeprefix("https://huggingface.co/datasets/").strip("/")
        if not _is_name(name):
            raise UserError(f"{name[:100] or 'Nothing'} is not the name of a data set. Name one as user/name.")
        address = f"hf://datasets/{name}"  # which, unlike the name alone, never means a folder here
    try:
        if not isinstance(name, Path):  # Asked first, as it tells at once what is wrong; the rest tries for long.
            HfApi(token=_token()).dataset_info(name, revision=revision or None, timeout=10)
        part = {"split": split or "train", "revision": revision or None}
        rows = datasets.load_dataset(address, **part, streaming=True, token=_token())
        if rows.features is None:
            first = next(iter(rows), None)
            if first is None:
                raise UserError(f"{name} has no rows in {split}. Choose another split.")
            rows = rows.cast(datasets.Dataset.from_list([first]).features)
    except UserError:
        raise
    except Exception as error:
        raise _explained(error, name, split) from error
    image = _column(rows.features, image_column, IMAGE_COLUMNS, _holds_images, "pictures", name)
    assert image is not None  # Captions alone may be missing.
    caption = _column(rows.features, text_column, CAPTION_COLUMNS, _holds_text, "captions", name)
    return rows.cast_column(image, datasets.Image(decode=False)), image, caption


def _is_name(name: str) -> bool:
    """Whether the Hub's client takes a text for `user/name`."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1 and name.isascii()


def _token() -> bool | None:
    """Nobody's on a Space, where that of the machine would read its owner's own data for strangers."""
    return False if on_space() else None


def _column(features, wanted: str | None, usual: tuple[str, ...], fits, what: str, name: str | Path) -> str | None:
    columns = ", ".join(features)
    if wanted:
        if wanted not in features or not fits(features[wanted]):
            raise UserError(f"{name} has no column {wanted} of {what}. It has {columns}; name one of them.")
        return wanted
    able = [column for column, kind in features.items() if fits(kind)]
    known = sorted((column for column in able if column_key(column) in usual), key=lambda x: usual.index(column_key(x)))
    if known or len(able) == 1:
        return (known or able)[0]
    if what == "captions" and not able:
        return None
    raise UserError(f"It is not clear which column of {name} holds the {what}. It has {columns}; name one of them.")


def _holds_images(kind: object) -> bool:
    stored = isinstance(kind, dict) and {"bytes", "path"} >= set(kind) and "bytes" in kind
    return isinstance(kind, datasets.Image) or stored or getattr(kind, "dtype", "") in ("binary", "large_binary")


def _holds_text(kind: object) -> bool:
    kind = getattr(kind, "feature", kind)  # a list of captions
    return isinstance(kind, datasets.ClassLabel) or getattr(kind, "dtype", "") in ("string", "large_string")


def _captions(value: object, labels: datasets.ClassLabel | None) -> list[str]:
    if labels is not None:
        return [labels.int2str(value).replace("_", " ")] if isinstance(value, int) and value >= 0 else []
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]


def _image(value: dict | None, local: bool) -> tuple[bytes, str]:
    """The bytes of an image and its file's name, "" if it has none.

    Raises:
        UserError: the rest of a sentence that begins with the row.
    """
    path = (value or {}).get("path") or ""
    data = (value or {}).get("bytes")
    if data is None and not path:
        raise UserError("has no picture.")
    if data is None:
        # A data set may name any file; only those that lie in a data set themselves are opened.
        if not (local or _ON_THE_HUB.match(path)):
            raise UserError("names its picture by an address outside the data set, which is not followed.")
        try:
            with xopen(path, "rb", download_config=datasets.DownloadConfig(token=_token())) as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise UserError("names a picture that is not there.") from None
    if len(data) > MAX_BYTES:
        raise UserError(f"has a picture larger than {MAX_BYTES // 1_000_000} MB.")
    return data, os.path.basename(path.split("::")[0])


def _explained(error: Exception, name: str | Path, split: str) -> UserError:
    told = str(error)
    if isinstance(error, OfflineModeIsEnabled):
        return UserError(f"The Hugging Face Hub is switched off here by HF_HUB_OFFLINE, so {name} cannot be fetched.")
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"ConnectionError", "TransportError"}:  # of whichever HTTP library the Hub's client uses
        return UserError(f"The Hugging Face Hub could not be reached for {name}. Check the network and try again.")
    if isinstance(error, GatedRepoError):
        return UserError(f"{name} asks to have its terms accepted on the Hub. Do that, set HF_TOKEN and try again.")
    if isinstance(error, RepositoryNotFoundError):
        return UserError(f"There is no data set {name} on the Hub, or it is private. Check the name, or set HF_TOKEN.")
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"{name} has no such revision. Leave it empty for the newest.")
    if "scripts are no longer supported" in told:
        return UserError(f"{name} needs a program of its own to be read, which is never run. Choose another data set.")
    if match := re.search(r"Available splits: \[(.*)\]", told):
        return UserError(f"{name} has no split {split}. It has {match[1]}; name one of them.")
    if "Config name is missing" in told:
        return UserError(f"{name} is several data sets in one, which cannot be told apart here. Choose another.")
    return UserError(f"{name} could not be read ({_first_line(error)}). Choose another data set.")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(".")
