"""Examples to click, one for each use."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw


@dataclass(frozen=True)
class Example:
    """A button's words, the prompt it writes, and what draws its reference, if it has one."""

    label: str
    prompt: str
    reference: Callable[[], Image.Image] | None = None


def smiling_sun(size: int = 256) -> Image.Image:
    """A flat sticker of a smiling sun on a transparent ground."""
    scale = 4
    side = size * scale
    image = Image.new("RGBA", (side, side), (255, 176, 46, 0))
    pen = ImageDraw.Draw(image)
    middle = side / 2

    def around(angle: float, radius: float) -> tuple[float, float]:
        return middle + radius * side * math.cos(angle), middle + radius * side * math.sin(angle)

    def disc(x: float, y: float, radius: float, colour: str) -> None:
        pen.ellipse([side * (x - radius), side * (y - radius), side * (x + radius), side * (y + radius)], fill=colour)

    for ray in range(12):
        angle = ray * math.tau / 12
        pen.polygon([around(angle - 0.14, 0.34), around(angle, 0.48), around(angle + 0.14, 0.34)], fill="#ffb02e")
    disc(0.5, 0.5, 0.32, "#ffcc4d")
    for x in (0.39, 0.61):
        disc(x, 0.45, 0.04, "#664500")
        disc(x + math.copysign(0.07, x - 0.5), 0.56, 0.045, "#ff9a6b")
    pen.arc([side * 0.36, side * 0.4, side * 0.64, side * 0.66], 25, 155, fill="#664500", width=round(side * 0.03))
    return image.resize((size, size), Image.Resampling.LANCZOS)


EXAMPLES = (
    Example("Character", "a woman firefighter with dark skin, noto style"),
    Example("Game item", "crossed swords, fluent 3d style"),
    Example("Sticker like a reference", "a cat face", smiling_sun),
    Example("Sunset scene", "A beautiful sunset on the beach"),
)
