"""Synthetic styles: a real style's pictures under one fixed treatment, so that a model learns what a style is.

Eight drawing styles are too few to learn from that a style is whatever the examples of it have in common. A synthetic
style is one random choice of shape (squeezed, tilted, rounded, wobbling), colours (turned hue, few colours, duotone, a
palette, a silhouette, pencil or chalk), lines within, surface (gradient, gloss, relief, dots, pixels), outline, shadow
and ground, the same for all of its pictures. Its captions name no style: what shows it are other pictures of it.

Pictures are RGBA; what is filtered or resized is premultiplied by alpha, so that no colour from outside a drawing seeps
in. All lengths are in pixels of a picture 256 wide and grow with it.
"""

from __future__ import annotations

import random
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from mmgen.data.splits import TRAIN
from mmgen.datasets.captions import emoji_captions
from mmgen.datasets.recolour import GROUP as RECOLOURED
from mmgen.images import open_image

GROUP = "synthetic"
"""The `group` of every picture in a synthetic style."""

IMAGES = 260
"""At most how many pictures a style has."""

Colour = tuple[float, float, float]
"""Red, green and blue from 0 to 1."""

_WHITE, _BLACK = (1.0, 1.0, 1.0), (0.08, 0.08, 0.1)
_LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)


@dataclass(frozen=True)
class Treatment:
    """What a synthetic style does to a picture.

    Attributes:
        width, height: of the drawing within the picture, as shares of it.
        tilt: degrees counter-clockwise.
        mirrored: left to right.
        wobble: how far lines stray, in pixels.
        roundness: radius to which corners of the silhouette are rounded, in pixels.
        colours: `own`, `hue`, `grey`, `pale`, `dark`, `vivid`, `few`, `palette`, `duotone`, `silhouette`, `line` (ink
            on one colour) or `chalk` (light lines on dark).
        hue: turn of the hues, 0 to 1, for `hue` and `few`.
        palette: dark to light, for `palette` and `duotone`; the first is that of a silhouette or of lines, the last the
            ground beneath them.
        levels: how many tones `few` keeps.
        ink: width of the lines within, in pixels; 0 for none.
        ink_colour: of them.
        surface: `plain`, `gradient`, `gloss`, `relief`, `layers`, `dots`, `hatching` or `pixels`.
        grain: size of dots, hatching or pixels, in pixels.
        outline: width in pixels; 0 for none.
        outline_colour: of it.
        shadow: `none`, `soft` or `hard`.
        ground: `none`, `tile` or `disc`.
        ground_colours: at its top and at its bottom.
    """

    width: float
    height: float
    tilt: float
    mirrored: bool
    wobble: float
    roundness: float
    colours: str
    hue: float
    palette: tuple[Colour, ...]
    levels: int
    ink: float
    ink_colour: Colour
    surface: str
    grain: int
    outline: float
    outline_colour: Colour
    shadow: str
    ground: str
    ground_colours: tuple[Colour, Colour]


def draw_treatment(number: int, seed: int = 0) -> Treatment:
    """The treatment of synthetic style `number`; equal arguments give an equal one."""
    rng = random.Random(f"{seed}/synthetic style/{number}")
    colours = rng.choices(
        ("own", "hue", "grey", "pale", "dark", "vivid", "few", "palette", "duotone", "silhouette", "line", "chalk"),
        (14, 10, 5, 6, 5, 5, 10, 16, 8, 5, 10, 6),
    )[0]
    drawn = colours in ("line", "chalk", "silhouette")  # Whose lines are all that tells what is shown.
    surface = "plain" if drawn and colours != "silhouette" else _surface(rng)
    ink = rng.choice((3, 4, 5)) if drawn else rng.choice((0, 0, 0, 2.5, 3.5, 5)) if surface != "pixels" else 0
    outline = max(3, ink) if colours == "line" else rng.choice((0, 0, 3, 5, 8))
    dark = _colour(rng, 0.05, 0.3)
    ground = rng.choices(("none", "tile", "disc"), (75, 15, 10))[0] if surface != "pixels" else "none"
    squeeze = rng.choice((1.0, 1.0, 1.0, 0.8, 1.25))
    size = rng.uniform(0.64, 0.72) if ground != "none" else rng.choice((0.96, 0.96, 0.9, 0.78)) - outline / 110
    tilt = rng.choice((0, 0, 0, 0, -14, 10, 16))
    size *= 0.84 if tilt else 1
    if colours == "own" and surface == "plain" and not ink and ground == "none":
        outline = max(outline, 5)  # Else it would hardly differ from its base.
    top = _colour(rng, 0.72, 0.9) if colours in ("silhouette", "chalk") else _colour(rng, 0.3, 0.9)
    return Treatment(
        width=size * min(1, squeeze),
        height=size * min(1, 1 / squeeze),
        tilt=tilt,
        mirrored=rng.random() < 0.2,
        wobble=rng.choice((0, 0, 0, 2.5, 4)) if surface != "pixels" else 0,
        roundness=rng.choice((0, 0, 0, 5, 9)),
        colours=colours,
        hue=rng.uniform(0.12, 0.88),
        palette=_palette(rng, colours),
        levels=rng.choice((3, 4, 5)),
        ink=ink,
        ink_colour=_WHITE if colours in ("silhouette", "chalk") else rng.choice((_BLACK, _BLACK, dark)),
        surface=surface,
        grain=rng.choice((5, 6, 8)) if surface in ("dots", "hatching") else rng.choice((8, 8, 11)),
        outline=outline,
        outline_colour=_palette_ink(rng, colours, dark),
        shadow=rng.choices(("none", "soft", "hard"), (65, 20, 15))[0],
        ground=ground,
        ground_colours=(top, rng.choice((top, top, (0.75 * top[0], 0.75 * top[1], 0.75 * top[2])))),
    )


def _surface(rng: random.Random) -> str:
    surfaces = ("plain", "gradient", "gloss", "relief", "layers", "dots", "hatching", "pixels")
    return rng.choices(surfaces, (40, 9, 9, 11, 8, 6, 6, 11))[0]


def _colour(rng: random.Random, darkest: float, lightest: float) -> Colour:
    """A colour of any hue whose lightness lies between two."""
    hue, saturation, lightness = rng.random(), rng.uniform(0.35, 0.9), rng.uniform(darkest, lightest)
    low, high = _ends(lightness, saturation)

    def channel(shift: float) -> float:
        wave = abs((hue + shift) % 1 * 6 - 3) - 1
        return low + (high - low) * min(1.0, max(0.0, wave))

    return channel(0), channel(2 / 3), channel(1 / 3)


def _ends(lightness: float, saturation: float) -> tuple[float, float]:
    reach = saturation * min(lightness, 1 - lightness)
    return lightness - reach, lightness + reach


def _palette(rng: random.Random, colours: str) -> tuple[Colour, ...]:
    """Colours from dark to light, evenly apart in lightness."""
    if colours == "line":
        return (_BLACK, rng.choice((_WHITE, _WHITE, _colour(rng, 0.8, 0.92))))
    if colours == "chalk":
        return (_WHITE, _colour(rng, 0.08, 0.28))
    if colours == "silhouette":
        return (_colour(rng, 0.2, 0.55),)
    if colours == "duotone":
        return (_colour(rng, 0.1, 0.3), _colour(rng, 0.75, 0.93))
    return tuple(_colour(rng, 0.12 + 0.16 * step, 0.18 + 0.16 * step) for step in range(5))


def _palette_ink(rng: random.Random, colours: str, dark: Colour) -> Colour:
    if colours in ("line",):
        return _BLACK
    return rng.choice((_BLACK, _WHITE, dark, _colour(rng, 0.3, 0.7)))


def treat(image: Image.Image, treatment: Treatment) -> Image.Image:
    """An RGBA picture in a synthetic style, of the same size; fully transparent where nothing is drawn."""
    t, scale = treatment, image.width / 256
    image = _reshape(image.convert("RGBA"), t, scale)
    pixels = np.asarray(image, dtype=np.float32) / 255
    rgb, alpha = pixels[..., :3], pixels[..., 3]
    if t.surface == "pixels":
        rgb, alpha = _in_blocks(rgb, alpha, max(2, round(t.grain * scale)))
    if t.roundness:
        rgb = _spread(rgb, alpha, t.roundness * scale)
        alpha = _ramp(_blur(alpha, t.roundness * scale), 0.5, 2 * t.roundness * scale)
    lines = _lines(rgb, alpha, t.ink * scale) if t.ink else None
    rgb = _coloured(rgb, alpha, t)
    rgb = _surfaced(rgb, alpha, t, scale)
    if lines is not None:
        rgb = rgb + (np.asarray(t.ink_colour, dtype=np.float32) - rgb) * lines[..., None]
    if t.outline:
        rgb, alpha = _outlined(rgb, alpha, t, scale)
    if t.shadow != "none":
        rgb, alpha = _shadowed(rgb, alpha, t.shadow == "hard", scale)
    if t.ground != "none":
        rgb, alpha = _grounded(rgb, alpha, t, scale)
    rgba = np.concatenate([rgb * (alpha > 0)[..., None], alpha[..., None]], axis=2)
    return Image.fromarray((rgba.clip(0, 1) * 255 + 0.5).astype(np.uint8), "RGBA")


def _reshape(image: Image.Image, t: Treatment, scale: float) -> Image.Image:
    """Squeezed, mirrored, tilted and wobbling, with premultiplied colours all the way."""
    side = image.width
    made = image.convert("RGBa")
    if t.mirrored:
        made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    size = max(1, round(side * t.width)), max(1, round(side * t.height))
    if size != made.size:
        small = made.resize(size, Image.Resampling.BICUBIC)
        made = Image.new("RGBa", (side, side))
        made.paste(small, ((side - size[0]) // 2, (side - size[1]) // 2))
    if t.tilt:
        made = made.rotate(t.tilt, Image.Resampling.BICUBIC)
    if t.wobble:
        y, x = np.mgrid[:side, :side].astype(np.float32) / scale
        stray = t.wobble * scale
        sway = np.sin(y / 13) + 0.6 * np.sin(y / 7 + x / 29 + 1)
        heave = np.sin(x / 11 + 2) + 0.6 * np.sin(x / 8 + y / 23)
        columns = (x * scale + 0.6 * stray * sway).round().clip(0, side - 1).astype(np.intp)
        rows = (y * scale + 0.6 * stray * heave).round().clip(0, side - 1).astype(np.intp)
        made = Image.fromarray(np.asarray(made)[rows, columns], "RGBa").filter(ImageFilter.GaussianBlur(0.6 * scale))
    return made.convert("RGBA")


def _blur(plane: np.ndarray, radius: float) -> np.ndarray:
    """Gaussian blur of [H, W] or [H, W, 3] from 0 to 1; wide ones at half the size."""
    image = Image.fromarray((plane.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    if radius < 4:
        image = image.filter(ImageFilter.GaussianBlur(radius))
    else:
        small = image.reduce(2).filter(ImageFilter.GaussianBlur(radius / 2))
        image = small.resize(image.size, Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32) / 255


def _ramp(plane: np.ndarray, middle: float, steepness: float) -> np.ndarray:
    """0 below the middle and 1 above it, with an edge a pixel wide where the slope is 1 / steepness."""
    return ((plane - middle) * steepness + 0.5).clip(0, 1)


def _spread(rgb: np.ndarray, alpha: np.ndarray, radius: float) -> np.ndarray:
    """Colours also where there were none, from those near by."""
    weights = _blur(alpha, radius)[..., None]
    near = _blur(rgb * alpha[..., None], radius) / np.maximum(weights, 1e-3)
    return rgb * alpha[..., None] + near.clip(0, 1) * (1 - alpha[..., None])


def _in_blocks(rgb: np.ndarray, alpha: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Every block of one colour, and there or not."""
    side = len(alpha)
    count = -(-side // block)
    padded = np.zeros((count * block, count * block, 4), dtype=np.float32)
    padded[:side, :side, :3], padded[:side, :side, 3] = rgb * alpha[..., None], alpha
    means = padded.reshape(count, block, count, block, 4).mean((1, 3))
    colours = (means[..., :3] / np.maximum(means[..., 3:], 1e-3)).clip(0, 1)
    cells = np.concatenate([colours, means[..., 3:] > 0.45], axis=2)
    whole = cells.repeat(block, 0).repeat(block, 1)[:side, :side]
    return whole[..., :3], whole[..., 3]


def _lines(rgb: np.ndarray, alpha: np.ndarray, width: float) -> np.ndarray:
    """Where lines between the areas of a drawing run, [H, W] from 0 to 1."""
    filled = _spread(rgb, alpha, 4 * width) if width else rgb
    smooth = _blur(filled, max(0.8, 0.45 * width))
    steps = np.zeros(alpha.shape, dtype=np.float32)
    reach = max(1, round(width / 2))
    for axis in (0, 1):
        change = np.abs(np.roll(smooth, reach, axis) - np.roll(smooth, -reach, axis)).max(-1)
        np.maximum(steps, change, out=steps)
    inside = _ramp(_blur(alpha, max(0.8, width / 2)), 0.8, 5)
    return ((steps - 0.1) * 9).clip(0, 1) * inside


def _tones(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lightness [H, W], stretched so that the drawing's darkest is 0 and its lightest 1."""
    luma = rgb @ _LUMA
    seen = luma[alpha > 0.5]
    low, high = np.quantile(seen[::7], (0.03, 0.97)) if len(seen) else (0, 1)
    middle, reach = (low + high) / 2, max(0.25, (high - low) / 2)
    return ((luma - middle) / (2 * reach) + 0.5).clip(0, 1)


def _coloured(rgb: np.ndarray, alpha: np.ndarray, t: Treatment) -> np.ndarray:
    if t.colours in ("hue", "few"):
        rgb = _hue_turned(rgb, t.hue)
    if t.colours == "few":
        tones = (_blur(rgb, 1) * t.levels).round() / t.levels
        return tones.astype(np.float32)
    grey = (rgb @ _LUMA)[..., None]
    if t.colours == "grey":
        return grey.repeat(3, 2)
    if t.colours == "pale":
        return 0.55 + 0.45 * rgb
    if t.colours == "dark":
        return 0.55 * rgb**1.3
    if t.colours == "vivid":
        return (grey + 1.7 * (rgb - grey)).clip(0, 1)
    if t.colours in ("silhouette", "line", "chalk"):
        return np.broadcast_to(np.asarray(t.palette[-1], dtype=np.float32), rgb.shape)
    if t.colours in ("duotone", "palette"):
        stops = np.asarray(t.palette, dtype=np.float32)
        places = _tones(rgb, alpha) * (len(stops) - 1)
        if t.colours == "palette":
            return stops[places.round().astype(np.intp)]
        return stops[0] + places[..., None] * (stops[1] - stops[0])
    return rgb


def _hue_turned(rgb: np.ndarray, turn: float) -> np.ndarray:
    """Colours turned about the grey axis, lightness kept."""
    angle = 2 * np.pi * turn
    i = np.array([[0.168, 0.33, -0.497], [-0.328, 0.035, 0.292], [1.25, -1.05, -0.203]])
    j = np.array([[0.701, -0.587, -0.114], [-0.299, 0.413, -0.114], [-0.3, -0.588, 0.886]])
    matrix = np.array([[0.299, 0.587, 0.114]] * 3) + np.cos(angle) * j + np.sin(angle) * i
    return (rgb @ matrix.T.astype(np.float32)).clip(0, 1)


def _surfaced(rgb: np.ndarray, alpha: np.ndarray, t: Treatment, scale: float) -> np.ndarray:
    side = len(alpha)
    if t.surface == "gradient":
        fall = np.linspace(0.22, -0.22, side, dtype=np.float32)[:, None, None]
        return (rgb + fall).clip(0, 1)
    if t.surface in ("gloss", "relief"):
        soft = _blur(alpha, (9 if t.surface == "relief" else 14) * scale)
        light = (np.gradient(soft, axis=0) + 0.7 * np.gradient(soft, axis=1)) * 10 * scale
        if t.surface == "relief":
            tones = _blur(rgb @ _LUMA, 2 * scale)
            light = light + 0.8 * (np.gradient(tones, axis=0) + np.gradient(tones, axis=1)) * scale
        lit = rgb + np.where(light > 0, (1 - rgb.mean(-1)) * 0.8 * light, 0.6 * light)[..., None]
        if t.surface == "gloss":
            y, x = np.mgrid[:side, :side].astype(np.float32) / side
            shine = _ramp(1 - np.hypot((x - 0.38) / 0.34, (y - 0.24) / 0.2), 0, 4)
            lit = lit + (1 - lit) * (0.4 * shine * _ramp(soft, 0.85, 6))[..., None]
        return lit.clip(0, 1)
    if t.surface == "layers":
        tones = (_blur(_tones(rgb, alpha), 1.5 * scale) * 3).round() / 3
        above = _blur(tones, 3 * scale)
        above = np.roll(above, (round(4 * scale), round(2 * scale)), (0, 1))
        return rgb * (1 - 0.75 * (above - tones).clip(0, 1))[..., None]
    if t.surface in ("dots", "hatching"):
        y, x = np.mgrid[:side, :side].astype(np.float32) * (np.pi / (t.grain * scale))
        if t.surface == "dots":
            screen = (np.sin(x + y) * np.sin(x - y) + 1) / 2
        else:
            screen = (np.sin((x + y) * 1.2) + 1) / 2
        tones = 0.15 + 0.75 * _tones(rgb, alpha)
        covered = _ramp(screen - tones, 0, 1.5)[..., None]
        return rgb * (1 - 0.45 * covered) + (1 - rgb) * 0.25 * (1 - covered)
    return rgb


def _outlined(rgb: np.ndarray, alpha: np.ndarray, t: Treatment, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """With a line around the silhouette, beneath it."""
    width = t.outline * scale
    if t.surface == "pixels":
        reach = round(t.grain * scale)
        wide = alpha
        for axis in (0, 1):
            wide = np.maximum(wide, np.maximum(np.roll(wide, reach, axis), np.roll(wide, -reach, axis)))
    else:
        wide = _ramp(_blur(alpha, width), 0.16, 3 * width)
    return _over(rgb, alpha, np.asarray(t.outline_colour, dtype=np.float32), np.maximum(wide, alpha))


def _shadowed(rgb: np.ndarray, alpha: np.ndarray, hard: bool, scale: float) -> tuple[np.ndarray, np.ndarray]:
    far = round((7 if hard else 5) * scale)
    cast = np.zeros_like(alpha)
    cast[far:, far // 2 :] = alpha[: len(alpha) - far, : len(alpha) - far // 2]
    cast = 0.55 * cast if hard else 0.5 * _blur(cast, 5 * scale)
    return _over(rgb, alpha, np.zeros(3, dtype=np.float32), cast)


def _grounded(rgb: np.ndarray, alpha: np.ndarray, t: Treatment, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """On a tile with round corners or on a disc, of one colour or two."""
    side = len(alpha)
    shape = Image.new("L", (2 * side, 2 * side))
    canvas, margin = ImageDraw.Draw(shape), 2 * 10 * scale
    if t.ground == "tile":
        canvas.rounded_rectangle([margin, margin, 2 * side - margin, 2 * side - margin], 2 * 46 * scale, fill=255)
    else:
        canvas.ellipse([margin, margin, 2 * side - margin, 2 * side - margin], fill=255)
    mask = np.asarray(shape.resize((side, side), Image.Resampling.BOX), dtype=np.float32) / 255
    top, bottom = (np.asarray(colour, dtype=np.float32) for colour in t.ground_colours)
    fall = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    return _over(rgb, alpha, np.broadcast_to(top + fall * (bottom - top), rgb.shape), mask)


def _over(rgb: np.ndarray, alpha: np.ndarray, below: np.ndarray, below_alpha: np.ndarray):
    """A picture over another; straight colours [H, W, 3] and alpha [H, W]."""
    rest = below_alpha * (1 - alpha)
    whole = alpha + rest
    mixed = (rgb * alpha[..., None] + below * rest[..., None]) / np.maximum(whole, 1e-4)[..., None]
    return mixed, whole


def write_treated(job: tuple[str, str, Treatment]) -> None:
    """Treat one file; the job is the picture, the file to write and the treatment."""
    source, target, treatment = job
    treat(open_image(source), treatment).save(target, compress_level=6)


def add_styles(
    output: Path, rows: list[dict], count: int, seed: int, pool: Executor, images: int = IMAGES
) -> list[dict]:
    """Write synthetic styles of an emoji data set below `output/synthetic`.

    Each is made from up to `images` of one style's pictures that are for training and have no skin tone, so what is
    held out stays held out.

    Args:
        rows: of the real pictures, as the metadata has them.
        count: of synthetic styles.

    Returns:
        Their rows: `group` is `GROUP`, `style` "synthetic 01" and so on, `base_style` the style treated, and the
        captions name no style.
    """
    able: dict[str, list[dict]] = {}
    for row in rows:
        if row["split"] == TRAIN and row["group"] not in (RECOLOURED, GROUP) and not row["tones"]:
            able.setdefault(row["style"], []).append(row)
    bases = random.Random(f"{seed}/synthetic bases").sample(sorted(able), len(able))
    made, jobs = [], []
    for number in range(1, count + 1):
        base = bases[(number - 1) % len(bases)]
        chosen = random.Random(f"{seed}/synthetic pictures/{number}").sample(able[base], min(images, len(able[base])))
        treatment, style = draw_treatment(number, seed), f"synthetic {number:02}"
        folder = output / "synthetic" / f"{number:02}"
        folder.mkdir(parents=True, exist_ok=True)
        for row in chosen:
            path = folder / f"{Path(row['file_name']).stem}.png"
            jobs.append((str(output / row["file_name"]), str(path), treatment))
            captions = emoji_captions(row["label"], style, row["tags"], seed=str(seed), naming=False)
            fresh = {"file_name": path.relative_to(output).as_posix(), "text": captions[0], "captions": captions}
            made.append({**row, **fresh, "style": style, "base_style": base, "group": GROUP})
    for _ in pool.map(write_treated, jobs, chunksize=32):
        pass
    return made


def without_synthetic(data: datasets.Dataset) -> datasets.Dataset:
    """The rows of `mmgen.data.folder.load_pairs` that are in styles somebody drew."""
    return data.select([row for row, group in enumerate(data["group"]) if group != GROUP])
