"""From what a person asked for to pictures, whatever the page looks like."""

from __future__ import annotations

import base64
import io
import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image

from mmgen.devices import has_fast_bf16
from mmgen.errors import UserError
from mmgen.images import open_image, save_png, to_pil
from mmgen.models.decoder import Caption
from mmgen.pipeline import DESCRIBED_TOGETHER, MAX_REFERENCES, MAX_SEED, MultimodalGANPipeline

ANY_STYLE = "Any"
MAX_COUNT = 16
MAX_WEIGHT = 2.0
_MAX_PROMPT = 20_000  # Characters; far more than the text encoder reads.
_MAX_SIDE = 2048  # Larger references are scaled down first, to keep memory small.
_DRAWING = threading.Lock()  # Drawings never compete for the processor.


@dataclass(frozen=True)
class Order:
    """What a person asked for. References are paths of picture files; `seed` may be None when its field is empty."""

    prompt: str = ""
    style: str | None = ANY_STYLE
    references: tuple[str, ...] = ()
    reference_weights: tuple[float, ...] = ()
    text_weight: float = 1.0
    seed: int | None = 0
    truncation: float = 1.0
    count: int = 1

    @property
    def words(self) -> str:
        """The words the model reads: the prompt, and the style where the prompt does not name it already."""
        words = " ".join(self.prompt[:_MAX_PROMPT].encode("utf-8", "replace").decode().split())
        if self.style in (None, "", ANY_STYLE) or f"{self.style} style".lower() in words.lower():
            return words
        return f"{words}, {self.style} style" if words else f"{self.style} style"

    def description(self, seed: int) -> dict[str, object]:
        """What a picture was made from, for its file's text chunks."""
        return {
            "prompt": self.prompt[:_MAX_PROMPT].encode("utf-8", "replace").decode(),
            "style": self.style or ANY_STYLE,
            "seed": seed,
            "text_weight": self.text_weight,
            "reference_weights": list(self.reference_weights),
            "truncation": self.truncation,
        }


@dataclass
class Drawing:
    """Pictures with their seeds, sentences for the person, and the time they took."""

    order: Order
    images: list[Image.Image]
    seeds: list[int]
    notes: list[str] = field(default_factory=list)
    milliseconds: int = 0

    def save(self, index: int, folder: Path) -> Path:
        """Write one picture as a transparent PNG that says what it was made from."""
        path = folder / png_name(self.order.prompt, self.seeds[index])
        save_png(self.images[index], path, self.order.description(self.seeds[index]))
        return path


class Studio:
    """A pipeline that draws orders, and remembers what it saw in their references."""

    def __init__(self, pipe: MultimodalGANPipeline):
        self.pipe = pipe
        if pipe.memory is not None:
            pipe.memory.freeze()  # All who draw here share it.
        self.styles = list(pipe.config.styles)
        self._see = lru_cache(maxsize=256)(self._read_reference)

    @property
    def device(self) -> str:
        """The machine in words, such as `CPU (bf16)`."""
        device = self.pipe.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
        return f"{name} (bf16)" if has_fast_bf16(device) else name

    @torch.inference_mode()
    def draw(self, order: Order, on_picture: Callable[[int, int], object] | None = None) -> Drawing:
        """Draw an order.

        Args:
            on_picture: called with the number of pictures done and wanted.

        Raises:
            UserError: a value is missing or out of its range, or a reference cannot be read.
        """
        self.check(order)
        count, first = int(order.count), int(order.seed)
        notes: list[str] = []
        seeds = [(first + i) % (MAX_SEED + 1) for i in range(count)]
        with _DRAWING:
            seen = [self._see(path) for path in order.references]
            start = time.perf_counter()
            pictures = torch.cat(seen) if seen else self.pipe.encode_references(())
            fused = self.pipe.fuse(order.words, pictures, order.reference_weights, order.text_weight, notes)
            pixels = []
            for done, seed in enumerate(seeds, start=1):
                pixels.append(self.pipe.draw(fused, seed, order.truncation))
                if on_picture:
                    on_picture(done, count)
        images = to_pil(torch.cat(pixels))
        took = round((time.perf_counter() - start) * 1000)
        return Drawing(order, images, seeds, list(dict.fromkeys(notes)), took)

    def check_describes(self) -> None:
        """Raise a `UserError` if the model has no decoder."""
        self.pipe.check_decoder()

    def describe(self, images: Sequence[str | Image.Image], num_captions: int = 3) -> list[list[Caption]]:
        """What pictures show, as `MultimodalGANPipeline.describe` says it.

        Raises:
            UserError: there is no picture, one cannot be read, or the model has no decoder.
        """
        captions = []
        for start in range(0, max(1, len(images)), DESCRIBED_TOGETHER):  # Between them others may draw.
            with _DRAWING:
                captions += self.pipe.describe(images[start : start + DESCRIBED_TOGETHER], num_captions)
        return captions

    def _read_reference(self, path: str) -> torch.Tensor:
        image = open_image(kept_reference(path))
        if max(image.size) > _MAX_SIDE:
            image.thumbnail((_MAX_SIDE, _MAX_SIDE))
        return self.pipe.encode_references([image])

    def check(self, order: Order) -> None:
        """Raise a `UserError` for the first value that is missing or out of its range."""
        if not isinstance(order.prompt, str):
            raise UserError("The prompt must be a text.")
        if order.style not in (None, "", ANY_STYLE, *self.styles):
            known = ", ".join([ANY_STYLE, *self.styles])
            raise UserError(f"There is no style {order.style!r}; choose one of: {known}.")
        if len(order.references) > MAX_REFERENCES:
            raise UserError(f"There are {len(order.references)} references; use at most {MAX_REFERENCES}.")
        if len(order.reference_weights) != len(order.references):
            raise UserError(
                f"There are {len(order.reference_weights)} reference weights for {len(order.references)} references; "
                "give one for each."
            )
        for weight in order.reference_weights:
            _check_number("A reference weight", weight, 0, MAX_WEIGHT)
        _check_number("The text weight", order.text_weight, 0, MAX_WEIGHT)
        _check_number("The truncation", order.truncation, 0, 1)
        _check_number("The number of pictures", order.count, 1, MAX_COUNT, whole=True)
        _check_number("The seed", order.seed, 0, MAX_SEED, whole=True)


def kept_reference(path: str) -> str:
    """The path of a reference.

    Raises:
        UserError: its file was cleared away.
    """
    if not Path(path).is_file():
        raise UserError("A reference is no longer on the server. Remove it and add it again.")
    return path


def _check_number(name: str, value: object, low: float, high: float, whole: bool = False) -> None:
    kind = "whole number" if whole else "number"
    if value is None:
        raise UserError(f"{name} is empty; give a {kind} from {low:g} to {high:.10g}.")
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    if not right or (whole and int(value) != value):
        raise UserError(f"{name} is {str(value)[:40]}; give a {kind} from {low:g} to {high:.10g}.")


def random_seed() -> int:
    """A seed from the whole range."""
    return secrets.randbelow(MAX_SEED + 1)


def png_name(prompt: str, seed: int) -> str:
    """A file's name, such as `mmgen-a-red-apple-seed1.png`."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt[:200].lower()).strip("-")[:48].strip("-")
    return "-".join(filter(None, ["mmgen", words, f"seed{seed}"])) + ".png"


def data_url(image: Image.Image) -> str:
    """A picture as a lossless WebP in a `data:` address, quick to make and to show."""
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", lossless=True, method=0, quality=20)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
