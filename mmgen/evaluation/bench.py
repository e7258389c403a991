"""The bench: what a checkpoint's images are worth, in numbers that cannot be flattered.

Everything but `caption_cycle_accuracy` is asked of feature extractors that had no part in the model, on fixed seeds.
Images without skin tones stand for their label; a prompt is an image's second caption, for emoji the label and the
style. A split with fewer images than prompts is asked again with other seeds. What a prompt looked up in the model's
memory is out of its gallery when a label is asked for, and in it when a style is: either way a copy gains nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmgen.data.shards import open_image_at
from mmgen.data.splits import UNSEEN_STYLE
from mmgen.devices import autocast
from mmgen.errors import UserError
from mmgen.evaluation.captions import named
from mmgen.evaluation.distances import frechet, kernel, precision_recall, squared_distances
from mmgen.evaluation.features import FeatureExtractor
from mmgen.evaluation.gallery import Gallery, Progress, features_of, mean_distance
from mmgen.evaluation.memory import looked_up, memory_scores
from mmgen.evaluation.retrieval import (
    Questions,
    draw,
    mean_of,
    names_style,
    questions,
    retrieval,
    style_followed,
)
from mmgen.images import psnr, to_tensor
from mmgen.pipeline import MemoryShare, MultimodalGANPipeline

DIVERSE_SEEDS = 8
PART = 200
"""Prompts of a split, the first ones, that the dearer rows are measured on, at most; and half the prompts at most."""

MEMORY_PART = 100
"""Those that the rows of a memory are measured on, as each has up to four entries to decode; a fifth at most."""


def split_scores(
    pipe: MultimodalGANPipeline,
    extractor: FeatureExtractor,
    real: Gallery,
    split: str,
    count: int,
    progress: Progress,
    second: FeatureExtractor | None = None,
    cache: Path | None = None,
) -> dict[str, float]:
    """Retrieval, distances, style, diversity and copies of one split; see the README for what each says.

    Fréchet, kernel, precision and recall compare `compared` drawings, and as many real images of the split, with
    others of the training split. Their values depend on that number: compare them with the real ones beside them.

    Args:
        second: another extractor, for the first drawings; `cache`: where what it sees of the real images is kept.
    """
    asked = questions(real, split, count)
    prompts, labels, styles = (column[asked.rows] for column in (real.prompts, real.labels, real.styles))
    own, others = _two_lots(real, asked)
    first = Questions(asked.rows[: _part(count)], asked.seeds[: _part(count)])
    kept: list[Image.Image] = []  # The first images, for the captioner and the second extractor.
    found: list[list[MemoryShare]] = []  # What all looked up.
    images = draw(pipe, progress(prompts, split), asked.seeds, found)
    raw = extractor.extract(_keeping(images, kept, len(first.rows)))
    vectors = real.compare(raw)
    left_out = looked_up(pipe.memory, real, found) if pipe.memory is not None else None
    ranks = retrieval(real, vectors, labels, seed=1, left_out=left_out)
    ceiling = retrieval(real, real.seen[asked.rows], labels, seed=1, without_style=styles, left_out=left_out)
    like_ceiling = retrieval(real, vectors, labels, seed=1, without_style=styles, left_out=left_out)
    shuffled = np.random.default_rng(2).permutation(len(vectors))
    floor = retrieval(real, vectors[shuffled], labels, seed=1, left_out=left_out)
    drawn = raw[: len(own)]  # As many as the real ones, of which each is asked once before any is asked again.
    precision, recall = precision_recall(drawn, real.raw[others])
    precision_real, recall_real = precision_recall(real.raw[own], real.raw[others])
    scores = {
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
        "diversity": diversity(pipe, extractor, real, asked, progress),
        **copies(real, asked, raw),
        **caption_cycle_accuracy(pipe, real, first, kept, progress),
        **named_style(real, vectors, asked, left_out),
        **named_diversity(pipe, extractor, real, asked, progress),
    }
    if left_out is not None:
        scores["retrieval_at_1_all"] = retrieval(real, vectors, labels, seed=1).at(1)
        some = min(MEMORY_PART, max(5, count // 5))
        few = Questions(first.rows[:some], first.seeds[:some])
        scores |= memory_scores(pipe, extractor, real, few, found, raw, left_out, others, progress)
    if second is not None:
        scores |= second_opinion(second, real, first, kept, left_out, own, others, cache, progress)
    return scores


def _part(count: int) -> int:
    return min(PART, count // 2)


def _keeping(images: Iterable[Image.Image], kept: list[Image.Image], most: int) -> Iterable[Image.Image]:
    for image in images:
        if len(kept) < most:
            kept.append(image)
        yield image


def named_style(
    real: Gallery, vectors: np.ndarray, asked: Questions, left_out: np.ndarray | None = None
) -> dict[str, float]:
    """Of the prompts that name their style: is the nearest of the label's real images the one of that style?

    `style_followed` leaves what was looked up among them, and so finds out a copy of another style; in
    `style_followed_left_out` it is left out, and a copy may come nearest to the right style by what remains.
    `style_followed_real` asks the same of real images in skin tones, where the image of their own style without a
    skin tone is among the label's.

    Returns:
        Nothing where no prompt names a style.
    """
    rows = np.flatnonzero(names_style(real.prompts[asked.rows], real.styles[asked.rows]))
    if not len(rows):
        return {}
    labels, styles = real.labels[asked.rows[rows]], real.styles[asked.rows[rows]]
    hits, chance = style_followed(real, vectors[rows], labels, styles)
    scores = {
        "style_followed": mean_of(hits),
        "style_followed_chance": mean_of(chance),
        "style_followed_real": style_of_variants(real, real.splits != UNSEEN_STYLE),
    }
    if left_out is not None:
        hits, _ = style_followed(real, vectors[rows], labels, styles, left_out[rows])
        scores["style_followed_left_out"] = mean_of(hits)
    return scores


def style_of_variants(real: Gallery, wanted: np.ndarray) -> float:
    """Of real images in skin tones, of rows that are `wanted` [N]: how many are nearest to their own style's one?"""
    some = np.flatnonzero(wanted[real.variant_rows])
    rows = real.variant_rows[some]
    return mean_of(style_followed(real, real.variants[some], real.labels[rows], real.styles[rows])[0])


def second_opinion(
    extractor: FeatureExtractor,
    real: Gallery,
    asked: Questions,
    drawn: list[Image.Image],
    left_out: np.ndarray | None,
    own: np.ndarray,
    others: np.ndarray,
    cache: Path,
    progress: Progress,
) -> dict[str, float]:
    """Retrieval@1 and Fréchet distance of the first drawings by another extractor.

    It looks only at the real images of the labels that are asked, and 100 of these are the candidates.

    Args:
        left_out: bool [n or more, N], what was looked up, or None.
        own, others: rows of real images for the Fréchet distances; as many as drawings of each are taken.
    """
    count = len(drawn)
    labels, styles = real.labels[asked.rows], real.styles[asked.rows]
    rows = np.flatnonzero(np.isin(real.labels.astype(str), labels.astype(str)))
    pool = real.part(rows, extractor, cache, progress)
    out = None if left_out is None else left_out[:count][:, rows]
    raw = extractor.extract(drawn)
    seen = pool.seen[np.searchsorted(rows, asked.rows)]
    ceiling = retrieval(pool, seen, labels, seed=1, without_style=styles, left_out=out)
    own = own[:count]
    own_raw, others_raw = (
        features_of(real.paths[some].tolist(), extractor, cache, progress) for some in (own, others[:count])
    )
    return {
        "part": count,
        "second_retrieval_at_1": retrieval(pool, pool.compare(raw), labels, seed=1, left_out=out).at(1),
        "second_retrieval_at_1_ceiling": ceiling.at(1),
        "second_frechet": frechet(raw[: len(own)], others_raw),
        "second_frechet_real": frechet(own_raw, others_raw),
    }


def caption_cycle_accuracy(
    pipe: MultimodalGANPipeline, real: Gallery, asked: Questions, drawn: list[Image.Image], progress: Progress
) -> dict[str, float]:
    """The loop: of the first `drawn` images of the questions, how many does the model's own captioner name rightly?

    `named_real` is the same share of the real images that were asked. Nothing for a model without a captioner. This
    is the one measure here in which the model itself answers: its captioner has read images of its generator in
    training, and may recognise what nobody else would.
    """
    if pipe.captioner is None:
        return {}
    rows = asked.rows[: len(drawn)]
    own = list(dict.fromkeys(rows.tolist()))
    paths = progress([real.paths[row] for row in own], "naming")
    return {
        "named": float(named(pipe, drawn, real.names[rows]).mean()),
        "named_real": float(named(pipe, [open_image_at(path) for path in paths], real.names[own]).mean()),
    }


def _two_lots(real: Gallery, asked: Questions) -> tuple[np.ndarray, np.ndarray]:
    """The real images that were asked, once each, and others of the training split to compare with."""
    own = asked.rows[: len(set(asked.rows))]
    train = np.random.default_rng(3).permutation(np.flatnonzero(real.splits == "train"))
    if len(np.setdiff1d(train, own)) < len(own) // 2:  # All of a small split was asked: half of it stands apart.
        own = own[: max(1, len(own) // 2)]
    others = train[~np.isin(train, own)][: len(asked.rows)]
    if min(len(own), len(others)) < 5:
        raise UserError("There are too few pictures without a skin tone to compare; at least 10 are needed a split.")
    return own, others


def diversity(
    pipe: MultimodalGANPipeline,
    extractor: FeatureExtractor,
    real: Gallery,
    asked: Questions,
    progress: Progress,
    share: int = 25,
) -> float:
    """Mean distance of `DIVERSE_SEEDS` images of a prompt that names no style, over that of its label's real ones."""
    labels = _spread_labels(real, asked.rows, max(4, len(asked.rows) // share))
    prompts = {label: real.names[np.flatnonzero(real.labels == label)[0]] for label in labels}
    return _diversity(pipe, extractor, real, prompts, progress, "diversity")


def named_diversity(
    pipe: MultimodalGANPipeline,
    extractor: FeatureExtractor,
    real: Gallery,
    asked: Questions,
    progress: Progress,
    share: int = 50,
) -> dict[str, float]:
    """The same of prompts that name a style, over the same: the label's real images across all styles.

    Returns:
        Nothing where no prompt of a label with several real images names a style.
    """
    rows = asked.rows[names_style(real.prompts[asked.rows], real.styles[asked.rows])]
    prompts = {}
    for label in _spread_labels(real, rows, max(4, len(asked.rows) // share)):
        prompts[label] = real.prompts[rows[real.labels[rows] == label][0]]
    if not prompts:
        return {}
    return {"seed_diversity_named": _diversity(pipe, extractor, real, prompts, progress, "diversity in a style")}


def _diversity(pipe, extractor, real: Gallery, prompts: dict[str, str], progress: Progress, what: str) -> float:
    ours, theirs = [], []
    for label, prompt in progress(prompts.items(), what):
        drawn = extractor.extract(pipe(prompt, seed=1, num_images=DIVERSE_SEEDS).images)
        ours.append(mean_distance(real.compare(drawn)))
        theirs.append(mean_distance(real.seen[real.labels == label]))
    return float(np.mean(ours) / np.mean(theirs)) if ours else float("nan")


def _spread_labels(real: Gallery, rows: np.ndarray, count: int) -> list[str]:
    """Labels of the rows that have several real images, in the rows' order."""
    labels = list(dict.fromkeys(real.labels[rows]))
    return [label for label in labels if (real.labels == label).sum() > 1][:count]


def copies(real: Gallery, asked: Questions, raw: np.ndarray) -> dict[str, float]:
    """How many images lie nearer to a training image than two real ones of one concept and style to each other?

    Than the median of these, that is; and training images are those of the gallery, without skin tones or recolours.
    `copies_real` is the same share of the split's real images, each without itself. Both are no numbers where there
    are no two real images of one concept and style.
    """
    train = np.flatnonzero(real.splits == "train")
    if np.isnan(real.variant_distance):
        return {"copies": float("nan"), "copies_real": float("nan")}
    near = np.sqrt(squared_distances(real.compare(raw), real.seen[train]).min(1))
    own = np.unique(asked.rows)
    apart = squared_distances(real.seen[own], real.seen[train])
    apart[own[:, None] == train[None]] = np.inf
    return {
        "copies": float((near < real.variant_distance).mean()),
        "copies_real": float((np.sqrt(apart.min(1)) < real.variant_distance).mean()),
    }


def reference_following(
    pipe: MultimodalGANPipeline, extractor: FeatureExtractor, real: Gallery, count: int, progress: Progress
) -> dict[str, float]:
    """Given a label's name and a reference of style S that shows another label: is the nearest real image of that
    label the one of style S? Asked of labels with at least three styles.

    Returns:
        The share, beside what chance gives and what the real images of another label in style S reach as they are;
        no numbers where no label has three styles.
    """
    rng = np.random.default_rng(11)
    trained = np.flatnonzero(real.splits == "train")
    held_out = real.splits == UNSEEN_STYLE
    labels = [
        label
        for label in np.unique(real.labels[trained].astype(str))
        if len(set(real.styles[real.labels == label])) > 2
    ]
    hits, chance, bare = [], [], []
    for label in progress(rng.permutation(labels)[:count], "references"):
        rows = np.flatnonzero(real.labels == label)
        style = rng.choice(real.styles[rows[~held_out[rows]]].astype(str))
        others = trained[(real.styles[trained] == style) & (real.labels[trained] != label)]
        if not len(others):
            continue
        reference = int(rng.choice(others))
        image = open_image_at(real.paths[reference])
        drawn = extractor.extract(pipe(str(real.names[rows[0]]), references=[image], seed=1).images)
        nearest = real.styles[rows[(real.seen[rows] @ real.compare(drawn)[0]).argmax()]]
        of_reference = real.styles[rows[(real.seen[rows] @ real.seen[reference]).argmax()]]
        hits.append(nearest == style)
        bare.append(of_reference == style)
        chance.append(1 / len(set(real.styles[rows])))
    found = {"followed": hits, "reference_alone": bare, "chance": chance}
    return {name: float(np.mean(values)) if values else float("nan") for name, values in found.items()}


def unseen_style_scores(
    pipe: MultimodalGANPipeline, extractor: FeatureExtractor, real: Gallery, count: int, progress: Progress
) -> dict[str, float]:
    """Images in a style that the model never saw: a label's name, and one reference of that style with another label.

    Retrieval, and how often the style was followed: by the drawings, by the references as they are, and by real
    images in skin tones.
    """
    asked = questions(real, UNSEEN_STYLE, count)
    rng = np.random.default_rng(17)
    held_out = np.flatnonzero(real.splits == UNSEEN_STYLE)
    offered = []
    for row in asked.rows:
        others = held_out[(real.styles[held_out] == real.styles[row]) & (real.labels[held_out] != real.labels[row])]
        offered.append(int(rng.choice(others)) if len(others) else -1)
    chosen = np.flatnonzero(np.array(offered) >= 0)
    if not len(chosen):
        raise UserError(f"The split {UNSEEN_STYLE} shows one label alone; a style needs two or more to be asked.")
    rows, references = asked.rows[chosen], np.array(offered)[chosen]
    labels, styles = real.labels[rows], real.styles[rows]
    found: list[list[MemoryShare]] = []

    def images() -> Iterable[Image.Image]:
        for row, reference, seed in progress(
            list(zip(rows, references, asked.seeds[chosen], strict=True)), UNSEEN_STYLE
        ):
            image = open_image_at(real.paths[reference])
            yield from draw(pipe, [real.names[row]], [seed], found, references=[image])

    vectors = real.compare(extractor.extract(images()))
    left_out = looked_up(pipe.memory, real, found) if pipe.memory is not None else None
    hits, chance = style_followed(real, vectors, labels, styles)
    shuffled = np.random.default_rng(2).permutation(len(vectors))
    ceiling = retrieval(real, real.seen[rows], labels, seed=1, without_style=styles, left_out=left_out)
    scores = {
        "prompts": len(rows),
        "retrieval_at_1": retrieval(real, vectors, labels, seed=1, left_out=left_out).at(1),
        "retrieval_at_1_ceiling": ceiling.at(1),
        "retrieval_at_1_floor": retrieval(real, vectors[shuffled], labels, seed=1, left_out=left_out).at(1),
        "style_followed": mean_of(hits),
        "style_followed_chance": mean_of(chance),
        "style_followed_real": style_of_variants(real, real.splits == UNSEEN_STYLE),
        "style_followed_reference": mean_of(style_followed(real, real.seen[references], labels, styles)[0]),
    }
    if left_out is not None:
        scores["retrieval_at_1_all"] = retrieval(real, vectors, labels, seed=1).at(1)
        hits, _ = style_followed(real, vectors, labels, styles, left_out)
        scores["style_followed_left_out"] = mean_of(hits)
    return scores


@torch.inference_mode()
def reconstruction(
    pipe: MultimodalGANPipeline, extractor: FeatureExtractor, paths: list[str], progress: Progress
) -> dict[str, float]:
    """What the autoencoder keeps of images it never saw.

    Returns:
        `psnr`: the mean over images in dB, of premultiplied RGBA at the model's size; `judge`: the mean distance of
        the extractor's features of length 1 (0 to 1.41) between an image and its reconstruction.
    """
    psnrs, before, after = [], [], []
    for path in progress(paths, "reconstructions"):
        pixels = to_tensor(open_image_at(path), pipe.image_size)[None]
        with autocast(pipe.device):
            restored = pipe.autoencoder.decode(pipe.autoencoder.encode(pixels.to(pipe.device)).float())
        restored = restored.float().cpu().clamp(-1, 1)
        psnrs.append(psnr(restored, pixels).item())
        before.append(((pixels[0] + 1) * 127.5).round().byte())
        after.append(((restored[0] + 1) * 127.5).round().byte())
    seen = [
        look / np.linalg.norm(look, axis=1, keepdims=True)
        for look in (extractor.extract(before), extractor.extract(after))
    ]
    return {
        "pictures": len(paths),
        "psnr": float(np.mean(psnrs)),
        "judge": float(np.linalg.norm(seen[0] - seen[1], axis=1).mean()),
    }
