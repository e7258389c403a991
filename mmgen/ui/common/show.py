"""The picture and the line below it, as HTML."""

from __future__ import annotations

from html import escape

from mmgen.services.inference import GenerationResult, data_url
from mmgen.space import without_paths


def canvas(drawing: GenerationResult | None = None) -> str:
    """The first picture of a drawing on a checkerboard; an empty checkerboard without one."""
    if drawing is None:
        return '<div class="canvas"></div>'
    image = drawing.images[0]
    words = escape((drawing.read_as or drawing.order.words)[:200] or "drawn from noise alone", quote=True)
    return (
        f'<div class="canvas"><img src="{data_url(image)}" alt="{words}" width="{image.width}" '
        f'height="{image.height}" decoding="sync"></div>'
    )


def status(drawing: GenerationResult | None = None, device: str = "") -> str:
    """How long it took and on what, and what the person should know."""
    if drawing is None:
        return _lines("Drawing the first picture", "")
    count = len(drawing.images)
    what = "Drawn" if count == 1 else f"{count} pictures drawn"
    seed = f" · seed {drawing.seeds[0]}" if count == 1 else ""
    return _lines(f"{what} in {drawing.milliseconds} ms on {device}{seed}", " ".join(drawing.notes))


def note(words: str) -> str:
    """Something that the person should know, in the place of the status."""
    return _lines("", words)


def problem(error: Exception | str) -> str:
    """What went wrong and what to do, in the place of the status."""
    return _lines("", without_paths(str(error)), kind="problem")


def progress(share: float | None, words: str) -> str:
    """How far something is; without a share only what is being done."""
    if share is None:
        return note(words)
    percent = round(100 * min(max(share, 0.0), 1.0))
    return (
        f'<div class="bar" role="progressbar" aria-label="{escape(words, quote=True)}" aria-valuenow="{percent}" '
        f'aria-valuemin="0" aria-valuemax="100"><i style="width:{percent}%"></i></div>{note(words)}'
    )


def _lines(facts: str, told: str, kind: str = "note") -> str:
    # Only what is told is announced by screen readers; the time of every frame would never end.
    return f'<p class="facts">{escape(facts)}</p><p class="{kind}" role="status" aria-live="polite">{escape(told)}</p>'
