"""The bench as one report: all questions asked, as numbers and as a table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mmgen.data.folder import load_pairs
from mmgen.data.splits import UNSEEN_LABELS, UNSEEN_PAIRS
from mmgen.errors import UserError
from mmgen.evaluation import bench
from mmgen.evaluation.judge import SIZE, Judge
from mmgen.pipeline import MultimodalGANPipeline

SPLITS = ("train", UNSEEN_PAIRS, UNSEEN_LABELS)
RESTORED = 200


def evaluate(
    pipe: MultimodalGANPipeline,
    judge: Judge,
    data: Path,
    photographs: Path | None,
    cache: Path,
    count: int,
    splits: Iterable[str] = SPLITS,
    progress: bench.Progress = lambda things, what: things,
) -> dict:
    """Ask everything.

    Args:
        data: the data set whose splits are asked.
        photographs: a data set with a split `test` of which the autoencoder saw nothing, or None.
        cache: folder for what the judge saw of the real pictures.
        count: prompts a split.
        splits: those of `SPLITS` that are wanted; the ones that the data lacks are left out.

    Raises:
        UserError: a data set cannot be read, or `photographs` has no split `test`.
    """
    pairs = load_pairs(data)
    others = load_pairs(photographs, need_text=False) if photographs else {}
    if photographs and "test" not in others:
        raise UserError(f"{photographs} has no split test; it has {', '.join(others)}. Name one of them test.")
    real = bench.gallery(pairs, judge, cache, progress)
    scores = {
        split: bench.split_scores(pipe, judge, real, split, count, progress)
        for split in splits
        if (real.splits == split).any()
    }
    report: dict[str, Any] = {
        "splits": scores,
        "references": bench.reference_following(pipe, judge, real, count, progress),
        "reconstruction": {},
        "judge": f"MobileNetV2 of nsfwjs at {SIZE} px",
        "labels": len(np.unique(real.labels.astype(str))),
    }
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
            report["reconstruction"][name] = bench.reconstruction(pipe, judge, [paths[i] for i in chosen], progress)
    return report


_ROWS = (
    ("retrieval@1 of 100", "retrieval_at_1", "{:.3f}"),
    ("  real, another style (ceiling)", "retrieval_at_1_ceiling", "{:.3f}"),
    ("  drawn, asked as the ceiling is: its own style left out", "retrieval_at_1_like_ceiling", "{:.3f}"),
    ("  shuffled prompts (floor)", "retrieval_at_1_floor", "{:.3f}"),
    ("retrieval@5 of 100", "retrieval_at_5", "{:.3f}"),
    ("  real, another style (ceiling)", "retrieval_at_5_ceiling", "{:.3f}"),
    ("  shuffled prompts (floor)", "retrieval_at_5_floor", "{:.3f}"),
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
    ("copies", "copies", "{:.3f}"),
    ("  real against real", "copies_real", "{:.3f}"),
    ("named by the decoder (the first 200)", "named", "{:.3f}"),
    ("  the real pictures", "named_real", "{:.3f}"),
    ("prompts", "prompts", "{:d}"),
)


def _cell(value: float | None, form: str) -> str:
    """A dash for what is no number, or was not asked yet when the report was made."""
    return "–" if value is None or np.isnan(value) else form.format(value)


def table(report: dict) -> str:
    """The report as Markdown."""
    splits = report["splits"]
    lines = ["| | " + " | ".join(splits) + " |", "|---|" + "---|" * len(splits)]
    for title, key, form in _ROWS:
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
