"""The bench as one report: all questions asked, as numbers and as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mmgen.data.folder import load_and_tell
from mmgen.data.splits import UNSEEN_LABELS, UNSEEN_PAIRS, UNSEEN_STYLE
from mmgen.errors import UserError
from mmgen.evaluation import bench
from mmgen.evaluation.features import SIZE, FeatureExtractor
from mmgen.evaluation.gallery import Progress, gallery
from mmgen.pipeline import MultimodalGANPipeline

SPLITS = ("train", UNSEEN_PAIRS, UNSEEN_LABELS)
"""The splits that are asked where none is named."""

ALL_SPLITS = (*SPLITS, UNSEEN_STYLE)
RESTORED = 200


def evaluate(
    pipe: MultimodalGANPipeline,
    extractor: FeatureExtractor,
    data: Path,
    photographs: Path | None,
    cache: Path,
    count: int,
    splits: Iterable[str] = SPLITS,
    progress: Progress = lambda things, what: things,
    second: FeatureExtractor | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> dict:
    """Ask everything.

    Args:
        extractor: what the images are seen by.
        data: the data set whose splits are asked.
        photographs: a data set with a split `test` of which the autoencoder saw nothing, or None.
        cache: folder for what is seen of the real images.
        count: prompts a split.
        splits: those of `ALL_SPLITS` that are wanted; the ones that the data lacks are left out.
        second: another extractor, which is asked for its opinion of the first drawings of a split, or None.
        tell: takes what was taken, guessed and left out of the data sets, line by line.

    Raises:
        UserError: a data set cannot be read, has none of the splits, or `photographs` has no split `test`.
    """
    pairs = load_and_tell(data, tell)
    others = load_and_tell(photographs, tell, need_text=False) if photographs else {}
    if photographs and "test" not in others:
        raise UserError(f"{photographs} has no split test; it has {', '.join(others)}. Name one of them test.")
    splits = list(splits)
    if not set(splits) & set(pairs):
        raise UserError(f"{data} has no split {' or '.join(splits)}; it has {', '.join(pairs)}.")
    real = gallery(pairs, extractor, cache, progress)
    scores = {}
    for split in splits:
        if not (real.splits == split).any():
            continue
        if split == UNSEEN_STYLE:
            scores[split] = bench.unseen_style_scores(pipe, extractor, real, count, progress)
        else:
            scores[split] = bench.split_scores(pipe, extractor, real, split, count, progress, second, cache)
    report: dict[str, Any] = {
        "splits": scores,
        "references": bench.reference_following(pipe, extractor, real, count, progress),
        "reconstruction": {},
        "judge": f"{extractor.name} at {SIZE} px",
        "labels": len(np.unique(real.labels.astype(str))),
    }
    if second is not None:
        report["second_judge"] = f"{second.name} at {SIZE} px"
    unseen = [row["path"] for split in (UNSEEN_PAIRS, UNSEEN_LABELS) if split in pairs for row in pairs[split]["image"]]
    sources = {data.name: unseen}
    if photographs:
        test = others["test"]
        for style in sorted(set(test["style"])):
            rows = zip(test["image"], test["style"], strict=True)
            sources[style or photographs.name] = [image["path"] for image, own in rows if own == style]
    for name, paths in sources.items():
        if paths:
            chosen = np.random.default_rng(13).permutation(len(paths))[: min(RESTORED, count // 2)]
            report["reconstruction"][name] = bench.reconstruction(pipe, extractor, [paths[i] for i in chosen], progress)
    return report


_ROWS = (
    ("retrieval@1 of 100", "retrieval_at_1", "{:.3f}"),
    ("  real, another style (ceiling)", "retrieval_at_1_ceiling", "{:.3f}"),
    ("  drawn, asked as the ceiling is: its own style left out", "retrieval_at_1_like_ceiling", "{:.3f}"),
    ("  shuffled prompts (floor)", "retrieval_at_1_floor", "{:.3f}"),
    ("  with what was looked up left in the gallery", "retrieval_at_1_all", "{:.3f}"),
    ("retrieval@5 of 100", "retrieval_at_5", "{:.3f}"),
    ("  real, another style (ceiling)", "retrieval_at_5_ceiling", "{:.3f}"),
    ("  shuffled prompts (floor)", "retrieval_at_5_floor", "{:.3f}"),
    ("style followed, where the prompt names it", "style_followed", "{:.3f}"),
    ("  one of the label's styles (chance)", "style_followed_chance", "{:.3f}"),
    ("  real, in a skin tone (ceiling)", "style_followed_real", "{:.3f}"),
    ("  the reference as it is", "style_followed_reference", "{:.3f}"),
    ("  with what was looked up left out", "style_followed_left_out", "{:.3f}"),
    ("drawings, and real pictures, compared in the next eight rows", "compared", "{:d}"),
    ("Fréchet distance", "frechet", "{:.1f}"),
    ("  real against real", "frechet_real", "{:.1f}"),
    ("kernel distance", "kernel", "{:.4f}"),
    ("  real against real", "kernel_real", "{:.4f}"),
    ("precision", "precision", "{:.3f}"),
    ("  real against real", "precision_real", "{:.3f}"),
    ("recall", "recall", "{:.3f}"),
    ("  real against real", "recall_real", "{:.3f}"),
    ("diversity of 8 seeds over real", "diversity", "{:.3f}"),
    ("  where the prompt names a style", "seed_diversity_named", "{:.3f}"),
    ("copies", "copies", "{:.3f}"),
    ("  real against real", "copies_real", "{:.3f}"),
    ("prompts, the first ones, in the next nine rows", "memory_prompts", "{:d}"),
    ("prompts that looked up a picture of their own label", "looked_up_own_label", "{:.3f}"),
    ("the memory's best entry as it is: retrieval@1", "memory_entry_retrieval_at_1", "{:.3f}"),
    ("  style followed", "memory_entry_style_followed", "{:.3f}"),
    ("copies of what was looked up", "copies_of_memory", "{:.3f}"),
    ("  the real pictures", "copies_of_memory_real", "{:.3f}"),
    ("memory weight 1: retrieval@1", "memory_weight_1_retrieval_at_1", "{:.3f}"),
    ("  memory weight 0", "memory_weight_0_retrieval_at_1", "{:.3f}"),
    ("memory weight 1: Fréchet distance", "memory_weight_1_frechet", "{:.1f}"),
    ("  memory weight 0", "memory_weight_0_frechet", "{:.1f}"),
    ("prompts, the first ones, that the second judge saw", "part", "{:d}"),
    ("second judge: retrieval@1 of 100", "second_retrieval_at_1", "{:.3f}"),
    ("  real, another style (ceiling)", "second_retrieval_at_1_ceiling", "{:.3f}"),
    ("second judge: Fréchet distance", "second_frechet", "{:.1f}"),
    ("  real against real", "second_frechet_real", "{:.1f}"),
    ("named by the decoder (the first 200)", "named", "{:.3f}"),
    ("  the real pictures", "named_real", "{:.3f}"),
    ("prompts", "prompts", "{:d}"),
)


def _cell(value: float | None, form: str) -> str:
    """A dash for what is no number, or was not asked yet when the report was made."""
    return "–" if value is None or np.isnan(value) else form.format(value)


def table(report: dict) -> str:
    """The report as Markdown; what was asked of no split has no row."""
    splits = report["splits"]
    lines = ["| | " + " | ".join(splits) + " |", "|---|" + "---|" * len(splits)]
    for title, key, form in _ROWS:
        if not any(key in scores for scores in splits.values()):
            continue
        cells = [_cell(scores.get(key), form) for scores in splits.values()]
        indent = "&nbsp;&nbsp;" if title.startswith(" ") else ""
        lines.append(f"| {indent}{title.strip()} | " + " | ".join(cells) + " |")
    following = {name: _cell(value, "{:.3f}") for name, value in report["references"].items()}
    lines += [
        "",
        f"Style of a reference followed: {following['followed']} (the reference itself as the answer "
        f"{following['reference_alone']}, chance {following['chance']}).",
        "",
        "| reconstruction of unseen pictures | PSNR, dB | judge's distance | pictures |",
        "|---|---|---|---|",
    ]
    for name, values in report["reconstruction"].items():
        lines.append(f"| {name} | {values['psnr']:.2f} | {values['judge']:.3f} | {values['pictures']} |")
    return "\n".join(lines)
