"""The bench: what a checkpoint's pictures are worth, in numbers that cannot be flattered.

Everything but `named_back` is asked of the judge, a network that had no part in the model, on fixed seeds. Pictures
without skin tones stand for their label; a prompt is a picture's second caption, for emoji the label and the style. A
split with fewer pictures than prompts is asked again with other seeds.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmgen.data import recolour, synthetic_styles
from mmgen.data.shards import file_of, open_picture
from mmgen.devices import autocast
from mmgen.errors import UserError
from mmgen.evaluation.captions import named
from mmgen.evaluation.distances import frechet, kernel, precision_recall, squared_distances
from mmgen.evaluation.judge import PACKAGE, SIZE, Judge
from mmgen.images import psnr, to_tensor
from mmgen.pipeline import MultimodalGANPipeline

CANDIDATES = 100
KIN = 150
DIVERSE_SEEDS = 8
NAMED = 200
"""Pictures of a split that the decoder is asked for, at most; and half the prompts at most."""

Progress = Callable[[Iterable, str], Iterable]


@dataclass
class Gallery:
    """The real pictures without skin tones of a data set, as the judge sees them.

    Attributes:
        paths, labels, styles, splits: [N] each.
        prompts: [N], the caption that names label and style; names: [N], the label's phrase alone.
        raw: [N, D] the judge's features.
        seen: [N, D] the same, as `compare` puts them.
        mean, spread: [D] of the square roots of `raw`.
        kinship: median distance of two real pictures of one concept and style (of emoji, in two skin tones).
    """

    paths: np.ndarray
    labels: np.ndarray
    styles: np.ndarray
    splits: np.ndarray
    prompts: np.ndarray
    names: np.ndarray
    raw: np.ndarray
    seen: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    kinship: float = float("nan")

    def compare(self, raw: np.ndarray) -> np.ndarray:
        """Features [n, D] -> vectors of length 1 whose product tells likeness.

        Square roots, standardised over the real pictures: with them a real picture finds its label in another style
        more often (0.64 of 100) than with the bare features' cosine (0.49).
        """
        even = (np.sqrt(np.maximum(raw, 0)) - self.mean) / self.spread
        return even / np.maximum(np.linalg.norm(even, axis=1, keepdims=True), 1e-9)


def gallery(splits, judge: Judge, cache: Path, progress: Progress) -> Gallery:
    """Look at every real picture without a skin tone of `mmgen.data.folder.load_pairs`' splits.

    What the judge saw is kept in `cache`, under a name made of the pictures' paths, sizes and times.
    """
    kin: dict[tuple[str, str], list[str]] = {}
    columns: dict[str, list] = {name: [] for name in ("paths", "labels", "styles", "splits", "prompts", "names")}
    for split, data in splits.items():
        for row in data.select_columns(["image", "captions", "label", "concept", "style", "group"]):
            if row["group"] in (recolour.GROUP, synthetic_styles.GROUP):
                continue
            kin.setdefault((row["concept"], row["style"]), []).append(row["image"]["path"])
            if row["label"] == row["concept"]:
                captions = row["captions"]
                values = (row["image"]["path"], row["label"], row["style"], split, captions[min(1, len(captions) - 1)])
                for column, value in zip(columns.values(), (*values, captions[0]), strict=True):
                    column.append(value)
    raw = _kept(columns["paths"], judge, cache, progress)
    even = np.sqrt(np.maximum(raw, 0))
    arrays = {name: np.array(column, dtype=object) for name, column in columns.items()}
    made = Gallery(**arrays, raw=raw, seen=raw, mean=even.mean(0), spread=even.std(0) + 1e-3)
    made.seen = made.compare(raw)
    families = sorted(family for family in kin.values() if len(family) > 1)
    chosen = np.random.default_rng(5).permutation(len(families))[:KIN]
    pairs = [path for index in chosen for path in families[index][:2]]
    if pairs:
        close = made.compare(judge.look(open_picture(path) for path in progress(pairs, "pictures of one kind")))
        made.kinship = float(np.median(np.linalg.norm(close[::2] - close[1::2], axis=1)))
    return made


def _kept(paths: list[str], judge: Judge, cache: Path, progress: Progress) -> np.ndarray:
    stamp = hashlib.sha256(f"{PACKAGE.integrity} {SIZE}".encode())
    for path in paths:
        stat = os.stat(file_of(path))
        stamp.update(f"{path}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    file = cache / f"judged-{stamp.hexdigest()[:16]}.npy"
    if not file.exists():
        raw = judge.look(open_picture(path) for path in progress(paths, "real pictures"))
        cache.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{file.stem}.part{os.getpid()}.npy")
        np.save(part, raw)
        part.rename(file)
    return np.load(file)


@dataclass
class Ranks:
    """Where the right label stood among `CANDIDATES`, for each question asked (0 is first)."""

    places: np.ndarray

    def at(self, k: int) -> float:
        return float((self.places < k).mean())


def retrieval(
    real: Gallery, vectors: np.ndarray, labels: np.ndarray, seed: int, without_style: np.ndarray | None = None
) -> Ranks:
    """Of 100 labels, the right one and 99 drawn by the seed: whose nearest real picture is nearest to each vector?

    Args:
        vectors: [n, D] as `Gallery.compare` gives them; labels: [n] the right ones.
        without_style: [n] a style whose real pictures do not count, for each vector.
    """
    rng = np.random.default_rng(seed)
    known, number = np.unique(real.labels.astype(str), return_inverse=True)
    number_of = {label: index for index, label in enumerate(known)}
    styles = real.styles.astype(str)
    places = []
    for row, (vector, label) in enumerate(zip(vectors, labels, strict=True)):
        likeness = real.seen @ vector
        if without_style is not None:
            likeness = np.where(styles == without_style[row], -np.inf, likeness)
        best = np.full(len(known), -np.inf)
        np.maximum.at(best, number, likeness)
        right = number_of[label]
        others = rng.permutation(np.delete(np.arange(len(known)), right))[: CANDIDATES - 1]
        if np.isfinite(best[right]):
            places.append(int((best[others] > best[right]).sum()))
    return Ranks(np.array(places))


@dataclass
class Questions:
    """The prompts of one split: rows of the gallery, each with the seed of its picture."""

    rows: np.ndarray
    seeds: np.ndarray


def questions(real: Gallery, split: str, count: int) -> Questions:
    """`count` prompts of a split, each with a seed of its own: its pictures in a shuffled order, again and again."""
    rows = np.flatnonzero(real.splits == split)
    order = np.random.default_rng(7).permutation(rows)
    return Questions(np.resize(order, count), np.arange(count) + 1000)


def draw(pipe: MultimodalGANPipeline, prompts: Iterable[str], seeds: Iterable[int]) -> Iterable[Image.Image]:
    """One picture for each prompt and seed."""
    for prompt, seed in zip(prompts, seeds, strict=True):
        yield pipe(prompt, seed=int(seed)).images[0]


def split_scores(
    pipe: MultimodalGANPipeline, judge: Judge, real: Gallery, split: str, count: int, progress: Progress
) -> dict[str, float]:
    """Retrieval, distances, diversity and copies of one split; see the README for what each says.

    Fréchet, kernel, precision and recall compare `compared` drawings, and as many real pictures of the split, with
    others of the training split. Their values depend on that number: compare them with the real ones beside them.
    """
    asked = questions(real, split, count)
    prompts, labels, styles = (column[asked.rows] for column in (real.prompts, real.labels, real.styles))
    kept: list[Image.Image] = []  # The first pictures, for the decoder to name.
    pictures = draw(pipe, progress(prompts, split), asked.seeds)
    raw = judge.look(_keeping(pictures, kept, min(NAMED, count // 2) if pipe.decoder else 0))
    vectors = real.compare(raw)
    ranks = retrieval(real, vectors, labels, seed=1)
    ceiling = retrieval(real, real.seen[asked.rows], labels, seed=1, without_style=styles)
    like_ceiling = retrieval(real, vectors, labels, seed=1, without_style=styles)
    shuffled = np.random.default_rng(2).permutation(len(vectors))
    floor = retrieval(real, vectors[shuffled], labels, seed=1)
    own, others = _two_lots(real, asked)
    drawn = raw[: len(own)]  # As many as the real ones, of which each is asked once before any is asked again.
    precision, recall = precision_recall(drawn, real.raw[others])
    precision_real, recall_real = precision_recall(real.raw[own], real.raw[others])
    return {
        "prompts": len(raw),
        "compared": len(own),
        "retrieval_at_1": ranks.at(1),
        "retrieval_at_1_ceiling": ceiling.at(1),
        "retrieval_at_1_floor": floor.at(1),
        "retrieval_at_1_like_ceiling": like_ceiling.at(1),
        "retrieval_at_5": ranks.at(5),
        "retrieval_at_5_ceiling": ceiling.at(5),
        "retrieval_at_5_floor": floor.at(5),
        "frechet": frechet(drawn, real.raw[others]),
        "frechet_real": frechet(real.raw[own], real.raw[others]),
        "kernel": kernel(drawn, real.raw[others]),
        "kernel_real": kernel(real.raw[own], real.raw[others]),
        "precision": precision,
        "precision_real": precision_real,
        "recall": recall,
        "recall_real": recall_real,
        "diversity": diversity(pipe, judge, real, asked, progress),
        **copies(real, asked, raw),
        **named_back(pipe, real, asked, kept, progress),
    }


def _keeping(pictures: Iterable[Image.Image], kept: list[Image.Image], most: int) -> Iterable[Image.Image]:
    for picture in pictures:
        if len(kept) < most:
            kept.append(picture)
        yield picture


def named_back(
    pipe: MultimodalGANPipeline, real: Gallery, asked: Questions, drawn: list[Image.Image], progress: Progress
) -> dict[str, float]:
    """The loop: of the first `drawn` pictures of the questions, how many does the model's own decoder name rightly?

    `named_real` is the same share of the real pictures that were asked. Nothing for a model without a decoder. This is
    the one measure here in which the model itself answers: its decoder has read pictures of its generator in training,
    and may recognise what nobody else would.
    """
    if pipe.decoder is None:
        return {}
    rows = asked.rows[: len(drawn)]
    own = list(dict.fromkeys(rows.tolist()))
    paths = progress([real.paths[row] for row in own], "naming")
    return {
        "named": float(named(pipe, drawn, real.names[rows]).mean()),
        "named_real": float(named(pipe, [open_picture(path) for path in paths], real.names[own]).mean()),
    }


def _two_lots(real: Gallery, asked: Questions) -> tuple[np.ndarray, np.ndarray]:
    """The real pictures that were asked, once each, and others of the training split to compare with."""
    own = asked.rows[: len(set(asked.rows))]
    train = np.random.default_rng(3).permutation(np.flatnonzero(real.splits == "train"))
    if len(np.setdiff1d(train, own)) < len(own) // 2:  # All of a small split was asked: half of it stands apart.
        own = own[: max(1, len(own) // 2)]
    others = train[~np.isin(train, own)][: len(asked.rows)]
    if min(len(own), len(others)) < 5:
        raise UserError("There are too few pictures without a skin tone to compare; at least 10 are needed a split.")
    return own, others


def diversity(pipe, judge: Judge, real: Gallery, asked: Questions, progress: Progress, share: int = 25) -> float:
    """Mean distance of `DIVERSE_SEEDS` pictures of a prompt that names no style, over that of its label's real ones."""
    ours, theirs = [], []
    for label in progress(_spread_labels(real, asked, max(4, len(asked.rows) // share)), "diversity"):
        rows = np.flatnonzero(real.labels == label)
        drawn = judge.look(pipe(real.names[rows[0]], seed=1, num_images=DIVERSE_SEEDS).images)
        ours.append(_mean_distance(real.compare(drawn)))
        theirs.append(_mean_distance(real.seen[rows]))
    return float(np.mean(ours) / np.mean(theirs))


def _spread_labels(real: Gallery, asked: Questions, count: int) -> list[str]:
    """Labels of the questions that have several real pictures, in the questions' order."""
    labels = list(dict.fromkeys(real.labels[asked.rows]))
    return [label for label in labels if (real.labels == label).sum() > 1][:count]


def _mean_distance(vectors: np.ndarray) -> float:
    distances = np.sqrt(squared_distances(vectors, vectors))
    return float(distances.sum() / (len(vectors) * (len(vectors) - 1)))


def copies(real: Gallery, asked: Questions, raw: np.ndarray) -> dict[str, float]:
    """How many pictures lie nearer to a training picture than two real ones of one concept and style to each other?

    Than the median of these, that is; and training pictures are those of the gallery, without skin tones or recolours.
    `copies_real` is the same share of the split's real pictures, each without itself. Both are no numbers where there
    are no two real pictures of one concept and style.
    """
    train = np.flatnonzero(real.splits == "train")
    if np.isnan(real.kinship):
        return {"copies": float("nan"), "copies_real": float("nan")}
    near = np.sqrt(squared_distances(real.compare(raw), real.seen[train]).min(1))
    own = np.unique(asked.rows)
    apart = squared_distances(real.seen[own], real.seen[train])
    apart[own[:, None] == train[None]] = np.inf
    return {
        "copies": float((near < real.kinship).mean()),
        "copies_real": float((np.sqrt(apart.min(1)) < real.kinship).mean()),
    }


def reference_following(
    pipe: MultimodalGANPipeline, judge: Judge, real: Gallery, count: int, progress: Progress
) -> dict[str, float]:
    """Given a label's name and a reference of style S that shows another label: is the nearest real picture of that
    label the one of style S? Asked of labels with at least three styles.

    Returns:
        The share, beside what chance gives and what the real pictures of another label in style S reach as they are;
        no numbers where no label has three styles.
    """
    rng = np.random.default_rng(11)
    trained = np.flatnonzero(real.splits == "train")
    labels = [
        label
        for label in np.unique(real.labels[trained].astype(str))
        if len(set(real.styles[real.labels == label])) > 2
    ]
    hits, chance, bare = [], [], []
    for label in progress(rng.permutation(labels)[:count], "references"):
        rows = np.flatnonzero(real.labels == label)
        style = rng.choice(real.styles[rows].astype(str))
        others = trained[(real.styles[trained] == style) & (real.labels[trained] != label)]
        if not len(others):
            continue
        reference = int(rng.choice(others))
        image = open_picture(real.paths[reference])
        drawn = judge.look(pipe(str(real.names[rows[0]]), references=[image], seed=1).images)
        nearest = real.styles[rows[(real.seen[rows] @ real.compare(drawn)[0]).argmax()]]
        of_reference = real.styles[rows[(real.seen[rows] @ real.seen[reference]).argmax()]]
        hits.append(nearest == style)
        bare.append(of_reference == style)
        chance.append(1 / len(set(real.styles[rows])))
    found = {"followed": hits, "reference_alone": bare, "chance": chance}
    return {name: float(np.mean(values)) if values else float("nan") for name, values in found.items()}


@torch.inference_mode()
def reconstruction(pipe: MultimodalGANPipeline, judge: Judge, paths: list[str], progress: Progress) -> dict[str, float]:
    """What the autoencoder keeps of pictures it never saw.

    Returns:
        `psnr`: the mean over pictures in dB, of premultiplied RGBA at the model's size; `judge`: the mean distance of
        the judge's features of length 1 (0 to 1.41) between a picture and its reconstruction.
    """
    psnrs, before, after = [], [], []
    for path in progress(paths, "reconstructions"):
        pixels = to_tensor(open_picture(path), pipe.image_size)[None]
        with autocast(pipe.device):
            restored = pipe.autoencoder.decode(pipe.autoencoder.encode(pixels.to(pipe.device)).float())
        restored = restored.float().cpu().clamp(-1, 1)
        psnrs.append(psnr(restored, pixels).item())
        before.append(((pixels[0] + 1) * 127.5).round().byte())
        after.append(((restored[0] + 1) * 127.5).round().byte())
    seen = [look / np.linalg.norm(look, axis=1, keepdims=True) for look in (judge.look(before), judge.look(after))]
    return {
        "pictures": len(paths),
        "psnr": float(np.mean(psnrs)),
        "judge": float(np.linalg.norm(seen[0] - seen[1], axis=1).mean()),
    }
