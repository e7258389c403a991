"""What the captioner is worth: does it name unseen images, and does it beat the nearest training caption?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from textwrap import fill

import datasets
import numpy as np
from PIL import Image, ImageDraw

from mmgen.data.shards import open_image_at
from mmgen.pipeline import MultimodalGANPipeline

BEAMS = 5
ASKED = 500
BATCH = 20
Progress = Callable[[Iterable, str], Iterable]


def label_of(caption: str, styles: Sequence[str]) -> str:
    """A caption in small letters without the style at its end: "red apple, noto style" -> "red apple"."""
    text = " ".join(caption.lower().split())
    for style in styles:
        text = text.removesuffix(f", {style.lower()} style")
    return text


def token_f1(said: str, right: str) -> float:
    """The harmonic mean of precision and recall of words (Rajpurkar et al., "SQuAD", 2016)."""
    ours, theirs = (Counter(re.findall(r"\w+", text.lower())) for text in (said, right))
    shared = (ours & theirs).total()
    return 2 * shared / (ours.total() + theirs.total()) if shared else 0.0


def named(pipe: MultimodalGANPipeline, images: Sequence[Image.Image], names: Sequence[str]) -> np.ndarray:
    """bool [n], whether the most probable caption of each image has its name as label."""
    styles = list(pipe.config.styles)
    said = pipe.describe(list(images), num_captions=1)
    best = [label_of(captions[0].text, styles) if captions else "" for captions in said]
    return np.array([label == label_of(name, ()) for label, name in zip(best, names, strict=True)])


def caption_scores(
    pipe: MultimodalGANPipeline,
    train: datasets.Dataset,
    held_out: datasets.Dataset,
    plain: np.ndarray,
    count: int = ASKED,
    progress: Progress = lambda things, what: things,
) -> dict[str, float]:
    """Ask the captioner for the captions of images that it never saw.

    An image's label is its first caption. Beside the captioner stands the caption of the nearest image of `train`:
    in the tokens of the frozen CNN, place by place, each channel standardised, by cosine, which finds more labels than
    the tokens' mean.

    Args:
        train: the split that the captioner was trained on; plain: its reference tokens [N, grid, D].
        held_out: the images to ask for; `count` of them are drawn by a fixed seed.

    Returns:
        `exact_label`, `label_in_top_5`, `token_f1` (of the labels) and, where there are styles, `exact_style`, and the
        first, the third and the fourth of the nearest image as `nearest_...`; `pictures`, how many were asked for.
    """
    styles = sorted({*pipe.config.styles, *train["style"], *held_out["style"]} - {""})
    rows = np.random.default_rng(17).permutation(len(held_out))[:count]
    asked = held_out.select(rows)
    labels, right_styles = [captions[0] for captions in asked["captions"]], asked["style"][:]
    said, seen = [], []
    for start in progress(range(0, len(rows), BATCH), "captions"):
        images = [open_image_at(one["path"]) for one in asked[start : start + BATCH]["image"]]
        said += pipe.describe(images, num_captions=BEAMS)
        seen.append(pipe.encode_references(images).float().cpu().numpy())
    best = [captions[0].text if captions else "" for captions in said]
    nearest = _nearest(plain, np.concatenate(seen))
    copied = [texts[0] for texts in train.select(nearest)["captions"]]
    wanted = [label_of(label, ()) for label in labels]
    ours = [label_of(text, styles) for text in best]
    theirs = [label_of(text, ()) for text in copied]
    in_five = [
        label in {label_of(c.text, styles) for c in captions} for captions, label in zip(said, wanted, strict=True)
    ]
    scores = {
        "exact_label": float(np.mean([a == b for a, b in zip(ours, wanted, strict=True)])),
        "label_in_top_5": float(np.mean(in_five)),
        "token_f1": float(np.mean([token_f1(a, b) for a, b in zip(ours, wanted, strict=True)])),
        "nearest_exact_label": float(np.mean([a == b for a, b in zip(theirs, wanted, strict=True)])),
        "nearest_token_f1": float(np.mean([token_f1(a, b) for a, b in zip(theirs, wanted, strict=True)])),
        "pictures": len(rows),
    }
    if any(right_styles):
        styled = [text.lower().endswith(f", {one.lower()} style") for text, one in zip(best, right_styles, strict=True)]
        copied_styles = zip(train.select(nearest)["style"], right_styles, strict=True)
        scores["exact_style"] = float(np.mean(styled))
        scores["nearest_exact_style"] = float(np.mean([a == b for a, b in copied_styles]))
    return scores


def _nearest(known: np.ndarray, asked: np.ndarray, batch: int = 1024) -> np.ndarray:
    """For each of `asked` [n, grid, D] the row of `known` [N, grid, D] that is nearest by standardised cosine."""
    some = known[:: max(1, len(known) // 2000)].astype(np.float32)
    mean, spread = some.mean(0), some.std(0) + 1e-6

    def even(x: np.ndarray) -> np.ndarray:
        flat = ((x.astype(np.float32) - mean) / spread).reshape(len(x), -1)
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)

    wanted = even(asked)
    likeness = [wanted @ even(known[start : start + batch]).T for start in range(0, len(known), batch)]
    return np.concatenate(likeness, axis=1).argmax(1)


def table(scores: dict[str, float], split: str) -> str:
    """The scores as Markdown."""
    lines = [f"| {scores['pictures']} pictures of {split} | decoder | nearest training picture |", "|---|---|---|"]
    for title, key in (
        ("exact label", "exact_label"),
        ("label in top 5 beams", "label_in_top_5"),
        ("token F1 of the label", "token_f1"),
        ("exact style", "exact_style"),
    ):
        if key not in scores:
            continue
        other = scores.get(f"nearest_{key}")
        lines.append(f"| {title} | {scores[key]:.3f} | {'–' if other is None else format(other, '.3f')} |")
    return "\n".join(lines)


def captioned(pipe: MultimodalGANPipeline, data: datasets.Dataset, columns: int = 5, side: int = 220) -> Image.Image:
    """A sheet of images with the captioner's best caption under each."""
    images = [open_image_at(one["path"]) for one in data["image"]]
    sheet = Image.new("RGB", (columns * side, -(-len(images) // columns) * side), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (image, said) in enumerate(zip(images, pipe.describe(images, num_captions=1), strict=True)):
        left, top = place % columns * side, place // columns * side
        image.thumbnail((side - 40, side - 40))
        sheet.paste(image, (left + 20, top), image)
        pen.text((left + 4, top + side - 32), fill(said[0].text if said else "–", 36)[:108], fill="black")
    return sheet
