"""Composed pictures: real pictures put together as small words say, with captions that say so.

"A cat left of a tree", "three cats", "a cat on a blue tile": no data set of single things teaches such words. Here a
scene is drawn by a seed, its things are taken from real pictures of one style, and the caption names what is where.
What the memory brings of each thing is then to be put in its place.

    left, right, above, below   one thing beside another, in its place
    beside                      two things, in no said order
    row                         three things, from left to right as they are named
    count                       two to five of one thing
    ground, tile                one thing on a coloured ground, or on a rounded tile
    size                        a large thing and a small one
    colour                      one thing in a given colour
    mirrored                    one thing, left for right
    hidden                      one thing half hidden behind another

Pairs of things (and of a thing and what is done to it) are held out by their names alone (`is_held_out`), so that the
bench can ask for what no training has composed.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import datasets
import numpy as np
from PIL import Image, ImageDraw

from mmgen.data.shards import open_image_at
from mmgen.data.splits import TRAIN
from mmgen.datasets.captions import article
from mmgen.datasets.recolour import COLOURS, coloured_label, dominant_hue, fitting_colours, recolour
from mmgen.datasets.recolour import GROUP as RECOLOURED
from mmgen.datasets.synthetic_styles import GROUP as SYNTHETIC
from mmgen.errors import UserError
from mmgen.io import write_json
from mmgen.phrases import ODD_SINGULARS, phrases, subject

GROUP = "composed"
"""The `group` of every composed picture."""

HELD_OUT = "unseen_compositions"
"""The split of what is composed of things that are never composed so in `train`."""

HELD_OUT_SHARE = 0.1

KINDS = (
    *("left", "right", "above", "below", "beside", "row", "count", "ground", "tile", "size", "colour", "mirrored"),
    "hidden",
)
"""What is said by small words."""

OF_TWO = frozenset(("left", "right", "above", "below", "beside", "size", "hidden"))

NUMBERS = ("no", "one", "two", "three", "four", "five")

SIZE = 256
"""Side of the pictures in pixels."""

FEWEST = 12
"""Things that a style must have to be composed of."""

ONE_PIECE = 0.9
"""Share of a picture's drawn part that must hang together for it to be one thing among others."""

LOPSIDED = 0.12
"""How much a picture must differ from its mirror image to be shown mirrored: the share of both that only one has."""

_NOT_THINGS = frozenset((RECOLOURED, SYNTHETIC, GROUP, "flags", "symbols"))
_SAID = re.compile(
    r"\b(?:red|orange|yellow|green|blue|purple|pink|brown|black|white|grey|gray|large|big|small|little|mirrored|half|"
    r"left|right|left-facing|right-facing|facing|down|up|two|three|four|five|double|pair)\b"
)

_UNCOUNTED = re.compile(r"^(?:person|man|woman|child|baby) |ing$")
"""Names whose plural nobody says."""


@dataclass(frozen=True)
class Thing:
    """A real picture that may be put beside others.

    Attributes:
        path: as `mmgen.data.shards.open_image_at` takes it.
        name: a noun phrase without an article.
        label, style, source, licence, author: as its data set has them.
    """

    path: str
    name: str
    label: str
    style: str
    source: str = ""
    licence: str = ""
    author: str = ""


@dataclass(frozen=True)
class Scene:
    """What is to be seen.

    Attributes:
        kind: one of `KINDS`.
        names: of its things, 1 to 3, in the order in which the kind speaks of them: the first is left of the second,
            larger than it, half hidden by it.
        count: how many of the one thing there are.
        colour: of the ground or of the thing, a name in `COLOURS`.
    """

    kind: str
    names: tuple[str, ...]
    count: int = 1
    colour: str = ""


Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, as PIL counts them."""


def plural(name: str) -> str:
    """A noun phrase's plural.

    >>> plural("red apple"), plural("box"), plural("cherry"), plural("firewoman"), plural("glass of milk")
    ('red apples', 'boxes', 'cherries', 'firewomen', 'glasses of milk')
    """
    head, of, rest = name.partition(" of ")
    first, space, last = head.rpartition(" ")
    if last in ODD_SINGULARS:
        last = ODD_SINGULARS[last]
    elif re.search(r"(?:wo)?man$", last) and last != "human":
        last = last[:-2] + "en"
    elif re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    elif re.search(r"(?:s|x|ch|sh|z)$", last):
        last += "es"
    else:
        last += "s"
    return first + space + last + of + rest


def scene_label(scene: Scene) -> str:
    """A scene in its plainest words, with articles where they belong.

    >>> scene_label(Scene("left", ("cat", "apple"))), scene_label(Scene("count", ("cat",), count=3))
    ('a cat left of an apple', 'three cats')
    """
    return _say(_TEMPLATES[scene.kind][0], scene)


# The first of each is the label. In every one the things are what `mmgen.phrases.phrases` finds.
_TEMPLATES = {
    "left": (
        *("{a} left of {b}", "{a} to the left of {b}", "{b} right of {a}", "{b} to the right of {a}"),
        *("{a} on the left and {b} on the right", "{a} on the left of {b}"),
    ),
    "right": (
        *("{a} right of {b}", "{a} to the right of {b}", "{b} left of {a}", "{b} to the left of {a}"),
        *("{a} on the right and {b} on the left", "{a} on the right of {b}"),
    ),
    "above": (
        "{a} above {b}",
        "{a} over {b}",
        "{b} below {a}",
        "{b} under {a}",
        "{a} at the top and {b} at the bottom",
    ),
    "below": ("{a} below {b}", "{a} under {b}", "{b} above {a}", "{b} over {a}", "{a} beneath {b}"),
    "beside": ("{a} beside {b}", "{a} and {b}", "{a} next to {b}", "{b} and {a}", "{b} beside {a}", "{b} next to {a}"),
    "row": ("{a}, {b} and {c}", "{a} and {b} and {c}", "{a}, {b} and {c} in a row", "{a}, {b}, {c}"),
    "count": ("{n} {as}", "{digit} {as}", "a picture of {n} {as}", "draw {n} {as}"),
    "ground": (
        *("{a} on a {colour} ground", "{a} on a {colour} background", "{a}, {colour} background"),
        *("{a} with a {colour} background", "{a} in front of a {colour} background"),
    ),
    "tile": ("{a} on a {colour} tile", "{a} on a rounded {colour} tile", "{a} in front of a {colour} tile"),
    "size": (
        *("a large {x} and a small {y}", "a small {y} and a large {x}", "a big {x} beside a small {y}"),
        *("{a} larger than {b}", "{b} smaller than {a}", "a small {y} next to a big {x}"),
    ),
    "colour": ("{coloured}", "a picture of {coloured}", "draw {coloured}"),
    "mirrored": ("a mirrored {x}", "{a}, mirrored", "a flipped {x}", "{a}, flipped"),
    "hidden": (
        *("{a} half hidden behind {b}", "{a} behind {b}", "{b} in front of {a}", "{a} half covered by {b}"),
        "{a} partly hidden by {b}",
    ),
}


def _say(template: str, scene: Scene) -> str:
    names = [*scene.names, "", "", ""]
    words = {
        **{key: f"{article(name)} {name}" if name else "" for key, name in zip("abc", names, strict=False)},
        **{"x": names[0], "y": names[1], "n": NUMBERS[scene.count], "digit": scene.count, "as": plural(names[0])},
    }
    coloured = (coloured_label(names[0], scene.colour) if scene.colour else None) or names[0]
    text = template.format(**words, colour=scene.colour, coloured=f"{article(coloured)} {coloured}")
    return re.sub(r"\ba (?=orange\b)", "an ", text)


def scene_captions(scene: Scene, style: str, rng: random.Random) -> list[str]:
    """Captions of a scene: the plainest, the plainest with its style, then some in other words, without repeats."""
    label, others = scene_label(scene), _TEMPLATES[scene.kind][1:]
    said = [_say(template, scene) for template in rng.sample(others, min(3, len(others)))]
    named = [f"{label}, {style} style", f"{rng.choice([label, *said])} in {style} style"] if style else []
    captions = [label, *named[:1], *said, f"draw {label}", *named[1:]]
    return list(dict.fromkeys(captions))


def is_held_out(scene: Scene) -> bool:
    """Whether no training is to see such a scene: so it is for one in ten sets of things, in whatever order and place.

    A thing alone is held out for each kind by itself: "three cats" may be known where "a mirrored cat" is not.
    """
    alone = scene.kind if len(scene.names) == 1 else ""
    key = "/".join([alone, *sorted(scene.names)])
    return hashlib.sha256(key.encode()).digest()[0] < 256 * HELD_OUT_SHARE


def draw_scene(kind: str, names: Sequence[str], rng: random.Random) -> Scene:
    """A scene of a kind with some of the names, the colour and the count by chance."""
    if kind == "count":
        names = [name for name in names if not _UNCOUNTED.search(name)] or names
    wanted = 3 if kind == "row" else 2 if kind in OF_TWO else 1
    chosen = tuple(rng.sample(list(names), wanted))
    colour = rng.choice(list(COLOURS)) if kind in ("ground", "tile", "colour") else ""
    return Scene(kind, chosen, rng.randint(2, 5) if kind == "count" else 1, colour)


def compose(
    scene: Scene, images: Sequence[Image.Image], rng: random.Random, size: int = SIZE
) -> tuple[Image.Image, list[Box]] | None:
    """Put real pictures together.

    Args:
        images: RGBA, one for each of the scene's names.
        rng: of sizes and places as far as the scene leaves them open.

    Returns:
        A straight RGBA picture [size, size], fully transparent where nothing is drawn, and the box of each thing in
        the order of the names, or of each of several like ones. None where a picture cannot be shown so: nothing is
        drawn in it, it has too many colours for another, or is much like its mirror image.
    """
    things = [_tight(image) for image in images]
    if any(thing is None for thing in things):
        return None
    canvas = Image.new("RGBA", (size, size))
    kind, shown = scene.kind, [thing for thing in things if thing is not None]
    if kind == "colour":
        hue = dominant_hue(images[0])
        if hue is None or scene.colour not in fitting_colours(hue):
            return None
        shown = [_tight(recolour(images[0], hue, scene.colour)) or shown[0]]
    if kind == "mirrored":
        if _lopsidedness(images[0]) < LOPSIDED:
            return None
        shown = [shown[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    if kind in ("ground", "tile"):
        canvas = _ground(scene, size, rng)
    cells = _cells(scene, rng)
    if kind == "count":
        shown = shown * scene.count
    boxes = [_place(canvas, thing, cell) for thing, cell in zip(shown, cells, strict=True)]
    return canvas, boxes


Cell = tuple[float, float, float, float]
"""Left, top, right and bottom of where a thing may lie, as shares of the side."""


def _cells(scene: Scene, rng: random.Random) -> list[Cell]:
    """Where the things go, in the order of the names."""
    kind = scene.kind
    if kind in ("left", "right", "beside"):
        first, second = [(0.03, 0.48), (0.52, 0.97)]
        if kind == "right" or (kind == "beside" and rng.random() < 0.5):
            first, second = second, first
        return [_shrunk((x[0], 0.16, x[1], 0.84), rng) for x in (first, second)]
    if kind in ("above", "below"):
        first, second = [(0.03, 0.48), (0.52, 0.97)]
        if kind == "below":
            first, second = second, first
        return [_shrunk((0.16, y[0], 0.84, y[1]), rng) for y in (first, second)]
    if kind == "row":
        return [_shrunk((0.02 + 0.327 * n, 0.25, 0.327 * (n + 1), 0.75), rng) for n in range(3)]
    if kind == "count":
        return [_shrunk(cell, rng, 0.93) for cell in _several(scene.count, rng)]
    if kind in ("size", "hidden"):
        large, small = (0.03, 0.14, 0.66, 0.86), (0.7, 0.36, 0.96, 0.86)
        behind, front = (0.05, 0.14, 0.57, 0.8), (0.33, 0.28, 0.95, 0.92)
        cells = [large, small] if kind == "size" else [behind, front]
        if rng.random() < 0.5:
            cells = [(1 - right, top, 1 - left, bottom) for left, top, right, bottom in cells]
        return cells
    margin = {"ground": 0.16, "tile": 0.2}.get(kind, 0.03)
    return [(margin, margin, 1 - margin, 1 - margin)]


def _several(count: int, rng: random.Random) -> list[Cell]:
    """Cells for two to five like things."""
    thirds = [(0.02 + 0.327 * n, 0.3, 0.327 * (n + 1), 0.7) for n in range(3)]
    halves = [(0.04, 0.27, 0.48, 0.73), (0.52, 0.27, 0.96, 0.73)]
    if count == 2:
        return halves
    if count == 3:
        upper = (0.29, 0.05, 0.71, 0.47)
        return thirds if rng.random() < 0.5 else [upper, (0.05, 0.53, 0.47, 0.95), (0.53, 0.53, 0.95, 0.95)]
    if count == 4:
        return [(x, y, x + 0.42, y + 0.42) for y in (0.05, 0.53) for x in (0.05, 0.53)]
    lower = [(left, 0.54, right, 0.92) for left, _, right, _ in thirds]
    return [(0.13, 0.08, 0.47, 0.46), (0.53, 0.08, 0.87, 0.46), *lower]


def _shrunk(cell: Cell, rng: random.Random, least: float = 0.84) -> Cell:
    """A cell a little smaller, somewhere within itself."""
    left, top, right, bottom = cell
    share = rng.uniform(least, 1.0)
    wide, tall = (right - left) * share, (bottom - top) * share
    x, y = left + rng.random() * (right - left - wide), top + rng.random() * (bottom - top - tall)
    return (x, y, x + wide, y + tall)


def _tight(image: Image.Image) -> Image.Image | None:
    """The drawn part of an RGBA picture, premultiplied; None where there is none."""
    image = image.convert("RGBA")
    box = image.getchannel("A").point(lambda alpha: 255 * (alpha > 24)).getbbox()
    return image.convert("RGBa").crop(box) if box else None


def _place(canvas: Image.Image, thing: Image.Image, cell: Cell) -> Box:
    """Lay a premultiplied picture over a straight one, as large as fits into the middle of a cell, and say where."""
    side = canvas.width
    left, top, right, bottom = (edge * side for edge in cell)
    scale = min((right - left) / thing.width, (bottom - top) / thing.height)
    wide, tall = max(1, round(thing.width * scale)), max(1, round(thing.height * scale))
    x, y = round((left + right - wide) / 2), round((top + bottom - tall) / 2)
    canvas.alpha_composite(thing.resize((wide, tall), Image.Resampling.BICUBIC).convert("RGBA"), (x, y))
    return (x, y, x + wide, y + tall)


def _ground(scene: Scene, size: int, rng: random.Random) -> Image.Image:
    """A coloured ground all over, or a tile with round corners."""
    colour = _tint(COLOURS[scene.colour], rng)
    if scene.kind == "ground":
        return Image.new("RGBA", (size, size), (*colour, 255))
    twice = Image.new("L", (2 * size, 2 * size))
    margin = 0.04 * 2 * size
    ImageDraw.Draw(twice).rounded_rectangle(
        [margin, margin, 2 * size - margin, 2 * size - margin], 0.17 * 2 * size, fill=255
    )
    made = Image.new("RGBA", (size, size), (*colour, 255))
    made.putalpha(twice.reduce(2))
    return made


def _tint(hue: float, rng: random.Random) -> tuple[int, int, int]:
    """A clear colour of a hue in degrees, as bytes."""
    pixel = (round(hue / 360 * 255) % 256, round(255 * rng.uniform(0.5, 0.85)), round(255 * rng.uniform(0.8, 0.97)))
    red, green, blue = Image.new("HSV", (1, 1), pixel).convert("RGB").tobytes()
    return red, green, blue


def _lopsidedness(image: Image.Image) -> float:
    """How much a picture and its mirror image differ, 0 to 1: of colours and alpha on white, over what either draws."""
    small = drawn_part(image)
    if small is None:
        return 0.0
    drawn = np.maximum(small[..., 3], small[:, ::-1, 3]) > 0.2
    return float(np.abs(small - small[:, ::-1])[..., :3].max(-1)[drawn].mean()) if drawn.any() else 0.0


def drawn_part(image: Image.Image) -> np.ndarray | None:
    """The drawn part of a picture at 48 x 48, RGB on white and alpha, from 0 to 1; None where nothing is drawn."""
    tight = _tight(image)
    if tight is None:
        return None
    side = np.asarray(tight.resize((48, 48), Image.Resampling.BOX), dtype=np.float32) / 255
    return np.concatenate([side[..., :3] + 1 - side[..., 3:], side[..., 3:]], axis=2)


def parts_of(alpha: np.ndarray) -> list[np.ndarray]:
    """Masks of what hangs together in an alpha [H, W] of 0 to 255, the largest first, seen at a quarter of the size.

    A mask [H / 4, W / 4] is of what is more than half opaque and touches by a side.
    """
    small = np.asarray(Image.fromarray(alpha).reduce(4)) > 127
    labels = np.where(small, np.arange(1, small.size + 1).reshape(small.shape), 0)
    while True:
        best = labels.copy()
        for axis in (0, 1):
            for step in (1, -1):
                moved = np.roll(labels, step, axis)
                edge = [slice(None)] * 2
                edge[axis] = slice(0, 1) if step == 1 else slice(-1, None)
                moved[tuple(edge)] = 0
                np.maximum(best, moved, out=best)
        best = np.where(small, best, 0)
        # Jump to the label of the label, so that long parts take few rounds.
        flat = np.concatenate([[0], best.ravel()])
        best = np.where(small, np.maximum(best, flat[best]), 0)
        if np.array_equal(best, labels):
            break
        labels = best
    numbers, counts = np.unique(labels[small], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [labels == numbers[place] for place in order]


def is_one_piece(image: Image.Image) -> bool:
    """Whether a picture shows one thing on a transparent ground: what it draws hangs together."""
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    if min(alpha.shape) < 16 or (alpha < 128).mean() < 0.05:
        return False
    parts = parts_of(alpha)
    return bool(parts) and parts[0].sum() >= ONE_PIECE * sum(part.sum() for part in parts)


def find_things(data: datasets.Dataset) -> dict[str, dict[str, Thing]]:
    """Of each style the pictures of a split that may be composed, by name; pictures themselves are not looked at.

    They are those whose words name one thing without number, colour or side; of several the first. Of several styles
    those words count that name a picture in two of them: so scenes can be shown in both.
    """
    found: dict[str, dict[str, Thing]] = defaultdict(dict)
    columns = ("image", "text", "label", "concept", "style", "group", "source", "licence", "author")
    for row in data.select_columns(list(columns)):
        name = subject(" ".join(row["text"].split())).strip()
        if row["group"].lower() in _NOT_THINGS or row["label"] != row["concept"] or not name:
            continue
        words = name.lower()
        if not re.fullmatch(r"[a-z][a-z' -]{1,28}", words) or len(words.split()) > 3 or phrases(words) != [words]:
            continue
        if _SAID.search(words) or article(words) == "some" or re.search(r"(?<!s)s$", words):
            continue
        thing = Thing(row["image"]["path"], words, row["label"], row["style"], *(row[c] for c in columns[-3:]))
        found[row["style"]].setdefault(words, thing)
    styles_of = Counter(name for own in found.values() for name in own)
    shared = {
        style: {name: thing for name, thing in own.items() if styles_of[name] > 1} for style, own in found.items()
    }
    return shared if any(len(own) >= FEWEST for own in shared.values()) else dict(found)


def draw_scenes(
    things: dict[str, dict[str, Thing]], count: int, seed: int, kinds: Sequence[str] = KINDS
) -> list[tuple[Scene, str, int]]:
    """Scenes evenly of all kinds and styles, each with its style and a number that makes it its own.

    Half of them are the scene before in another style that has the same things, where there is one: so what is said is
    told from how it is drawn.

    Raises:
        UserError: no style has `FEWEST` things.
    """
    able = {style: sorted(own) for style, own in things.items() if len(own) >= FEWEST}
    if not able:
        most = max(map(len, things.values()), default=0)
        raise UserError(
            f"There are too few things to compose pictures of: {most} of one style, and {FEWEST} are needed. They must "
            "be pictures of one thing each, on a transparent ground, with a caption that names it in one to three "
            "words."
        )
    rng = random.Random(f"{seed}/composed")
    made: list[tuple[Scene, str, int]] = []
    styles = sorted(able)
    rng.shuffle(styles)
    while len(made) < count:
        number = len(made)
        style = styles[number // 2 % len(styles)]
        if number % 2 and made:
            scene = made[-1][0]
            others = [s for s in styles if s != made[-1][1] and all(name in things[s] for name in scene.names)]
            if others:
                made.append((scene, rng.choice(others), number))
                continue
        made.append((draw_scene(kinds[number // 2 % len(kinds)], able[style], rng), style, number))
    return made


@lru_cache(maxsize=256)
def _open(path: str) -> Image.Image:
    """A picture no larger than it is shown, or an empty one where it is no single thing."""
    image = open_image_at(path)
    image.thumbnail((SIZE, SIZE))
    return image if is_one_piece(image) else Image.new("RGBA", (16, 16))


def compose_things(
    scene: Scene, things: Sequence[Thing], number: int, seed: int, size: int = SIZE
) -> tuple[Image.Image, list[Box]] | None:
    """As `compose`, of pictures on the disk; those that are no single thing on a transparent ground give None."""
    images = [_open(thing.path) for thing in things]
    return compose(scene, images, random.Random(f"{seed}/composed/{number}"), size)


_Job = tuple[Scene, tuple[Thing, ...], int, int, int, str]


def write_composed(job: _Job) -> list[Box] | None:
    """Compose one file, and give the boxes; None, and no file, where it cannot be."""
    scene, things, number, seed, size, target = job
    made = compose_things(scene, things, number, seed, size)
    if made is None:
        return None
    made[0].save(target, compress_level=1)
    return made[1]


def build_composed(
    data: datasets.Dataset,
    output: Path,
    count: int,
    seed: int = 0,
    size: int = SIZE,
    pool: Executor | None = None,
    on_part: Callable[[int, int], object] = lambda done, of: None,
    kinds: Sequence[str] = KINDS,
) -> Counter[str]:
    """Write an image folder of composed pictures: `train` and `unseen_compositions`.

    Args:
        data: the real pictures, the split `train` as `mmgen.data.folder.load_pairs` gives it.
        output: a folder that holds nothing, or composed pictures of before, which are written anew.
        count: of pictures.
        on_part: called with how many are made and how many there are to be.

    Returns:
        How many pictures of each kind there are.

    Raises:
        UserError: the output holds something else, or too few pictures can be composed.
    """
    folder, table = output / "pictures", output / "metadata.jsonl"
    if output.exists() and any(output.iterdir()) and not (output / "composed.json").exists():
        raise UserError(f"{output} holds something else than composed pictures. Choose another folder.")
    things = find_things(data)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(output / "composed.json", {"count": count, "seed": seed, "size": size, "whole": False})
    for old in folder.glob("*.png"):
        old.unlink()
    rows: list[dict] = []
    kept: Counter[str] = Counter()
    scenes = iter(draw_scenes(things, 6 * count + 200, seed, kinds))
    while len(rows) < count:
        jobs: list[_Job] = []
        for scene, style, number in scenes:
            own = tuple(things[style][name] for name in scene.names)
            jobs.append((scene, own, number, seed, size, str(folder / f"{number:06d}.png")))
            if len(jobs) == min(256, 2 * (count - len(rows)) + 8):
                break
        if not jobs:
            raise UserError(
                f"Only {len(rows)} of {count} pictures could be composed: few of these pictures show one thing on a "
                "transparent ground. Ask for fewer, or give more such pictures."
            )
        boxes = list(pool.map(write_composed, jobs, chunksize=16) if pool else map(write_composed, jobs))
        for job, found in zip(jobs, boxes, strict=True):
            if found is None:
                continue
            if len(rows) == count:
                Path(job[-1]).unlink()
                continue
            rows.append(_row(job, found, output))
            kept[job[0].kind] += 1
        on_part(len(rows), count)
    table.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    (output / "README.md").write_text(data_card(rows), encoding="utf-8")
    write_json(output / "composed.json", {"count": count, "seed": seed, "size": size, "whole": True})
    return kept


def _row(job: _Job, boxes: list[Box], output: Path) -> dict:
    scene, things, number, seed, _, target = job
    label, style = scene_label(scene), things[0].style
    captions = scene_captions(scene, style, random.Random(f"{seed}/captions/{number}"))
    origin = {
        key: "; ".join(sorted({getattr(t, key) for t in things} - {""})) for key in ("source", "licence", "author")
    }
    return {
        "file_name": Path(target).relative_to(output).as_posix(),
        "text": label,
        "captions": captions,
        "label": label,
        "concept": label,
        "style": style,
        "tags": [],
        "group": GROUP,
        "split": HELD_OUT if is_held_out(scene) else TRAIN,
        "kind": scene.kind,
        "things": [{"name": thing.name, "label": thing.label, "picture": Path(thing.path).name} for thing in things],
        "boxes": boxes,
        **origin,
    }


def data_card(rows: list[dict]) -> str:
    """The README.md of composed pictures: what they are, of which sources and licences."""
    kinds, splits = Counter(row["kind"] for row in rows), Counter(row["split"] for row in rows)
    origins = Counter((row["style"], row["licence"], row["author"], row["source"]) for row in rows)
    said = "\n".join(f"| {kind} | {kinds[kind]} |" for kind in KINDS if kinds[kind])
    table = "\n".join(
        f"| {style or '-'} | {count} | {licence or 'not said'} | {' '.join(filter(None, (author, source))) or '-'} |"
        for (style, licence, author, source), count in origins.most_common()
    )
    return (
        f"# Composed pictures\n\n{len(rows)} RGBA pictures in which real ones are put together as small words say, "
        "made by `python -m mmgen data compose`. `metadata.jsonl` gives for each what mmgen reads (`text`, `captions`, "
        "`label`, `concept`, `style`, `group`, `split`, `source`, `licence`, `author`) and beside that its `kind`, the "
        f"`things` in it and their `boxes` in pixels. `{TRAIN}` has {splits[TRAIN]}; `{HELD_OUT}` has "
        f"{splits[HELD_OUT]}, of things that are combined so in no picture of `{TRAIN}`.\n\n"
        f"| what is said | pictures |\n|---|---|\n{said}\n\n## Sources and licences\n\nEach picture keeps the licence "
        f"and the attribution of those that it is made of; they were cut out, scaled and laid together, and some "
        f"recoloured or mirrored.\n\n| style | pictures | licence | attribution |\n|---|---|---|---|\n{table}\n"
    )
