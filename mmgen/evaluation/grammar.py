"""The bench of small words: is what is drawn in the place, number, size and colour that the prompt says?

A detector is built from the judge: what is drawn is cut into regions (what hangs together, and halves or thirds of the
picture), each is looked at by the feature extractor, and shows a thing if of 100 labels that thing's real pictures are
among the nearest. Whether things are where they are said to be is then read from the regions' places and sizes, and
grounds, colours and mirror images from the pixels.

A detector errs, so its number means nothing alone. Beside the model's it is printed what the same detector says of
really composed pictures of the very same scenes, once with the pictures that they are made of among those it compares
with and once without, when a thing must be known by how others drew it; and of pictures that were composed otherwise
than the prompt says: left for right, four for three. What a model draws like its memory is judged as the first are,
what it draws in its own way as the second.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmgen.data.folder import load_pairs
from mmgen.data.shards import open_image_at
from mmgen.data.splits import TRAIN
from mmgen.datasets.composed import (
    FEWEST,
    KINDS,
    Scene,
    Thing,
    compose_things,
    draw_scene,
    drawn_part,
    find_things,
    is_held_out,
    parts_of,
    scene_label,
)
from mmgen.datasets.recolour import COLOURS, dominant_hue
from mmgen.errors import UserError
from mmgen.evaluation.features import SIZE, FeatureExtractor
from mmgen.evaluation.gallery import Gallery, Progress, gallery
from mmgen.evaluation.retrieval import CANDIDATES, draw
from mmgen.pipeline import MultimodalGANPipeline

ASKED = 200
"""Prompts of each kind, at most."""

AMONG = 3
"""A region shows a thing whose real pictures are among the nearest so many labels of `CANDIDATES`."""

AMONG_WHERE_SMALL = {"row": 10, "count": 10}
"""The same for kinds of three and more things, which are seen at a third of the side, with less to know them by."""

SMALLEST = 0.012
"""Share of the picture that a region must draw on to count."""

LARGER = 1.6
"""How many times the area of the small thing the large one must have."""

NEAR = 30.0
"""Degrees of hue within which a colour is the one that was asked for."""

_EVEN = 40
"""How far from the ground's colour, of 255, what belongs to it may lie."""

SEED = 3000

_ACROSS, _DOWN = [(0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)], [(0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0)]
_WINDOWS = {
    **{"left": _ACROSS, "right": _ACROSS, "beside": _ACROSS, "above": _DOWN, "below": _DOWN},
    "size": [*_ACROSS, (0.0, 0.0, 0.67, 1.0), (0.67, 0.0, 1.0, 1.0), (0.33, 0.0, 1.0, 1.0), (0.0, 0.0, 0.33, 1.0)],
    "hidden": [*_ACROSS, (0.0, 0.0, 0.65, 1.0), (0.35, 0.0, 1.0, 1.0), (0.0, 0.0, 0.36, 1.0), (0.64, 0.0, 1.0, 1.0)],
    "row": [(n / 3, 0.0, (n + 1) / 3, 1.0) for n in range(3)],
}


@dataclass
class Region:
    """A part of a picture that may show a thing.

    Attributes:
        image: what is drawn there, RGBA.
        box: left, top, right and bottom of that, as shares of the side.
        area: share of the picture that is drawn on there.
        is_part: whether it is what hangs together, not a window.
    """

    image: Image.Image
    box: tuple[float, float, float, float]
    area: float
    is_part: bool

    @property
    def centre(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class Asked:
    """A scene that is asked for.

    Attributes:
        things: of the scene's names, in one style.
        number: of the arrangement, as `compose_things` takes it.
    """

    scene: Scene
    things: tuple[Thing, ...]
    number: int

    @property
    def prompt(self) -> str:
        style = self.things[0].style
        return f"{scene_label(self.scene)}, {style} style" if style else scene_label(self.scene)


class Detector:
    """Says of a picture whether it shows what a scene names, and as the scene says.

    Args:
        real: the real pictures that things are known by.
        seed: of the labels among which a thing must be found.
    """

    def __init__(self, extractor: FeatureExtractor, real: Gallery, seed: int = 5):
        self.extractor, self.real, self.seed = extractor, real, seed
        labels = real.labels.astype(str)
        order = np.argsort(labels, kind="stable")
        self.known, starts = np.unique(labels[order], return_index=True)
        self.rows = dict(zip(self.known.tolist(), np.split(order, starts[1:]), strict=True))

    def __call__(self, image: Image.Image, asked: Asked, leave_out: bool = False) -> tuple[bool, bool]:
        """Whether all things are found, and whether besides they are as the scene says.

        Args:
            image: RGBA, square.
            leave_out: whether the pictures of the scene's own things do not count as known.
        """
        return self.judge(image, asked, *self.look(image, asked.scene.kind), leave_out)

    def look(self, image: Image.Image, kind: str) -> tuple[list[Region], np.ndarray]:
        """The regions of a picture that may show things, and how the judge sees them [regions, D]."""
        image = image.convert("RGBA")
        regions = find_regions(without_ground(image)[0] if kind in ("ground", "tile") else image, kind)
        raw = self.extractor.extract(region.image for region in regions)
        return regions, self.real.compare(raw) if regions else raw

    def judge(
        self, image: Image.Image, asked: Asked, regions: Sequence[Region], vectors: np.ndarray, leave_out: bool
    ) -> tuple[bool, bool]:
        """As a call, of a picture that was looked at."""
        scene, labels = asked.scene, [thing.label for thing in asked.things]
        image = image.convert("RGBA")
        left_out = [thing.path for thing in asked.things] if leave_out else []
        shows = self._shows(vectors, labels, left_out, AMONG_WHERE_SMALL.get(scene.kind, AMONG))
        if scene.kind == "count":
            found = sum(bool(shown[0] > 0) for region, shown in zip(regions, shows, strict=True) if region.is_part)
            return found > 0, found == scene.count == sum(region.is_part for region in regions)
        chosen = _assign(regions, shows, 0.75 if scene.kind == "hidden" else 0.5)
        if chosen is None:
            return False, False
        return True, _as_said(image, asked, [regions[place] for place in chosen], regions)

    def _shows(self, vectors: np.ndarray, labels: Sequence[str], left_out: Sequence[str], among: int) -> np.ndarray:
        """Regions [n, D] -> [n, labels], by how much each is liker each label than what no longer counts, else 0.

        Args:
            left_out: paths of real pictures that do not count.
            among: how many of the nearest labels still count.
        """
        if not len(vectors):
            return np.zeros((0, len(labels)))
        rng = random.Random(f"{self.seed}/{'/'.join(sorted(labels))}")
        others = sorted(set(self.known) - set(labels))
        candidates = [*dict.fromkeys(labels), *rng.sample(others, min(len(others), CANDIDATES - len(set(labels))))]
        rows = [self.rows.get(label, np.zeros(0, dtype=np.int64)) for label in candidates]
        if left_out:
            rows = [own[~np.isin(self.real.paths[own].astype(str), left_out)] for own in rows]
        likeness = np.stack(
            [(vectors @ self.real.seen[own].T).max(1) if len(own) else np.full(len(vectors), -1.0) for own in rows], 1
        )
        # To be among the nearest, a thing must be liker than the first that is not, of all but the scene's own things.
        foreign = np.sort(likeness[:, len(set(labels)) :], axis=1)
        bar = foreign[:, -among] if foreign.shape[1] >= among else np.full(len(vectors), -1.0)
        own = [candidates.index(label) for label in labels]
        return np.maximum(likeness[:, own] - bar[:, None], 0)


def without_ground(image: Image.Image) -> tuple[Image.Image, tuple[int, int, int] | None]:
    """A picture without the even colour near its border, and that colour; as it is and None where there is no such."""
    rgba = np.asarray(image).copy()
    side = len(rgba)
    near, wide = round(0.07 * side), round(0.1 * side)
    ring = np.zeros(rgba.shape[:2], dtype=bool)
    ring[near : side - near, near : side - near] = True
    ring[wide : side - wide, wide : side - wide] = False
    opaque = ring & (rgba[..., 3] > 200)
    if opaque.sum() < 0.6 * ring.sum():
        return image, None
    colour = np.median(rgba[opaque][:, :3], axis=0)
    even = np.abs(rgba[..., :3].astype(int) - colour).max(-1) < _EVEN
    if even[opaque].mean() < 0.6:
        return image, None
    rgba[even] = 0
    red, green, blue = colour.round().astype(int).tolist()
    return Image.fromarray(rgba, "RGBA"), (red, green, blue)


def find_regions(image: Image.Image, kind: str) -> list[Region]:
    """What hangs together in an RGBA picture, up to eight parts, and what is drawn in the windows of a kind."""
    rgba = np.asarray(image)
    made = []
    for mask in parts_of(rgba[..., 3])[:8]:
        if mask.mean() < SMALLEST:
            break
        wide = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
        wide = np.asarray(Image.fromarray((wide * 255).astype(np.uint8)).reduce(2)) > 0  # A little more than the part.
        part = rgba.copy()
        part[~np.asarray(Image.fromarray(_wider(wide)).resize(image.size, Image.Resampling.NEAREST))] = 0
        made.append(_region(part, is_part=True))
    side = len(rgba)
    for left, top, right, bottom in _WINDOWS.get(kind, [(0.0, 0.0, 1.0, 1.0)] if kind != "count" else []):
        part = np.zeros_like(rgba)
        inside = slice(round(top * side), round(bottom * side)), slice(round(left * side), round(right * side))
        part[inside] = rgba[inside]
        made.append(_region(part, is_part=False))
    return [region for region in made if region is not None and region.area >= SMALLEST]


def _wider(mask: np.ndarray) -> np.ndarray:
    """A mask and what lies two places around it."""
    wide = mask.copy()
    for axis in (0, 1):
        for step in (-2, -1, 1, 2):
            wide |= np.roll(mask, step, axis)
    return wide


def _region(rgba: np.ndarray, is_part: bool) -> Region | None:
    drawn = rgba[..., 3] > 64
    if not drawn.any():
        return None
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    side = len(rgba)
    box = (left / side, top / side, right / side, bottom / side)
    cut = Image.fromarray(np.ascontiguousarray(rgba[top:bottom, left:right]), "RGBA")
    margin = round(0.03 * max(cut.size))
    framed = Image.new("RGBA", (cut.width + 2 * margin, cut.height + 2 * margin))
    framed.paste(cut, (margin, margin))
    return Region(framed, box, float(drawn.mean()), is_part)


def _assign(regions: Sequence[Region], shows: np.ndarray, overlap: float) -> list[int] | None:
    """To each thing a region that shows it, which no two share, the clearest; None where there is no such choice."""
    best: tuple[float, list[int]] | None = None

    def go_on(chosen: list[int], total: float) -> None:
        nonlocal best
        thing = len(chosen)
        if thing == shows.shape[1]:
            if best is None or total > best[0]:
                best = (total, chosen)
            return
        for place in np.flatnonzero(shows[:, thing] > 0).tolist():
            if all(_shared(regions[place].box, regions[other].box) < overlap for other in chosen):
                go_on([*chosen, place], total + float(shows[place, thing]))

    go_on([], 0.0)
    return best[1] if best else None


def _shared(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """How much of the smaller of two boxes lies in the other."""
    wide = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    tall = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return wide * tall / max(smaller, 1e-9)


def _as_said(image: Image.Image, asked: Asked, chosen: Sequence[Region], regions: Sequence[Region]) -> bool:
    """Whether things that were found in these regions are as the scene says."""
    kind, colour = asked.scene.kind, asked.scene.colour
    across, down = ([region.centre[axis] for region in chosen] for axis in (0, 1))
    if kind in ("left", "right"):
        apart = across[1] - across[0] if kind == "left" else across[0] - across[1]
        return apart > max(0.12, abs(down[0] - down[1]))
    if kind in ("above", "below"):
        apart = down[1] - down[0] if kind == "above" else down[0] - down[1]
        return apart > max(0.12, abs(across[0] - across[1]))
    if kind == "row":
        return across[0] + 0.1 < across[1] < across[2] - 0.1
    if kind == "size":
        return chosen[0].area > LARGER * chosen[1].area
    if kind in ("ground", "tile"):
        ground = without_ground(image)[1]
        corners = np.asarray(image)[[2, 2, -3, -3], [2, -3, 2, -3], 3]
        covered = bool((corners > 200).all()) if kind == "ground" else bool((corners < 60).all())
        return covered and ground is not None and _is_colour(Image.new("RGBA", (1, 1), (*ground, 255)), colour)
    if kind == "colour":
        return _is_colour(image, colour)
    if kind == "mirrored":
        return _is_mirrored(image, open_image_at(asked.things[0].path))
    if kind == "hidden":  # They touch: what is drawn hangs together.
        parts = [region.area for region in regions if region.is_part]
        return bool(parts) and max(parts) > 0.85 * sum(parts)
    return True


def _is_colour(image: Image.Image, colour: str) -> bool:
    hue = dominant_hue(image)
    apart = {name: abs((value - hue + 180) % 360 - 180) for name, value in COLOURS.items()} if hue is not None else {}
    return hue is not None and hue >= 0 and min(apart, key=apart.__getitem__) == colour and apart[colour] < NEAR


def _is_mirrored(image: Image.Image, real: Image.Image) -> bool:
    """Whether a picture is nearer to the mirror image of a real one than to the real one."""
    drawn, wanted = drawn_part(image), drawn_part(real)
    if drawn is None or wanted is None:
        return False
    return bool(np.abs(drawn - wanted[:, ::-1]).mean() < np.abs(drawn - wanted).mean())


def otherwise(scene: Scene, other: str) -> Scene:
    """A scene of the same things that its words do not fit.

    Args:
        other: a name that is none of its own, which takes the last place where the order of things says nothing.
    """
    swapped = {
        "left": "right",
        "right": "left",
        "above": "below",
        "below": "above",
        "tile": "ground",
        "hidden": "beside",
    }
    names, kind = scene.names, scene.kind
    if kind in swapped:
        return replace(scene, kind=swapped[kind])
    if kind in ("size", "row"):
        return replace(scene, names=names[::-1])
    if kind == "count":
        return replace(scene, count=scene.count - 1 if scene.count > 2 else 3)
    if kind in ("ground", "colour"):
        known = list(COLOURS)
        return replace(scene, colour=known[(known.index(scene.colour) + 3) % len(known)])
    if kind == "mirrored":
        return Scene("alone", names)
    return replace(scene, names=(names[0], other))


def choose_scenes(things: dict[str, dict[str, Thing]], kind: str, count: int) -> list[Asked]:
    """Up to `count` scenes of a kind that no training has composed, evenly of the styles, that can be composed."""
    able = {style: sorted(own) for style, own in sorted(things.items()) if len(own) >= FEWEST}
    rng = random.Random(f"{SEED}/grammar/{kind}")
    made: dict[tuple[Scene, str], Asked] = {}
    for number in range(60 * count + 200):
        style = list(able)[len(made) % len(able)]
        scene = draw_scene(kind, able[style], rng)
        if len(made) == count or not is_held_out(scene) or (scene, style) in made:
            continue
        asked = Asked(scene, tuple(things[style][name] for name in scene.names), number)
        if compose_things(scene, asked.things, number, SEED) is not None:
            made[scene, style] = asked
    return list(made.values())


def composed_images(asked: Sequence[Asked]) -> Iterable[Image.Image]:
    """Really composed pictures of scenes."""
    for one in asked:
        made = compose_things(one.scene, one.things, one.number, SEED)
        assert made is not None, "it could be composed before"
        yield made[0]


def composed_otherwise(asked: Sequence[Asked], things: dict[str, dict[str, Thing]]) -> Iterable[Image.Image | None]:
    """Pictures that the scenes' words do not fit, None where none can be composed."""
    for one in asked:
        own = things[one.things[0].style]
        rng = random.Random(f"{SEED}/other/{one.number}")
        scene = otherwise(one.scene, rng.choice([name for name in sorted(own) if name not in one.scene.names]))
        made = compose_things(scene, [own[name] for name in scene.names], one.number, SEED)
        yield made[0] if made else None


def evaluate_grammar(
    pipe: MultimodalGANPipeline,
    extractor: FeatureExtractor,
    data: Path,
    cache: Path,
    count: int = ASKED,
    progress: Progress = lambda things, what: things,
    kinds: Sequence[str] = KINDS,
) -> dict[str, Any]:
    """Ask for scenes of each kind.

    Args:
        data: the data set whose real pictures things are known by; its split `train` has those that are composed.
        cache: folder for what is seen of the real pictures.
        count: prompts of each kind.

    Raises:
        UserError: the data set cannot be read, or no style of its split `train` has enough things to compose.
    """
    splits = load_pairs(data)
    if TRAIN not in splits:
        raise UserError(f"{data} has no split {TRAIN}; it has {', '.join(splits)}. Name one of them {TRAIN}.")
    things = find_things(splits[TRAIN])
    if not any(len(own) >= FEWEST for own in things.values()):
        raise UserError(
            f"No style of {data} has {FEWEST} pictures of one thing each, so nothing can be composed of them."
        )
    real = gallery(splits, extractor, cache, progress)
    scores = grammar_scores(pipe, Detector(extractor, real), things, count, progress, kinds)
    return {"grammar": scores, "judge": f"{extractor.name} at {SIZE} px", "labels": min(CANDIDATES, len(real.labels))}


def grammar_scores(
    pipe: MultimodalGANPipeline,
    detector: Detector,
    things: dict[str, dict[str, Thing]],
    count: int,
    progress: Progress,
    kinds: Sequence[str] = KINDS,
) -> dict[str, dict[str, float | int]]:
    """Of each kind how often all things are found, and how often they are besides as the prompt says.

    Returns:
        by kind `prompts`; `found` and `right` of the drawings; `real_right` of really composed pictures of the same
        scenes, and `real_right_left_out` where their own pictures do not count; `wrong_right` of pictures composed
        otherwise. A kind of which nothing can be composed is left out.
    """
    made: dict[str, dict[str, float | int]] = {}
    for kind in kinds:
        asked = choose_scenes(things, kind, count)
        if not asked:
            continue
        drawings = draw(pipe, [one.prompt for one in asked], [SEED + place for place in range(len(asked))])
        drawn = [detector(image, one) for one, image in _together(progress(asked, f"{kind}: drawn"), drawings)]
        known, left_out = [], []
        for one, image in _together(progress(asked, f"{kind}: really composed"), composed_images(asked)):
            seen = detector.look(image, kind)
            known.append(detector.judge(image, one, *seen, leave_out=False)[1])
            left_out.append(detector.judge(image, one, *seen, leave_out=True)[1])
        others = progress(list(zip(asked, composed_otherwise(asked, things), strict=True)), f"{kind}: otherwise")
        wrong = [detector(image, one)[1] for one, image in others if image is not None]
        made[kind] = {
            "prompts": len(asked),
            "found": float(np.mean([found for found, _ in drawn])),
            "right": float(np.mean([right for _, right in drawn])),
            "real_right": float(np.mean(known)),
            "real_right_left_out": float(np.mean(left_out)),
            "wrong_right": float(np.mean(wrong)) if wrong else float("nan"),
        }
    return made


def _together(asked: Iterable[Asked], images: Iterable[Image.Image]) -> Iterable[tuple[Asked, Image.Image]]:
    return zip(asked, images, strict=True)


_TITLES = {
    "left": "a cat left of a tree",
    "right": "a cat right of a tree",
    "above": "a cat above a tree",
    "below": "a cat below a tree",
    "beside": "a cat beside a tree",
    "row": "a cat, a tree and a dog",
    "count": "two to five cats",
    "ground": "a cat on a blue ground",
    "tile": "a cat on a blue tile",
    "size": "a large cat and a small tree",
    "colour": "a blue cat",
    "mirrored": "a mirrored cat",
    "hidden": "a cat half hidden behind a tree",
}
_PLACES = ("left", "right", "above", "below")


def grammar_table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    scores = report["grammar"]
    lines = [
        "| such as | prompts | drawn: all found | drawn: as said | really composed: as said | "
        "their own pictures left out | composed otherwise: as said |",
        "|---|---|---|---|---|---|---|",
    ]

    def row(title: str, values: dict[str, float | int]) -> str:
        names = ("found", "right", "real_right", "real_right_left_out", "wrong_right")
        cells = ["–" if np.isnan(values[name]) else f"{values[name]:.3f}" for name in names]
        return f"| {title} | {values['prompts']} | " + " | ".join(cells) + " |"

    for kind, values in scores.items():
        lines.append(row(_TITLES[kind], values))
    places = [scores[kind] for kind in _PLACES if kind in scores]
    if len(places) > 1:
        total = sum(one["prompts"] for one in places)
        means: dict[str, float | int] = {
            name: sum(one[name] * one["prompts"] for one in places) / total for name in places[0] if name != "prompts"
        }
        lines.append(row("**two things in their places**", {**means, "prompts": total}))
    return "\n".join(lines)
