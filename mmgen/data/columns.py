"""What every reader of a data set agrees on: which files are pictures, the names of splits, and the columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import datasets

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
METADATA = ("metadata.jsonl", "metadata.csv")
SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}

ORIGIN = ("source", "licence", "author", "base_style")
"""Columns that say where a picture comes from, and what a synthetic style is made from; a record may lack them."""

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


def to_splits(records: Iterable[dict[str, Any]]) -> datasets.DatasetDict:
    """Records with the keys of `FEATURES` (`image` a path) and `split` -> a data set for each split, `train` first."""
    splits: dict[str, dict[str, list]] = {}
    for record in records:
        columns = splits.setdefault(record["split"], {name: [] for name in FEATURES})
        for name, column in columns.items():
            column.append(record.get(name, "") if name in ORIGIN else record[name])
    order = sorted(splits, key=lambda split: split != "train")
    return datasets.DatasetDict({split: datasets.Dataset.from_dict(splits[split], FEATURES) for split in order})
