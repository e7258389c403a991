"""Recoloured pictures with captions that say so ("a blue cat"), so that colour words mean something of their own.

A picture of mostly one hue is turned to another hue, and a nearly grey one is tinted; shading stays. Pictures of many
colours, people and flags are left alone.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from mmgen.images import open_image

GROUP = "recoloured"
"""The `group` of every recoloured picture."""

COLOURS = {"red": 0, "orange": 28, "yellow": 52, "green": 120, "blue": 215, "purple": 275, "pink": 330}
"""Hues in degrees."""

_NEAR = 45  # degrees: a hue so close would look the same
_WORDS = re.compile(r"\b(red|orange|yellow|green|blue|purple|pink|brown|black|white|grey|light blue)\b")


def dominant_hue(image: Image.Image) -> float | None:
    """The one hue of an RGBA picture in degrees; -1 where it is nearly grey, None where it has several."""
    hue, saturation, value = (np.asarray(c, dtype=np.float64) for c in image.convert("RGB").convert("HSV").split())
    alpha = np.asarray(image.getchannel("A"), dtype=np.float64)
    colourful = alpha * saturation * value
    if colourful.sum() < 0.12 * (alpha * 255 * 255).sum():
        return -1.0
    angle = hue / 255 * 2 * np.pi
    mean = (colourful * np.exp(1j * angle)).sum() / colourful.sum()
    return float(np.degrees(np.angle(mean)) % 360) if abs(mean) > 0.8 else None


def fitting_colours(hue: float) -> list[str]:
    """Names of the colours that differ clearly from a hue of `dominant_hue`."""
    apart = {name: abs((target - hue + 180) % 360 - 180) for name, target in COLOURS.items()}
    return [name for name in COLOURS if hue < 0 or apart[name] > _NEAR]


def recolour(image: Image.Image, hue: float, colour: str) -> Image.Image:
    """An RGBA picture of one `hue`, or of none (-1), in another colour."""
    hues, saturation, value = (np.asarray(c, dtype=np.float64) for c in image.convert("RGB").convert("HSV").split())
    target = COLOURS[colour]
    if hue < 0:
        hues = np.full_like(hues, target / 360 * 255)
        saturation = np.maximum(saturation, 150 * (value / 255) ** 0.5)
    else:
        hues = (hues + (target - hue) / 360 * 255) % 255
    planes = [Image.fromarray(np.round(plane).astype(np.uint8)) for plane in (hues, saturation, value)]
    turned = Image.merge("HSV", planes).convert("RGB")
    turned.putalpha(image.getchannel("A"))
    return turned


def coloured_label(label: str, colour: str) -> str | None:
    """A label with its colour word replaced, or with one put before it; None where the colour is the thing itself."""
    if _WORDS.fullmatch(label) or label == colour:
        return None
    return _WORDS.sub(colour, label, count=1) if _WORDS.search(label) else f"{colour} {label}"


def write_recoloured(job: tuple[str, str, float]) -> str | None:
    """Recolour one file.

    Args:
        job: the picture, the file to write (its name without the colour and suffix), and a number in [0, 1) that
            chooses the colour.

    Returns:
        The colour, or None where the picture has too many of its own.
    """
    source, target, chance = job
    image = open_image(source)
    hue = dominant_hue(image)
    if hue is None:
        return None
    colours = fitting_colours(hue)
    colour = colours[int(chance * len(colours))]
    recolour(image, hue, colour).save(Path(f"{target}-{colour}.png"), compress_level=6)
    return colour
