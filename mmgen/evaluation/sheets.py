"""Sheets of pictures: the quickest honest look at a model."""

from __future__ import annotations

import random
from collections.abc import Sequence

import datasets
from PIL import Image

from mmgen.data.shards import open_picture
from mmgen.pipeline import MultimodalGANPipeline


def grid(pictures: Sequence[Image.Image], columns: int, cell: int = 128, gap: int = 4) -> Image.Image:
    """Lay pictures row by row on white, each fitted into a cell."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (cell + gap) + gap, rows * (cell + gap) + gap), "white")
    for index, picture in enumerate(pictures):
        picture = picture.convert("RGBA").resize((cell, cell), Image.Resampling.LANCZOS)
        corner = (gap + index % columns * (cell + gap), gap + index // columns * (cell + gap))
        sheet.paste(picture, corner, picture)
    return sheet


def interleave(above: Sequence[Image.Image], below: Sequence[Image.Image], columns: int) -> list[Image.Image]:
    """Rows of `above`, each followed by the row of `below` that belongs to it."""
    rows = range(0, len(above), columns)
    return [picture for start in rows for row in (above, below) for picture in row[start : start + columns]]


def comparison(
    pipe: MultimodalGANPipeline, data: datasets.Dataset, count: int, seed: int, columns: int = 12
) -> tuple[Image.Image, list[str]]:
    """Real pictures above generated ones, for `count` rows of a split spread evenly over its concepts.

    Each is drawn from its second caption where it has one (for emoji the plain label and the style).

    Returns:
        The sheet and the captions in its order.
    """
    concepts = data["concept"]
    rng = random.Random(seed)
    chosen = rng.sample(sorted(set(concepts)), min(count, len(set(concepts))))
    rows = [data[rng.choice([i for i, concept in enumerate(concepts) if concept == name])] for name in chosen]
    captions = [row["captions"][min(1, len(row["captions"]) - 1)] for row in rows]
    real = [open_picture(row["image"]["path"]) for row in rows]
    drawn = [pipe(caption, seed=seed).images[0] for caption in captions]
    columns = min(columns, len(rows))
    return grid(interleave(real, drawn, columns), columns), captions
