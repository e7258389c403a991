"""What every reader of a data set agrees on: which files are images, the names of splits, and the columns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import datasets

KEPT_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
"""Kinds of images that a draft keeps to the byte."""

OTHER_IMAGES = frozenset({".heic", ".heif", ".jxl", ".svg"})
"""Kinds that are read too, unless the same image lies beside them as one of the others."""

IMAGES = KEPT_IMAGES | OTHER_IMAGES | {".jfif", ".jpe", ".ppm", ".pgm", ".tga"}
METADATA = ("metadata.jsonl", "metadata.csv")
SPLITS = {
    **{"train": "train", "training": "train"},
    **{"validation": "validation", "valid": "validation", "val": "validation"},
    **{"test": "test", "testing": "test"},
}

IMAGE_COLUMNS = (
    *("file_name", "filename", "file", "image", "path", "file_path", "filepath", "image_path", "image_file"),
    *("image_name", "img", "img_path", "picture", "photo", "name", "key"),
)
CAPTION_COLUMNS = (
    *("text", "caption", "captions", "prompt", "description", "sentence", "caption_text", "sentences", "title"),
    *("texts", "prompts", "descriptions", "label", "name", "tags"),
)
"""Usual names of the two columns, the likeliest first, as `column_key` writes them."""

ORIGIN = ("source", "licence", "author", "base_style")
"""Columns that say where an image comes from, and what a synthetic style is made from; a record may lack them."""

_TEXT = datasets.Value("string")
FEATURES = datasets.Features(
    {
        "image": datasets.Image(decode=False),
        "text": _TEXT,
        "captions": datasets.List(_TEXT),
        "label": _TEXT,
        "concept": _TEXT,
        "style": _TEXT,
        "tags": datasets.List(_TEXT),
        "group": _TEXT,
        "source": _TEXT,
        "licence": _TEXT,
        "author": _TEXT,
        "base_style": _TEXT,
    }
)


def column_key(name: object) -> str:
    """A column's name as it is compared: without case, stray spaces, and what joins its words.

    >>> column_key(" File Name")
    'file_name'
    """
    return re.sub(r"[\s\-]+", "_", str(name).strip().strip("\ufeff").lower())


def split_name(name: str) -> str:
    """A split as it is called here, whatever its case.

    >>> split_name("Val"), split_name("unseen_pairs")
    ('validation', 'unseen_pairs')
    """
    return SPLITS.get(name.strip().lower(), name.strip().lower())


def to_splits(records: Iterable[dict[str, Any]]) -> datasets.DatasetDict:
    """Records with the keys of `FEATURES` (`image` a path) and `split` -> a data set for each split, `train` first."""
    splits: dict[str, dict[str, list]] = {}
    for record in records:
        columns = splits.setdefault(record["split"], {name: [] for name in FEATURES})
        for name, column in columns.items():
            column.append(record.get(name, "") if name in ORIGIN else record[name])
    order = sorted(splits, key=lambda split: split != "train")
    return datasets.DatasetDict({split: datasets.Dataset.from_dict(splits[split], FEATURES) for split in order})
