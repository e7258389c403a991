"""Sheets of pictures: the quickest honest look at a model."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image


def grid(pictures: Sequence[Image.Image], columns: int, cell: int = 128, gap: int = 4) -> Image.Image:
    """Lay pictures row by row on white, each fitted into a cell."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (cell + gap) + gap, rows * (cell + gap) + gap), "white")
    for index, picture in enumerate(pictures):
        picture = picture.convert("RGBA").resize((cell, cell), Image.Resampling.LANCZOS)
        corner = (gap + index % columns * (cell + gap), gap + index // columns * (cell + gap))
        sheet.paste(picture, corner, picture)
    return sheet
