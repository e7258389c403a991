"""The curve of a training: its loss as it is, and smoothed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

RAW, SMOOTHED = "each batch", "smoothed"
COLUMNS = ("step", "loss", "line")
MAX_POINTS = 240


def smooth(values: Sequence[float], weight: float = 0.94) -> list[float]:
    """Moving average in which a value counts `weight` times as much with each later one; the first counts fully."""
    mean, total, smoothed = 0.0, 0.0, []
    for value in values:
        mean, total = weight * mean + (1 - weight) * value, weight * total + (1 - weight)
        smoothed.append(mean / total)
    return smoothed


def loss_of(log: list[dict[str, float]]) -> tuple[str, list[int], list[float]]:
    """What is learned at the moment: its name, and the steps and losses of it.

    The picture decoder learns first, where it learns; its loss shows until there is one of the generator.
    """
    for name, column in (("Loss", "paired"), ("Loss of the picture decoder, which learns first", "decoder")):
        found = [(row["step"], row[column]) for row in log if math.isfinite(row.get(column, math.nan))]
        if found:
            steps, losses = zip(*found, strict=True)
            return name, list(steps), list(losses)
    return "Loss", [], []


def thin(count: int, most: int = MAX_POINTS) -> list[int]:
    """At most `most` of `count` places, evenly, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def curve(log: list[dict[str, float]]) -> tuple[str, pd.DataFrame]:
    """A title, and points with the columns `COLUMNS`, at most `MAX_POINTS` a line."""
    title, steps, losses = loss_of(log)
    lines = {RAW: losses, SMOOTHED: smooth(losses)}
    kept = thin(len(steps))
    rows = [(steps[i], line[i], name) for name, line in lines.items() for i in kept]
    return title, pd.DataFrame(rows, columns=list(COLUMNS))
