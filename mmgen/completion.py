"""Complete a set: a few pictures become a style of their own for a while, and other things are drawn in it.

What to draw is looked up in the model's own memory, how to draw it among the given pictures alone: they fill the
same-style slots of `mmgen.models.memory`, as a style that has no name. The model's memory is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mmgen.errors import UserError
from mmgen.images import cut_out_ground, open_image, to_pil, to_tensor
from mmgen.models.memory import TEMPERATURE, UNLIKE, Memory, Retrieved
from mmgen.style_distance import FEWEST, style_metric, style_vector

FEW = 5
"""Pictures below which a person is told that more would show the style better."""

NAMED = 5
"""Pictures that a sentence names at most."""


@dataclass(frozen=True)
class Completed:
    """One drawing of a set.

    Attributes:
        number: its place among the labels that were asked for.
        label, seed: what it was drawn from.
        image: straight RGBA.
        drawn_from: what it leaned on, as `MemoryShare` tells it, the most first. Given pictures are numbered on from
            the memory's entries, in their order.
        notes: sentences for the person; those on the whole set come with its first drawing.
    """

    number: int
    label: str
    seed: int
    image: Image.Image
    drawn_from: list
    notes: list[str] = field(default_factory=list)


class StyleSet:
    """Pictures as a style without a name, beside a pipeline's memory.

    Args:
        pipe: a `MultimodalGANPipeline` that `has_memory`.
        images: at least one, as `mmgen.images.open_image` takes them.
        captions: one for each, in plain words.
        source, licence, author: of the pictures, one text for all or one for each.
        cut_out: whether to make the even ground of pictures without transparency transparent.
        on_picture: called with the number of pictures that were read and that there are.

    Attributes:
        memory: the pictures.
        apart: numbers of the pictures that seem to be in another style than most, from 0.
        notes: sentences for the person.

    Raises:
        UserError: there is no picture, one cannot be read, a caption is missing, or the model has no memory.
    """

    @torch.no_grad()
    def __init__(
        self,
        pipe: Any,
        images: Sequence[str | Path | bytes | Image.Image],
        captions: Sequence[str],
        source: Sequence[str] | str = "",
        licence: Sequence[str] | str = "",
        author: Sequence[str] | str = "",
        cut_out: bool = False,
        on_picture: Callable[[int, int], object] | None = None,
    ):
        self.pipe = pipe
        self.notes: list[str] = []
        if not pipe.has_memory:
            raise UserError(
                "This model has no memory, by which it would know other things to draw in your style. Choose a model "
                "that has one, or give it one made by `python -m mmgen memory build`."
            )
        images = [images] if isinstance(images, (str, Path, bytes, Image.Image)) else list(images)
        captions = [captions] if isinstance(captions, str) else captions
        captions = [" ".join(str(words or "").split()) for words in captions]
        if not images:
            raise UserError(
                "There are no pictures to show the style. Give at least one, better twenty, with a word each."
            )
        if len(captions) != len(images):
            raise UserError(f"There are {len(captions)} captions for {len(images)} pictures; give one for each.")
        if "" in captions:
            raise UserError(f"Picture {captions.index('') + 1} has no caption. Say in a word or some what it shows.")
        opened, vectors = [], []
        opaque: list[int] = []
        uncut: list[int] = []
        for number, one in enumerate(images):
            image = open_image(one, None if isinstance(one, (str, Path)) else f"Picture {number + 1}")
            # Each is kept no larger than it is read, however many there are.
            pixels, has_ground = prepared(image, pipe.image_size, cut_out)
            if has_ground:
                (uncut if cut_out else opaque).append(number)
            opened.append(to_pil(pixels[None])[0])
            vectors.append(style_vector(pipe, pixels))
            if on_picture:
                on_picture(number + 1, len(images))
        config = pipe.generator.config
        self.memory = Memory(
            latent_channels=config.latent_channels,
            latent_size=config.latent_size,
            key_channels=config.memory_channels,
        ).to(pipe.device)
        if pipe.memory is not None and len(pipe.memory):
            self.memory.levels.copy_(pipe.memory.levels)  # Quantised as what the generator has learned from.
        self.memory.bind(pipe)
        self.memory.add(opened, captions, source=source, licence=licence, author=author)
        metric = style_metric(pipe) if len(images) >= FEWEST else None
        self.apart = metric.apart(torch.stack(vectors)) if metric else []
        self._say(captions, opaque, uncut)

    def draw(
        self,
        label: str,
        seed: int = 0,
        truncation: float = 1.0,
        memory_weight: float = 1.0,
        number: int = 0,
        references: Sequence[str | Path | bytes | Image.Image] = (),
        reference_weights: Sequence[float] = (),
    ) -> Completed:
        """Draw one thing in the style.

        A picture of the set with the very words of the label does not show the style of this one, so that it is drawn
        and not copied.

        Args:
            references: pictures that this one is to be like, such as a sketch of it, as a call of the pipeline takes
                them.
            reference_weights: one for each, 0 to 2.

        Raises:
            UserError: a reference cannot be read.
        """
        shown = [open_image(one) for one in references]
        with torch.inference_mode():
            pipe = self.pipe
            notes: list[str] = []
            unknown: list[str] = []
            words = pipe.read_prompt(label, notes)
            content = " ".join(words.split())
            fused = pipe.fuse(words, pipe.encode_references(shown), reference_weights, 1.0, notes, content=content)
            query = pipe.content_query(content, notes=unknown)
            if unknown:
                notes.append("the memory knows nothing like it. Say it in other words, or choose what is known.")
            found = self._retrieve(query, seed, truncation)
            shares: list[torch.Tensor] = []
            remembered = pipe.remember(found, memory_weight, pipe.reference_latents(shown), reference_weights)
            pixels = pipe.draw(fused, seed, truncation, remembered, shares)
            image = to_pil(pixels)[0]
            leaned = pipe.drawn_from(found, shares, self.about)
        return Completed(number, label, seed, image, leaned, [f'"{label[:60]}": {note}' for note in notes])

    def draw_all(
        self, labels: Sequence[str], seeds: Sequence[int], truncation: float = 1.0, memory_weight: float = 1.0
    ) -> Iterator[Completed]:
        """Draw labels, each with its seed, one after the other."""
        for number, (label, seed) in enumerate(zip(labels, seeds, strict=True)):
            one = self.draw(label, seed, truncation, memory_weight, number)
            if number == 0:
                one.notes[:0] = self.notes
            yield one

    def about(self, entry: int) -> dict[str, str]:
        """What is known of an entry, the given pictures numbered on from those of the model's memory."""
        own = entry - len(self.pipe.looked_up)
        return self.memory.about(own) if own >= 0 else self.pipe.looked_up.about(entry)

    def _retrieve(self, query: Any, seed: int, truncation: float) -> Retrieved:
        """The half of a look-up that says what to draw from the model's memory, the other from the pictures."""
        known, config = self.pipe.looked_up, self.pipe.generator.config
        generator, half = torch.Generator().manual_seed(seed + 2**33), config.memory_slots // 2
        device = self.pipe.device
        never_same = torch.equal(query.keys[:1], query.whole)  # One thing of several may be the very picture.
        found = []
        for memory, style, part in ((known, -1, slice(half)), (self.memory, 0, slice(half, None))):
            asked = (query.keys[None], torch.tensor([style], device=device), None, TEMPERATURE * truncation, generator)
            some = memory.lookup(*asked, config.memory_slots, never_same)
            if never_same and not some.weights[:, part].any():  # There is no other picture to see the style by.
                some = memory.lookup(*asked, config.memory_slots)
            entries, weights = some.entries[:, part], some.weights[:, part]
            found.append(memory.read(entries, memory.likeness(query.whole, entries), weights))
        found[1].entries = (found[1].entries + len(known)) * found[1].weights.long()
        return Retrieved(*(torch.cat([vars(some)[name] for some in found], dim=1) for name in vars(found[0])))

    def _say(self, captions: Sequence[str], opaque: list[int], uncut: list[int]) -> None:
        """Sentences on what a person could mend."""
        count = len(captions)
        if count < FEW:
            few = "One picture shows" if count == 1 else f"{count} pictures show"
            self.notes.append(f"{few} little of a style. Give more, such as twenty, for it to be followed better.")
        if self.apart:
            names = _named(captions, self.apart)
            whole = "The pictures of this set seem to have little of their style in common. Choose some of one style."
            some = (
                f"Several styles seem to be in this set: {names} stand{'s' if len(self.apart) == 1 else ''} apart from "
                "the others. Leave them out for one style throughout, or complete them as a set of their own."
            )
            self.notes.append(whole if 2 * len(self.apart) > count else some)
        likeness = self.pipe.looked_up.nearest(self.pipe.encode_keys(captions)).tolist()
        strange = [number for number, nearest in enumerate(likeness) if nearest < UNLIKE]
        if strange:
            whose = "No caption names anything"
            if len(strange) < count:
                whose = (
                    f"{len(strange)} of the captions name nothing" if len(strange) > 1 else "One caption names nothing"
                )
            self.notes.append(
                f"{whose} that the memory knows ({_named(captions, strange)}). The style is seen all the same. Plain "
                "English words for what a picture shows let the fitting ones of yours be found for each label."
            )
        if opaque:
            self.notes.append(
                f"{_pictures(opaque, count)} no transparency ({_named(captions, opaque)}), so the ground counts as a "
                "part of the style. Where it is none, cut it out: an even one by the option to cut out (`cut_out`), "
                "that of a photograph by a program such as GIMP or rembg."
            )
        if uncut:
            self.notes.append(
                f"{_pictures(uncut, count)} no transparency and no even ground that could be cut out "
                f"({_named(captions, uncut)}). Cut it out by a program such as GIMP or rembg, and save as PNG."
            )


def checked_seeds(labels: Sequence[str], seeds: int | Sequence[int], most: int) -> list[int]:
    """One seed for each label, those of a label that is asked for again counted on.

    Args:
        seeds: one for all, or one for each; most: the highest there is, after which follows 0.

    Raises:
        UserError: there is no label, one is empty or no text, or there are not as many seeds.
    """
    if not labels:
        raise UserError("There are no labels to draw. Name at least one thing that is missing from the set.")
    for number, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip():
            raise UserError(f"Label {number + 1} is empty or no text. Write what to draw, or leave it away.")
    if isinstance(seeds, Iterable):
        seeds = list(seeds)
        if len(seeds) != len(labels):
            raise UserError(f"There are {len(seeds)} seeds for {len(labels)} labels; give one for all or for each.")
        return seeds
    first: int = seeds
    if not isinstance(first, int) or not 0 <= first <= most:  # The pipeline says what is wrong with it.
        return [first] * len(labels)
    times: dict[str, int] = {}
    made = []
    for label in labels:
        key = " ".join(label.split()).lower()
        times[key] = times.get(key, -1) + 1
        made.append((first + times[key]) % (most + 1))
    return made


def prepared(image: Image.Image, size: int, cut_out: bool) -> tuple[torch.Tensor, bool]:
    """A straight RGBA picture as it is given to a set: premultiplied [4, size, size] in [-1, 1], and whether it has a
    ground all over, which was not to be cut out or is not even."""
    if image.getchannel("A").getextrema()[0] != 255:
        return to_tensor(image, size), False
    cut = cut_out_ground(image) if cut_out else None
    return to_tensor(cut or image, size), cut is None


def known_labels(memory: Memory) -> list[str]:
    """What a memory knows, in the order of its entries: of each concept the shortest label, without tones of skin.

    A person "with dark skin" is of the concept of the one without.
    """
    texts = memory.config.texts
    best: dict[int, int] = {}
    for text, concept in zip(memory.text.tolist(), memory.concept.tolist(), strict=True):
        known = best.setdefault(concept, text)
        if len(texts[text]) < len(texts[known]):
            best[concept] = text
    return list(dict.fromkeys(texts[text] for text in best.values()))


def _named(captions: Sequence[str], numbers: Sequence[int]) -> str:
    """Pictures by their captions, the first of them."""
    said = ", ".join(f'"{captions[number][:40]}"' for number in numbers[:NAMED])
    return said + (f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else "")


def _pictures(numbers: Sequence[int], count: int) -> str:
    if len(numbers) == count:
        return "The pictures have" if count > 1 else "The picture has"
    return f"{len(numbers)} of the pictures have" if len(numbers) > 1 else "One of the pictures has"
