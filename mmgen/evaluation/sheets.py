"""Sheets of images: the quickest honest look at a model."""

from __future__ import annotations

import random
from collections.abc import Sequence

import datasets
from PIL import Image

from mmgen.data.shards import open_image_at
from mmgen.errors import UserError
from mmgen.evaluation.entries import best_entry, entry_images
from mmgen.pipeline import MultimodalGANPipeline

MAX_PIXELS = 150_000_000
"""Of a sheet."""


def grid(
    images: Sequence[Image.Image],
    columns: int,
    cell: int = 128,
    gap: int = 4,
    enlarge: Image.Resampling = Image.Resampling.LANCZOS,
) -> Image.Image:
    """Lay images row by row on white, each fitted into a cell; smaller ones are made larger by `enlarge`.

    Raises:
        UserError: the sheet would have more than `MAX_PIXELS`.
    """
    rows = -(-len(images) // columns)
    width, height = columns * (cell + gap) + gap, rows * (cell + gap) + gap
    if width * height > MAX_PIXELS:
        raise UserError(f"A sheet of {width} x {height} pixels is too large. Give fewer pictures or a smaller scale.")
    sheet = Image.new("RGB", (width, height), "white")
    for index, image in enumerate(images):
        how = enlarge if max(image.size) < cell else Image.Resampling.LANCZOS
        image = image.convert("RGBA").resize((cell, cell), how)
        corner = (gap + index % columns * (cell + gap), gap + index // columns * (cell + gap))
        sheet.paste(image, corner, image)
    return sheet


def interleave(
    above: Sequence[Image.Image],
    below: Sequence[Image.Image],
    columns: int,
    between: Sequence[Image.Image] = (),
) -> list[Image.Image]:
    """Rows of `above`, each followed by the rows of `between` (if there is any) and `below` that belong to it."""
    kinds = [kind for kind in (above, between, below) if kind]
    rows = range(0, len(above), columns)
    return [image for start in rows for kind in kinds for image in kind[start : start + columns]]


def comparison(
    pipe: MultimodalGANPipeline,
    data: datasets.Dataset,
    count: int,
    seed: int,
    columns: int = 12,
    scale: float | None = None,
) -> tuple[Image.Image, list[str]]:
    """Real images above generated ones, for `count` rows of a split spread evenly over its concepts.

    Between them, where the model has a memory, is the entry that each looked up whose label is nearest to the words, as
    it is; a gap where none was found. Each is drawn from its second caption where it has one (for emoji the plain label
    and the style).

    Args:
        scale: as `cell_of` takes it.

    Returns:
        The sheet and the captions in its order.
    """
    chosen = spread_rows(data, count, seed)
    captions = [caption_of(row) for row in chosen]
    real = [open_image_at(row["image"]["path"]) for row in chosen]
    drawn: list[Image.Image] = []
    best = []
    for caption in captions:
        output = pipe(caption, seed=seed)
        drawn += output.images
        best.append(best_entry(output.drawn_from[0]) if output.drawn_from and output.drawn_from[0] else None)
    numbers = sorted({entry for entry in best if entry is not None})
    decoded = dict(zip(numbers, entry_images(pipe, numbers), strict=True))
    gap = Image.new("RGBA", (1, 1))
    entries = [decoded.get(entry, gap) for entry in best] if decoded else ()
    columns = min(columns, len(chosen))
    images = interleave(real, drawn, columns, entries)
    return grid(images, columns, cell_of(pipe, scale), enlarge=Image.Resampling.NEAREST), captions


def seeds_sheet(
    pipe: MultimodalGANPipeline, prompts: Sequence[str], seeds: int, seed: int, scale: float | None = None
) -> Image.Image:
    """A row for each prompt: its images of `seeds` seeds, the first of which is `seed`."""
    images = [image for prompt in prompts for image in pipe(prompt, seed=seed, num_images=seeds).images]
    return grid(images, seeds, cell_of(pipe, scale), enlarge=Image.Resampling.NEAREST)


def cell_of(pipe: MultimodalGANPipeline, scale: float | None) -> int:
    """Side in pixels at which an image is shown: 128, or so many times the side at which it is drawn."""
    return 128 if scale is None else max(1, round(pipe.image_size * scale))


def spread_rows(data: datasets.Dataset, count: int, seed: int) -> list[dict]:
    """`count` rows of a split, of different concepts, or as many as there are."""
    concepts = data["concept"][:]
    rng = random.Random(seed)
    chosen = rng.sample(sorted(set(concepts)), min(count, len(set(concepts))))
    return [data[rng.choice([i for i, concept in enumerate(concepts) if concept == name])] for name in chosen]


def caption_of(row: dict) -> str:
    """A row's second caption, or the only one."""
    return row["captions"][min(1, len(row["captions"]) - 1)]
