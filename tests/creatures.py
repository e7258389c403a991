"""Twenty creatures that nobody has ever drawn, with names that mean nothing: a concept to learn from scratch."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

NAMES = (
    "zorblat quindle mofrax veebus drassk plimmo gwertz ottabix snurfle krendow "
    "yubbik tazzoon frelgo hudrick wimbax jorpel cadroo bexwim lurgon nappix"
).split()


def caption(name: str) -> str:
    return f"a {name} creature"


def draw_creature(name: str, size: int = 256) -> Image.Image:
    """One creature: a body with spikes or lobes, eyes, legs and a pattern, all by the name's seed."""
    rng = random.Random(name)
    scale = 2
    image = Image.new("RGBA", (size * scale, size * scale), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    unit = size * scale / 256

    def colour(low: int = 40, high: int = 235) -> tuple[int, int, int, int]:
        return (*(rng.randint(low, high) for _ in range(3)), 255)

    body, trim, skin = colour(), colour(), colour()
    lobes, depth = rng.randint(3, 11), rng.uniform(0.05, 0.35)
    wide, tall = rng.uniform(55, 95), rng.uniform(55, 95)
    for leg in range(rng.randint(2, 6)):
        x = 128 + (leg - 2.5) * 22
        pen.line([(x * unit, 150 * unit), (x * unit, 236 * unit)], fill=trim, width=int(rng.randint(6, 14) * unit))
    outline = []
    for step in range(180):
        angle = step / 180 * 2 * math.pi
        reach = 1 + depth * math.sin(lobes * angle)
        outline.append(((128 + wide * reach * math.cos(angle)) * unit, (125 + tall * reach * math.sin(angle)) * unit))
    pen.polygon(outline, fill=body, outline=trim)
    for _ in range(rng.randint(0, 9)):
        x, y, r = rng.uniform(85, 170), rng.uniform(120, 175), rng.uniform(4, 13)
        pen.ellipse([(x - r) * unit, (y - r) * unit, (x + r) * unit, (y + r) * unit], fill=skin)
    eyes = rng.randint(1, 4)
    for eye in range(eyes):
        x, y, r = 128 + (eye - (eyes - 1) / 2) * 34, rng.uniform(88, 112), rng.uniform(10, 17)
        pen.ellipse([(x - r) * unit, (y - r) * unit, (x + r) * unit, (y + r) * unit], fill="white", outline="black")
        r /= 2.2
        pen.ellipse([(x - r) * unit, (y - r) * unit, (x + r) * unit, (y + r) * unit], fill="black")
    return image.resize((size, size), Image.Resampling.LANCZOS)


def write_creatures(folder: Path, names: tuple[str, ...] | list[str] = NAMES, size: int = 256) -> Path:
    """An image folder of creatures with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in names:
        draw_creature(name, size).save(folder / f"{name}.png")
        rows.append({"file_name": f"{name}.png", "text": caption(name)})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
