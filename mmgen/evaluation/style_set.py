"""The bench of completed sets: some images of a style that the model never saw are given, and other labels asked for.

Two questions to each drawing, both by a feature extractor that had no part in the model. Label@1: of 100 labels, real
images in that very style, is the right one nearest? A copy of a given image has another label, and is wrong. Style
followed: among all real images of the label, is that of the style nearest? A copy of what the memory brought is of
another style, and is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image

from mmgen.data.folder import load_and_tell
from mmgen.data.shards import open_image_at
from mmgen.data.splits import UNSEEN_STYLE
from mmgen.errors import UserError
from mmgen.evaluation.entries import entry_images
from mmgen.evaluation.features import SIZE, FeatureExtractor
from mmgen.evaluation.gallery import Gallery, Progress, gallery
from mmgen.evaluation.retrieval import draw, mean_of, retrieval, style_followed
from mmgen.pipeline import MAX_REFERENCES, MultimodalGANPipeline

GIVEN = (5, 20, 50)
"""Images of the style that are given; as far as the style has more."""

ASKED = 200
"""Labels that are asked for, at most."""

SET = "style_set"
"""The split that a data set of one style is added to the gallery as."""

SEED = 1000


def evaluate_style_set(
    pipe: MultimodalGANPipeline,
    extractor: FeatureExtractor,
    data: Path,
    own: Path | None,
    cache: Path,
    count: int = ASKED,
    progress: Progress = lambda things, what: things,
    tell: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Ask for what is missing from sets in one style.

    Args:
        data: the data set whose real images are compared with; its split `unseen_style` is the style.
        own: another data set, of one style, to be completed instead; its labels are to be found in `data` too.
        cache: folder for what is seen of the real images.
        count: labels asked for.
        tell: takes what was taken, guessed and left out of the data sets, line by line.

    Raises:
        UserError: a data set cannot be read, has too few images or several styles, or the model has no memory.
    """
    splits = dict(load_and_tell(data, tell))
    if own is not None:
        splits[SET] = _one_style(own, tell)
    real = gallery(splits, extractor, cache, progress)
    split = UNSEEN_STYLE if own is None else SET
    if not (real.splits == split).any():
        raise UserError(
            f"{data} has no split {UNSEEN_STYLE} to complete a set of; name a data set of one style instead."
        )
    scores = style_set_scores(pipe, extractor, real, split, count, progress)
    return {"style_set": scores, "judge": f"{extractor.name} at {SIZE} px"}


def _one_style(folder: Path, tell: Callable[[str], object]) -> datasets.Dataset:
    """All images of a data set of one style, which is called by the folder's name."""
    rows = datasets.concatenate_datasets(list(load_and_tell(folder, tell).values()))
    styles = sorted(set(rows["style"]))
    if len(styles) > 1:
        raise UserError(f"{folder} has several styles ({', '.join(styles)[:200]}). Give a data set of one.")
    return rows.remove_columns("style").add_column("style", [f"set {folder.resolve().name}"] * len(rows))


def style_set_scores(
    pipe: MultimodalGANPipeline,
    extractor: FeatureExtractor,
    real: Gallery,
    split: str,
    count: int,
    progress: Progress,
) -> dict[str, Any]:
    """The two shares for each number of given images and for what there was before.

    Returns:
        `style`, `asked`, `labels` (among which one is found), `style_followed_chance`, and in `rows` by name
        `label_at_1` and `style_followed`: `given_5` and so on; `memory_entry`, the best entry of the memory as it is;
        `references`, the label's words with up to four of the given images as references; `other_style`, real
        images of the label in another style.
    """
    styles = real.styles[real.splits == split].astype(str)
    names, counts = np.unique(styles, return_counts=True)
    style = str(names[counts.argmax()])
    own = np.flatnonzero((real.splits == split) & (real.styles == style))
    order = np.random.default_rng(19).permutation(own)
    _, first = np.unique(real.labels[order].astype(str), return_index=True)
    order = order[np.sort(first)]  # One image a label.
    given = [number for number in GIVEN if number <= len(order) - 2]
    if not given:
        raise UserError(
            f"The style {style} has {len(order)} labels; at least {GIVEN[0] + 2} are needed to complete a set."
        )
    rows = order[given[-1] :][:count]
    labels, wanted = real.labels[rows], real.styles[rows]
    pool = _part(real, np.flatnonzero(real.styles == style))
    asked = [str(name) for name in real.names[rows]]

    def scored(images: Iterable[Image.Image], among: np.ndarray | slice = slice(None)) -> dict[str, float]:
        return _scores(real, pool, extractor.extract(images), labels[among], wanted[among])

    made: dict[str, dict[str, float]] = {}
    for number in given:
        shown = [open_image_at(path) for path in real.paths[order[:number]]]
        captions = [str(name) for name in real.names[order[:number]]]
        drawn = pipe.complete(shown, captions, asked, [SEED + place for place in range(len(asked))])
        made[f"given_{number}"] = scored(one.image for one in _told(drawn, progress, len(asked), f"{number} pictures"))
    made["memory_entry"] = scored(entry_images(pipe, _best_entries(pipe, asked)))
    references = [open_image_at(path) for path in real.paths[order[: min(MAX_REFERENCES, given[-1])]]]
    alone = progress(list(enumerate(asked)), "references alone")
    made["references"] = scored(
        image for place, name in alone for image in draw(pipe, [name], [SEED + place], references=references)
    )
    others = _other_styles(real, labels, style)
    there = np.flatnonzero(others >= 0)
    made["other_style"] = _scores(real, pool, real.raw[others[there]], labels[there], wanted[there])
    _, chance = style_followed(real, real.seen[rows], labels, wanted)
    return {
        "style": style,
        "asked": len(rows),
        "labels": min(100, len(np.unique(pool.labels.astype(str)))),
        "style_followed_chance": mean_of(chance),
        "rows": made,
    }


def _scores(real: Gallery, pool: Gallery, raw: np.ndarray, labels: np.ndarray, styles: np.ndarray) -> dict[str, float]:
    vectors = real.compare(raw)
    return {
        "label_at_1": retrieval(pool, vectors, labels, seed=1).at(1),
        "style_followed": mean_of(style_followed(real, vectors, labels, styles)[0]),
    }


def _part(real: Gallery, rows: np.ndarray) -> Gallery:
    """Some rows of a gallery, as the whole sees them."""
    names = ("paths", "labels", "styles", "splits", "prompts", "names", "raw", "seen")
    return replace(real, **{name: getattr(real, name)[rows] for name in names})


@torch.no_grad()
def _best_entries(pipe: MultimodalGANPipeline, asked: Sequence[str]) -> list[int]:
    """To each label the entry of the model's memory that is likest by its words, of whatever style."""
    best = []
    for name in asked:
        query = pipe.content_query(name)
        number = torch.tensor([-1], device=pipe.device)
        best.append(int(pipe.memory.lookup(query.whole, number, temperature=0.0).entries[0, 0]))
    return best


def _other_styles(real: Gallery, labels: np.ndarray, style: str) -> np.ndarray:
    """[n] to each label a row of a real image in another style, -1 where there is none."""
    rng = np.random.default_rng(23)
    found = [np.flatnonzero((real.labels == label) & (real.styles != style)) for label in labels]
    return np.array([int(rng.choice(rows)) if len(rows) else -1 for rows in found])


def _told(things: Iterable, progress: Progress, count: int, what: str) -> Iterable:
    """Things as they come, `count` of them, told of as they are taken."""
    return (thing for _, thing in zip(progress(range(count), what), things, strict=False))


_TITLES = {
    "memory_entry": "the memory's best entry as it is",
    "references": "references alone",
    "other_style": "real pictures, another style",
}


def style_set_table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    scores = report["style_set"]
    lines = [
        f"| {scores['style']}: {scores['asked']} labels asked | label@1 of {scores['labels']} | style followed |",
        "|---|---|---|",
    ]
    for name, values in scores["rows"].items():
        title = _TITLES.get(name) or f"{name.removeprefix('given_')} pictures given"
        lines.append(f"| {title} | {_cell(values['label_at_1'])} | {_cell(values['style_followed'])} |")
    lines.append(f"| chance | {1 / scores['labels']:.3f} | {_cell(scores['style_followed_chance'])} |")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    """A dash for what is no number."""
    return "–" if value is None or np.isnan(value) else f"{value:.3f}"
