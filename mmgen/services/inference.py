"""From what a person asked for to pictures, whatever the page looks like."""

from __future__ import annotations

import base64
import io
import os
import re
import secrets
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mmgen.attribution import memory_text
from mmgen.completion import Completed, StyleSet
from mmgen.devices import autocast, has_fast_bf16
from mmgen.errors import UserError, shown
from mmgen.images import save_png, to_pil
from mmgen.models.decoder import Caption
from mmgen.pipeline import (
    DESCRIBED_TOGETHER,
    MAX_REFERENCES,
    MAX_SEED,
    MemoryShare,
    MultimodalGANPipeline,
)
from mmgen.services.image_reader import ImageReader

ANY_STYLE = "Any"
MAX_COUNT = 16
MAX_WEIGHT = 2.0
_MAX_PROMPT = 20_000  # Characters; far more than the text encoder reads.
_GONE = "A reference is no longer on the server. Remove it and add it again."
_MAX_SEEN = 256  # References of which is kept what the model sees in them.
_THUMBNAIL = 96  # Pixels; shown at half of that, for screens with two a point.
_DRAWING = threading.Lock()  # Drawings never compete for the processor.

_File = tuple[str, int, int]  # A path, when the file there was changed last, and its size.


@dataclass(frozen=True)
class GenerationRequest:
    """What a person asked for. References are paths of picture files; `seed` may be None when its field is empty.

    `dropped` and `pinned` are numbers of entries of the memory that are never looked up, and that always are.
    """

    prompt: str = ""
    style: str | None = ANY_STYLE
    references: tuple[str, ...] = ()
    reference_weights: tuple[float, ...] = ()
    text_weight: float = 1.0
    seed: int | None = 0
    truncation: float = 1.0
    count: int = 1
    memory_weight: float = 1.0
    dropped: tuple[int, ...] = ()
    pinned: tuple[int, ...] = ()

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
class GenerationResult:
    """Pictures with their seeds, sentences for the person, and the time they took.

    `drawn_from` has for each picture the entries of the memory that it leaned on, the most first; it is None where the
    model has no memory. `read_as` are the words that were read, those of the style among them.
    """

    order: GenerationRequest
    images: list[Image.Image]
    seeds: list[int]
    notes: list[str] = field(default_factory=list)
    milliseconds: int = 0
    drawn_from: list[list[MemoryShare]] | None = None
    read_as: str = ""

    def save(self, index: int, folder: Path) -> Path:
        """Write one picture as a transparent PNG that says what it was made from."""
        order, path = self.order, folder / png_name(self.order.prompt, self.seeds[index])
        text = order.description(self.seeds[index])
        if self.drawn_from is not None:
            text |= memory_text(order.memory_weight, order.dropped, order.pinned, self.drawn_from[index])
        save_png(self.images[index], path, text)
        return path


class InferenceService:
    """A pipeline that draws orders, one picture at a time."""

    def __init__(self, pipe: MultimodalGANPipeline):
        self.pipe = pipe
        if pipe.memory is not None:
            pipe.memory.freeze()  # All who draw here share it.
        self.styles = list(pipe.config.styles)
        self.reader = ImageReader(pipe.image_size)
        self._seen: OrderedDict[_File, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()
        self._translate = lru_cache(maxsize=256)(self._read_prompt)
        self._key = lru_cache(maxsize=2048)(self._read_key)
        self._small = lru_cache(maxsize=4096)(self._draw_small)
        self._shrink = lru_cache(maxsize=1024)(self._draw_thumbnail)

    @property
    def has_memory(self) -> bool:
        """Whether what it draws leans on a memory."""
        return self.pipe.has_memory

    @property
    def device(self) -> str:
        """The machine in words, such as `CPU (bf16)`."""
        device = self.pipe.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
        return f"{name} (bf16)" if has_fast_bf16(device) else name

    @torch.inference_mode()
    def draw(self, order: GenerationRequest, on_image: Callable[[int, int], object] | None = None) -> GenerationResult:
        """Draw an order.

        Args:
            on_image: called with the number of pictures done and wanted.

        Raises:
            UserError: a value is missing or out of its range, or a reference cannot be read.
        """
        self.check(order)
        count, first = int(order.count), int(order.seed)
        words, said = self.read(order)
        notes: list[str] = list(said)
        seeds = [(first + i) % (MAX_SEED + 1) for i in range(count)]
        unseen = self._read_references(order.references)
        with _DRAWING:
            seen = [self._see(key, pixels) for key, pixels in unseen]
            start = time.perf_counter()
            tokens, shown = self._together(seen)
            content = self.pipe.content_of(words) if order.text_weight and order.memory_weight else ""
            fused = self.pipe.fuse(words, tokens, order.reference_weights, order.text_weight, notes, content=content)
            query = self.pipe.memory_query(words, notes) if content else None
            pixels, drawn_from = [], []
            for done, seed in enumerate(seeds, start=1):
                found = query and self.pipe.retrieve(
                    query, seed, order.truncation, bool(seen), order.dropped, order.pinned
                )
                remembered = self.pipe.remember(found, order.memory_weight, shown, order.reference_weights)
                shares: list[torch.Tensor] = []
                pixels.append(self.pipe.draw(fused, seed, order.truncation, remembered, shares))
                drawn_from.append(self.pipe.drawn_from(found, shares))
                if on_image:
                    on_image(done, count)
        images = to_pil(torch.cat(pixels))
        took = round((time.perf_counter() - start) * 1000)
        leaned = drawn_from if self.has_memory else None
        return GenerationResult(order, images, seeds, list(dict.fromkeys(notes)), took, leaned, words)

    def complete(
        self,
        images: Sequence[str | Image.Image],
        captions: Sequence[str],
        labels: Sequence[str],
        seeds: int | Sequence[int] = 0,
        **options: Any,
    ) -> Iterator[Completed]:
        """Draw the rest of a set as `MultimodalGANPipeline.complete` does; between two drawings others may draw.

        Raises:
            UserError: as there, before anything is drawn.
        """
        drawn = self.pipe.complete(images, captions, labels, seeds, **options)

        def one_by_one() -> Iterator[Completed]:
            while True:
                with _DRAWING:
                    one = next(drawn, None)
                if one is None:
                    return
                yield one

        return one_by_one()

    def draw_in(self, style: StyleSet, label: str, seed: int, truncation: float, **references: Any) -> Completed:
        """Draw one thing of a set, when nothing else is drawn.

        Args:
            references: `references` and `reference_weights`, as `StyleSet.draw` takes them.

        Raises:
            UserError: a reference cannot be read.
        """
        with _DRAWING:
            return style.draw(label, seed, truncation, **references)

    def image_key(self, entry: int) -> str:
        """What a thumbnail of an entry is kept by: another picture under the same number has another."""
        latent = self.pipe.looked_up.latents(torch.tensor([entry], device=self.pipe.device))
        return f"{zlib.crc32(latent.cpu().numpy().tobytes()):08x}"

    def thumbnail(self, entry: int) -> str:
        """An entry of the memory as a small picture in a `data:` address, drawn once and then kept."""
        return self._shrink(entry, self.image_key(entry))

    @torch.inference_mode()
    def _draw_thumbnail(self, entry: int, _key: str) -> str:
        latent = self.pipe.looked_up.latents(torch.tensor([entry], device=self.pipe.device))
        with _DRAWING, autocast(self.pipe.device):
            pixels = self.pipe.autoencoder.decode(latent).float().clamp(-1, 1)
        (image,) = to_pil(pixels)
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        return data_url(image, quality=80)

    def read(self, order: GenerationRequest) -> tuple[str, tuple[str, ...]]:
        """The words that the model reads of an order, emoji and other languages as English ones, and what to tell."""
        prompt, said = self._translate(order.prompt[:_MAX_PROMPT])
        return replace(order, prompt=prompt).words, said

    def _read_prompt(self, prompt: str) -> tuple[str, tuple[str, ...]]:
        notes: list[str] = []
        return self.pipe.read_prompt(prompt, notes), tuple(notes)

    def key(self, text: str) -> torch.Tensor:
        """What a text is looked up by, [D]; the same text is read once."""
        return self._key(text)

    def _read_key(self, text: str) -> torch.Tensor:
        with _DRAWING:
            return self.pipe.encode_keys([text])[0]

    def small(self, prompt: str, style: str | None = ANY_STYLE) -> str:
        """What a prompt draws from seed 0 as a small picture in a `data:` address, drawn once and then kept."""
        return self._small(prompt, style)

    def _draw_small(self, prompt: str, style: str | None) -> str:
        (image,) = self.draw(GenerationRequest(prompt, style)).images
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        return data_url(image, quality=80)

    def _together(self, seen: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and latents of all references."""
        if not seen:
            return self.pipe.encode_references(()), self.pipe.reference_latents(())
        tokens, latents = zip(*seen, strict=True)
        return torch.cat(tokens), torch.cat(latents)

    def check_describes(self) -> None:
        """Raise a `UserError` if the model has no captioner."""
        self.pipe.check_captioner()

    def describe(self, images: Sequence[str | Image.Image], num_captions: int = 3) -> list[list[Caption]]:
        """What pictures show, as `MultimodalGANPipeline.describe` says it.

        Raises:
            UserError: there is no picture, one cannot be read, or the model has no captioner.
        """
        self.pipe.check_captioner()
        self.pipe.check_captions(num_captions)
        if not images:
            raise UserError("There is no picture to describe. Give at least one.")
        captions, pixels = [], self.reader.read(images)
        for start in range(0, len(pixels), DESCRIBED_TOGETHER):  # Between them others may draw.
            with _DRAWING:
                captions += self.pipe.describe_pixels(pixels[start : start + DESCRIBED_TOGETHER], num_captions)
        return captions

    def _read_references(self, paths: Sequence[str]) -> list[tuple[_File, torch.Tensor | None]]:
        """Each reference's file, and its pixels if it has not been seen yet."""
        files = [_file_of(kept_reference(path)) for path in paths]
        unseen = list(dict.fromkeys(file for file in files if file not in self._seen))
        pixels = dict(zip(unseen, self.reader.read([path for path, *_ in unseen]), strict=True))
        return [(file, pixels.get(file)) for file in files]

    def _see(self, file: _File, pixels: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model sees in a reference: its tokens and its latents; each file is looked at once."""
        if file in self._seen:
            self._seen.move_to_end(file)
            return self._seen[file]
        if pixels is None:  # It was forgotten just now.
            (pixels,) = self.reader.read([file[0]])
        looks = self.pipe.generator.memory_reader is not None
        latents = self.pipe.encode_pixels([pixels]) if looks else self.pipe.reference_latents(())
        self._seen[file] = self.pipe.look([pixels]), latents
        while len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)
        return self._seen[file]

    def check(self, order: GenerationRequest) -> None:
        """Raise a `UserError` for the first value that is missing or out of its range."""
        if not isinstance(order.prompt, str):
            raise UserError("The prompt must be a text.")
        if order.style not in (None, "", ANY_STYLE, *self.styles):
            known = ", ".join([ANY_STYLE, *self.styles])
            raise UserError(f"There is no style {shown(order.style)!r}; choose one of: {known}.")
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
        _check_number("The memory weight", order.memory_weight, 0, MAX_WEIGHT)
        self.pipe.check_entries(order.dropped, order.pinned)
        _check_number("The truncation", order.truncation, 0, 1)
        _check_number("The number of pictures", order.count, 1, MAX_COUNT, whole=True)
        _check_number("The seed", order.seed, 0, MAX_SEED, whole=True)


def warm_up(pipe: MultimodalGANPipeline) -> threading.Thread:
    """Draw once in the background, as what is run first is slow; whoever draws meanwhile waits for that one picture."""

    def draw() -> None:
        with _DRAWING:
            pipe("a picture", seed=0)

    thread = threading.Thread(target=draw, name="warm-up", daemon=True)
    thread.start()
    return thread


def kept_reference(path: str) -> str:
    """The path of a reference.

    Raises:
        UserError: its file was cleared away.
    """
    if not Path(path).is_file():
        raise UserError(_GONE)
    return path


def _file_of(path: str) -> _File:
    try:
        said = os.stat(path)
    except OSError as error:
        raise UserError(_GONE) from error
    return path, said.st_mtime_ns, said.st_size


def _check_number(name: str, value: object, low: float, high: float, whole: bool = False) -> None:
    kind = "whole number" if whole else "number"
    if value is None:
        raise UserError(f"{name} is empty; give a {kind} from {low:g} to {high:.10g}.")
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    if not right or (whole and int(value) != value):
        raise UserError(f"{name} is {shown(value)}; give a {kind} from {low:g} to {high:.10g}.")


def random_seed() -> int:
    """A seed from the whole range."""
    return secrets.randbelow(MAX_SEED + 1)


def png_name(prompt: str, seed: int) -> str:
    """A file's name, such as `mmgen-a-red-apple-seed1.png`."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt[:200].lower()).strip("-")[:48].strip("-")
    return "-".join(filter(None, ["mmgen", words, f"seed{seed}"])) + ".png"


def data_url(image: Image.Image, quality: int | None = None) -> str:
    """A picture as a WebP in a `data:` address, quick to make and to show; lossless, or of a quality from 1 to 100."""
    buffer = io.BytesIO()
    lossless = {"lossless": True, "method": 0, "quality": 20}
    image.save(buffer, format="WEBP", **(lossless if quality is None else {"quality": quality}))
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
