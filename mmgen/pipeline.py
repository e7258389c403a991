"""The pipeline: a prompt and references become pictures, in one forward pass."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image

from mmgen.completion import Completed, StyleSet, checked_seeds
from mmgen.devices import autocast
from mmgen.errors import UserError, shown
from mmgen.images import Source, open_image, to_pil, to_tensor
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.decoder import Caption, CaptionDecoder
from mmgen.models.embeddings import Embeddings, image_hash, tensor_hash
from mmgen.models.encoders import MAX_PROMPT_TOKENS, PyramidCNN, reference_tokens, reference_view, text_tokens
from mmgen.models.fusion import Fused, Fusion
from mmgen.models.generator import Generator, Remembered
from mmgen.models.memory import (
    TEMPERATURE,
    UNLIKE,
    Memory,
    Retrieved,
    check_encoders,
    encoder_hashes,
    text_keys,
    without_style,
)
from mmgen.models.vocabulary import Vocabulary
from mmgen.phrases import phrases, places_of_things, subject

MAX_REFERENCES = 4
MAX_CAPTIONS = 16
MAX_SEED = 2**32 - 1
DESCRIBED_TOGETHER = 20

STYLE_TEMPERATURE = 0.05
"""Of the Gumbel noise by which a seed chooses the style of a prompt that names none, where truncation is 1."""

WHOLE = 0.8
"""Likeness from which on a prompt is looked up as a whole, not thing by thing."""

MAX_THINGS = 8
"""Things of a prompt that are considered; a long text names thousands, and only the first have slots."""


@dataclass(frozen=True)
class MemoryShare:
    """One entry of the memory that a picture leaned on.

    Attributes:
        entry: its number.
        share: how much of the picture was copied from it, 0 to 1, by the attention of the last layer.
        likeness: of its label to the words, -1 to 1.
        label, style, source, licence, author: as the memory has them.
    """

    entry: int
    share: float
    likeness: float
    label: str
    style: str
    source: str
    licence: str
    author: str


@dataclass
class GANPipelineOutput(BaseOutput):
    """What a call returns.

    Attributes:
        images: RGBA PIL pictures, or one tensor [N, 4, H, W] in [-1, 1], premultiplied; those of the first prompt
            first.
        seeds: the seed of each picture.
        notes: sentences for the person, such as that a prompt was cut.
        captions: of each picture what the captioner says of it, if it was asked for; see `describe`.
        drawn_from: of each picture the entries of the memory that it leaned on, the most first; none without a memory.
        read_as: of each prompt the words that were read; others than were given where `vocabulary` made them English.
    """

    images: list[Image.Image] | torch.Tensor
    seeds: list[int]
    notes: list[str] = field(default_factory=list)
    captions: list[list[Caption]] | None = None
    drawn_from: list[list[MemoryShare]] = field(default_factory=list)
    read_as: list[str] = field(default_factory=list)


@dataclass
class EncodedPrompt:
    """What BERT made of a prompt.

    Attributes:
        tokens: [1, T, D] of its words.
        mask: [1, T], ones.
        keys: [n, D], of the `things_of` its content, or None where nothing is looked up.
        notes: sentences for the person on what was not read.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    keys: torch.Tensor | None
    notes: tuple[str, ...]


@dataclass
class MemoryQuery:
    """What is looked up for a prompt.

    Attributes:
        whole: [1, D], of all the words.
        keys: [K, D], one for each slot.
        style: number of the style that the prompt names, or None.
    """

    whole: torch.Tensor
    keys: torch.Tensor
    style: int | None


class MultimodalGANPipeline(DiffusionPipeline):
    """Words and reference pictures -> RGBA pictures.

    >>> pipe = MultimodalGANPipeline.from_pretrained("checkpoints/mmgen-emoji")
    >>> pipe("a red apple", seed=1).images[0].save("apple.png")

    Args:
        captioner: what says in words what a picture shows; None in a model that was not taught to.
        captioner_fusion: the fusion that the captioner has learned to read, where `fusion` has learned more since.
        memory: what the generator looks up; for a generator that can an empty one by default, for others None.
        styles: names of drawing styles that the model knows as words, for the page's style picker; of a dict,
            which a published index holds, its keys.
        vocabulary: what the model knows in words, by which emoji and other languages are read; None to read English
            alone.
    """

    _optional_components = ["captioner", "captioner_fusion", "memory", "vocabulary"]

    def __init__(
        self,
        text_encoder,
        tokenizer,
        image_encoder,
        image_processor,
        fusion: Fusion,
        generator: Generator,
        autoencoder: ImageAutoencoder,
        captioner: CaptionDecoder | None = None,
        captioner_fusion: Fusion | None = None,
        memory: Memory | None = None,
        styles: list | dict = (),
        vocabulary: Vocabulary | None = None,
    ):
        super().__init__()
        if memory is None and generator.config.memory_slots:
            memory = Memory(
                latent_channels=generator.config.latent_channels,
                latent_size=generator.config.latent_size,
                key_channels=generator.config.memory_channels,
                **encoder_hashes(autoencoder, text_encoder),
            )
        self.memory_on_disk = None
        self.embeddings = Embeddings()
        self._pieces: dict[str, int] | None = None
        if memory is not None:
            memory.bind(self)
        self.register_modules(
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            image_encoder=image_encoder,
            image_processor=image_processor,
            fusion=fusion,
            generator=generator,
            autoencoder=autoencoder,
            captioner=captioner,
            captioner_fusion=captioner_fusion,
            memory=memory,
            vocabulary=vocabulary,
        )
        self.register_to_config(styles=list(styles))
        for part in self.components.values():
            if isinstance(part, torch.nn.Module):  # Stored in half precision to be small, used in full.
                part.float().eval().requires_grad_(False)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir=None,
        local_files_only: bool = False,
        **parts,
    ) -> MultimodalGANPipeline:
        """Load a checkpoint: a folder or, where there is none of this name, `user/name` on the Hugging Face Hub.

        Only weights and their descriptions are read, safetensors alone; no code that comes with a model is run.

        Args:
            revision: branch, tag or commit on the Hub; the newest by default.
            token, cache_dir, local_files_only: as huggingface_hub takes them.
            parts: parts to take instead of the checkpoint's, such as `autoencoder`. A `torch_dtype` changes nothing,
                which is told.

        Raises:
            UserError: it is missing, not whole, one of another kind of model, or cannot be fetched.
        """
        from mmgen.loading.load import load  # What a published pipeline does without.

        _tell_of_types(parts.pop("torch_dtype", None), parts.pop("dtype", None))
        return load(cls, pretrained_model_name_or_path, revision, token, cache_dir, local_files_only, parts)

    def to(self, *args, **options):
        """Move to a device. A `dtype` other than float32 changes nothing, which is told."""
        _tell_of_types(*args, *options.values())
        args = tuple(one for one in args if not isinstance(one, torch.dtype))
        options = {name: one for name, one in options.items() if not isinstance(one, torch.dtype)}
        return super().to(*args, **options) if args or options else self

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        if self.memory is not None:
            self.memory.bind(self)  # A copy's memory reads by the copy's networks.

    def use_memory(self, memory) -> None:
        """Look up another memory from now on.

        Args:
            memory: a `Memory`, which becomes part of this pipeline, or an `IndexedMemory`, which stays on its disk.

        Raises:
            UserError: the generator looks nothing up, or the memory is empty or of another model; nothing is changed.
        """
        config, theirs = self.generator.config, memory.config
        if not config.memory_slots:
            raise UserError("This model looks nothing up, so a memory is of no use to it. Leave the memory away.")
        if not len(memory):
            raise UserError("The memory is empty. Build one with `python -m mmgen memory build`.")
        for name, ours in (
            ("latent_channels", config.latent_channels),
            ("latent_size", config.latent_size),
            ("key_channels", config.memory_channels),
        ):
            if getattr(theirs, name) != ours:
                raise UserError(
                    f"The memory's {name.replace('_', ' ')} are {getattr(theirs, name)} and this model's {ours}. Build "
                    "one for this model with `python -m mmgen memory build`."
                )
        check_encoders(theirs, self.autoencoder, self.text_encoder)
        if isinstance(memory, Memory):
            memory.bind(self)
            self.memory, self.memory_on_disk = memory.float().eval().requires_grad_(False).to(self.device), None
        else:
            self.memory_on_disk = memory

    @property
    def looked_up(self):
        """What prompts are looked up in: the memory on disk that `use_memory` was given, or else `memory`."""
        return self.memory if self.memory_on_disk is None else self.memory_on_disk

    @property
    def image_size(self) -> int:
        """Side of the pictures in pixels."""
        return self.generator.config.latent_size * self.autoencoder.stride

    @property
    def has_memory(self) -> bool:
        """Whether there is something to look up, and a generator that looks at it."""
        memory = self.looked_up
        return memory is not None and len(memory) > 0 and self.generator.memory_reader is not None

    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | Sequence[str] = "",
        references: Sequence[Source] | Source | None = (),
        reference_weights: Sequence[float] | float | None = None,
        text_weight: float = 1.0,
        seed: int = 0,
        truncation: float = 1.0,
        num_images: int = 1,
        output_type: str = "pil",
        describe: bool = False,
        memory_weight: float = 1.0,
        memory_dropped: Sequence[int] = (),
        memory_pinned: Sequence[int] = (),
        generator: torch.Generator | None = None,
        translate: bool = True,
        **others,
    ) -> GANPipelineOutput:
        """Draw.

        Args:
            prompt: one prompt or several; an empty one leaves the words out.
            references: 0 to 4 pictures, shared by all prompts, each as `mmgen.images.open_image` takes it: a path, the
                bytes of a file, a PIL picture, an array or a tensor; several also as one array or tensor.
            reference_weights: one for each reference, 0 to 2; 1 by default.
            text_weight: 0 to 2.
            seed: 0 to 2**32 - 1. Picture i of each prompt is drawn from seed + i (modulo 2**32), so each can be drawn
                again alone, whatever else was in the batch.
            truncation: 0 (the mean style, the nearest entries of the memory) to 1 (all variety).
            num_images: pictures of each prompt.
            output_type: `pil` or `pt`.
            describe: whether to read the pictures back into words.
            memory_weight: 0 to 2; of what the model looks up in its memory.
            memory_dropped, memory_pinned: numbers of entries that are never looked up, and that always are.
            generator: as other pipelines of diffusers take it; the seed that it was given is that of the pictures.
            translate: whether to bring emoji and words of other languages into English ones, where the model has a
                vocabulary.
            others: what those pipelines take beside; refused in a sentence where it would mean something else here.

        Raises:
            UserError: a number is out of its range, there are more than 4 references, or the model cannot describe.
        """
        prompts = list(prompt) if isinstance(prompt, (list, tuple)) else [prompt]
        prompts = [one.encode("utf-8", "ignore").decode() if isinstance(one, str) else one for one in prompts]
        references = _several(references)
        reference_weights = [1.0] * len(references) if reference_weights is None else _numbers(reference_weights)
        num_images = _number(others.pop("num_images_per_prompt", num_images))
        seed = _number(seed) if generator is None else _seed_of(generator)
        text_weight, truncation, memory_weight = map(_number, (text_weight, truncation, memory_weight))
        _refuse_others(others)
        self._check(
            prompts,
            references,
            reference_weights,
            text_weight,
            seed,
            truncation,
            num_images,
            output_type,
            memory_weight,
        )
        self.check_entries(memory_dropped, memory_pinned)
        if describe:
            self.check_captioner()
        references = [open_image(one) for one in references]
        seed, num_images = int(seed), int(num_images)
        notes: list[str] = []
        prompts = [self.read_prompt(words, notes) for words in prompts] if translate else prompts
        tokens, shown = self.see_references(references)
        seeds = [(seed + i) % (MAX_SEED + 1) for i in range(num_images)]
        drawn, drawn_from = [], []
        for words in prompts:
            content = self.content_of(words) if text_weight and memory_weight else ""
            fused = self.fuse(words, tokens, reference_weights, text_weight, notes, content=content)
            query = self.memory_query(words, notes) if content else None
            for one in seeds:
                found = query and self.retrieve(query, one, truncation, bool(references), memory_dropped, memory_pinned)
                remembered = self.remember(found, memory_weight, shown, reference_weights)
                shares: list[torch.Tensor] = []
                drawn.append(self.draw(fused, one, truncation, remembered, shares))
                drawn_from.append(self.drawn_from(found, shares))
        pixels = torch.cat(drawn)
        images = to_pil(pixels) if output_type == "pil" else pixels
        captions = self.describe(to_pil(pixels)) if describe else None
        notes = list(dict.fromkeys(notes))
        return GANPipelineOutput(images, seeds * len(prompts), notes, captions, drawn_from, prompts)

    def knows_word(self, word: str) -> bool:
        """Whether the text encoder reads a lower-case word as a whole, not in pieces."""
        if self._pieces is None:
            self._pieces = self.tokenizer.get_vocab()
        return word in self._pieces

    def read_prompt(self, prompt: str, notes: list[str] | None = None) -> str:
        """A prompt with its emoji and its words of other languages as English words; as it is without a vocabulary.

        Args:
            notes: a list that is given a sentence where a part could not be read.
        """
        if self.vocabulary is None:
            return prompt
        # The name of a style is English in any prompt.
        words, style = without_style(prompt, list(self.config.styles))
        reading = self.vocabulary.read(words, self.knows_word)
        if reading.unread and notes is not None:
            notes.append(f"Not understood, and left out: {', '.join(reading.unread)[:80]}.")
        if not reading.changed:
            return prompt
        return f"{reading.text}, {style} style" if style else reading.text

    def complete(
        self,
        images: Sequence[str | Path | bytes | Image.Image],
        captions: Sequence[str],
        labels: Sequence[str],
        seeds: int | Sequence[int] = 0,
        truncation: float = 1.0,
        memory_weight: float = 1.0,
        source: Sequence[str] | str = "",
        licence: Sequence[str] | str = "",
        author: Sequence[str] | str = "",
        cut_out: bool = False,
        on_picture: Callable[[int, int], object] | None = None,
    ) -> Iterator[Completed]:
        """Draw other things in the style of some pictures, one after the other; stop taking them to stop.

        The pictures are a style for this call alone. To keep them, `pipe.memory.add(images, captions, style="mine")`.

        Args:
            images: of one style, one or any number, as `mmgen.images.open_image` takes them.
            captions: one for each, a word or some.
            labels: what to draw, with no style named; one that is asked for again is drawn again.
            seeds: one for each label, or one for all, from which a label that is asked for again takes the next.
            truncation, memory_weight: as a call takes them; without the memory nothing is seen of the style.
            source, licence, author: of the pictures, one text for all or one for each.
            cut_out: whether to make the even ground of pictures without transparency transparent.
            on_picture: called with the number of pictures that were read and that there are.

        Raises:
            UserError: before anything is drawn, if something is missing or out of its range, a picture cannot be read,
                or the model has no memory.
        """
        labels = [labels] if isinstance(labels, str) else list(labels)
        wanted = checked_seeds(labels, seeds, MAX_SEED)
        for seed in wanted:
            self._check(labels, (), (), 1.0, seed, truncation, 1, "pil", memory_weight)
        style = StyleSet(self, images, captions, source, licence, author, cut_out, on_picture)
        return style.draw_all(labels, wanted, truncation, memory_weight)

    @torch.inference_mode()
    def describe(
        self, images: Sequence[str | Path | bytes | Image.Image] | Image.Image, num_captions: int = 3
    ) -> list[list[Caption]]:
        """Say what pictures show.

        Args:
            images: one or any number, as `mmgen.images.open_image` takes them; of an animated one the first frame.
            num_captions: of each picture, 1 to 16.

        Returns:
            For each picture its captions with their probabilities, the most probable first. There is none for a picture
            that is transparent all over.

        Raises:
            UserError: there is no picture, one cannot be read, or the model cannot describe.
        """
        self.check_captioner()
        images = list(images) if isinstance(images, (list, tuple)) else [images]
        if not images:
            raise UserError("There is no picture to describe. Give at least one.")
        self.check_captions(num_captions)
        captions = []
        for start in range(0, len(images), DESCRIBED_TOGETHER):
            some = [
                to_tensor(open_image(image), self.image_size) for image in images[start : start + DESCRIBED_TOGETHER]
            ]
            captions += self.describe_pixels(some, num_captions)
        return captions

    @torch.inference_mode()
    def describe_pixels(self, images: Sequence[torch.Tensor], num_captions: int = 3) -> list[list[Caption]]:
        """As `describe`, of premultiplied RGBA pictures [4, S, S] in [-1, 1] of this model's size; all at once."""
        seen = self.look([pixels for pixels in images if _is_visible(pixels)])
        found = iter(self._describe(seen, num_captions) if len(seen) else ())
        return [next(found) if _is_visible(pixels) else [] for pixels in images]

    def _describe(self, images: torch.Tensor, num_captions: int) -> list[list[Caption]]:
        """Reference tokens [N, grid, channels], a picture each, and no words -> N lists of captions."""
        n, references = len(images), images[:, None]
        ones = torch.ones(n, 1, device=self.device)
        with autocast(self.device):
            fused = (self.captioner_fusion or self.fusion)(
                text=torch.zeros(n, 1, self.fusion.config.text_channels, device=self.device),
                text_mask=torch.zeros(n, 1, device=self.device),
                text_weight=torch.zeros(n, device=self.device),
                references=references,
                reference_weights=ones,
            )
            return self.captioner.describe(fused, references, ones, num_captions)

    @staticmethod
    def check_captions(num_captions: int) -> None:
        """Raise a `UserError` for a number of captions that no picture can be given."""
        if type(num_captions) is not int or not 1 <= num_captions <= MAX_CAPTIONS:
            said = shown(num_captions)
            raise UserError(f"The number of captions is {said}; give a whole number from 1 to {MAX_CAPTIONS}.")

    @property
    def device(self) -> torch.device:
        """Where the generator lies, as do all parts; diffusers looks through every module of all of them each time."""
        return next(self.generator.parameters()).device

    def check_captioner(self) -> None:
        """Raise a `UserError` if this model cannot describe pictures."""
        if self.captioner is None:
            raise UserError(
                "This model cannot describe pictures: it has no captioner. Use one that has, or train one with "
                "`python -m mmgen train captioner`."
            )

    def encode_references(self, references: Sequence[Image.Image]) -> torch.Tensor:
        """Pictures -> reference tokens [R, grid, channels]; transparent parts are seen as white."""
        return self.look([to_tensor(open_image(image), self.image_size) for image in references])

    def look(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """As `encode_references`, of premultiplied RGBA pictures [4, S, S] in [-1, 1] of this model's size."""
        config = self.fusion.config
        if not images:
            return torch.zeros(0, config.reference_grid, config.reference_channels, device=self.device)
        processor = self.image_processor
        cnn = PyramidCNN(self.image_encoder, processor.image_mean, processor.image_std).to(self.device)
        return torch.cat([reference_tokens(cnn(reference_view(one[None].to(self.device)))) for one in images])

    def see_references(self, references: Sequence[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
        """Open pictures -> reference tokens [R, grid, channels] and latents [R, C, S, S], kept by what they show."""
        if not references:
            return self.encode_references(()), self.reference_latents(())
        seen = [self.see_reference(image_hash(image), partial(Image.Image.copy, image)) for image in references]
        tokens, latents = zip(*seen, strict=True)
        return torch.cat(tokens), torch.cat(latents)

    def see_reference(self, content: str, opened: Callable[[], Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
        """One picture -> reference tokens [1, grid, channels] and latents [1, C, S, S], or [0, C, S, S] where they are
        not looked at.

        Args:
            content: `image_hash` of the picture; what was seen of it before is not opened again.
            opened: gives the picture.
        """

        def see() -> tuple[torch.Tensor, torch.Tensor]:
            image = opened()
            return self.encode_references([image]), self.reference_latents([image])

        owners = self.image_encoder, self.image_processor, self.autoencoder, self.generator.config
        return self.embeddings.references.get(owners, content, see)

    def encode_prompt(self, words: str, content: str = "") -> EncodedPrompt:
        """Read a prompt and what it may be looked up by, in one pass through BERT; kept.

        Args:
            content: the words without those that name a style, as `content_of` gives them; empty to look nothing up.
        """
        words = " ".join(words.split())
        owners = self.text_encoder, self.tokenizer
        return self.embeddings.words.get(owners, (words, content), lambda: self._encode_prompt(words, content))

    def _encode_prompt(self, words: str, content: str) -> EncodedPrompt:
        pieces = self.tokenizer(words, truncation=True, max_length=MAX_PROMPT_TOKENS)["input_ids"]
        notes = []
        if len(words) > 2 * MAX_PROMPT_TOKENS:
            whole = len(self.tokenizer(words[:20_000], verbose=False)["input_ids"])
            if whole > MAX_PROMPT_TOKENS:
                notes.append(f"The prompt is long: only its first {MAX_PROMPT_TOKENS - 2} word pieces were read.")
        if len(pieces) > 2 and set(pieces[1:-1]) == {self.tokenizer.unk_token_id}:
            notes.append("None of these characters is known to the text encoder; write the prompt in English words.")
        keys, things = None, things_of(content) if content else []
        texts = [words, *(text for text in dict.fromkeys(things) if text != words)]
        others = [
            self.tokenizer(text, truncation=True, max_length=MAX_PROMPT_TOKENS)["input_ids"] for text in texts[1:]
        ]
        tokens, mask = self._read([pieces, *others])
        if things:
            keys = text_keys(tokens, mask)[[texts.index(thing) for thing in things]]
        alone = slice(1), slice(len(pieces))
        return EncodedPrompt(tokens[alone].contiguous(), mask[alone].contiguous(), keys, tuple(notes))

    def _read(self, pieces: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Word pieces of n texts -> their tokens [n, T, D] and mask [n, T], padded to the longest."""
        padded = self.tokenizer.pad({"input_ids": list(pieces)}, return_tensors="pt").to(self.device)
        mask = padded["attention_mask"]
        return text_tokens(self.text_encoder, padded["input_ids"], mask), mask

    def fuse(
        self,
        prompt: str,
        tokens: torch.Tensor,
        reference_weights: Sequence[float],
        text_weight: float = 1.0,
        notes: list[str] | None = None,
        return_attention: bool = False,
        content: str = "",
    ) -> Fused:
        """One prompt and reference tokens [R, grid, channels] -> condition of batch size 1; kept.

        Args:
            content: what the prompt will be looked up by, read in the same pass; see `encode_prompt`.
        """
        notes = [] if notes is None else notes
        words = " ".join(prompt.split()) if text_weight else ""
        read = self.encode_prompt(words, content if words else "")
        notes += read.notes
        active = float(text_weight) if words else 0.0
        used = [index for index, weight in enumerate(reference_weights) if weight > 0]
        weights = [float(reference_weights[index]) for index in used]
        if active == 0 and not used:
            notes.append("There is no prompt and no reference: the picture is drawn from noise alone.")
        shown = tokens[used]

        def make() -> Fused:
            with autocast(self.device):
                return self.fusion(
                    text=read.tokens,
                    text_mask=read.mask,
                    text_weight=torch.tensor([active], device=self.device),
                    references=shown[None],
                    reference_weights=torch.tensor([weights], device=self.device),
                    return_attention=return_attention,
                )

        if return_attention:
            return make()
        key = words, content, active, tensor_hash(shown), tuple(weights)
        owners = self.text_encoder, self.tokenizer, self.fusion
        return self.embeddings.conditions.get(owners, key, make)

    def reference_latents(self, references: Sequence[Image.Image]) -> torch.Tensor:
        """Pictures -> normalised latents [R, C, S, S], for a generator that looks at them; else R is 0."""
        config = self.generator.config
        if not references or self.generator.memory_reader is None:
            return torch.zeros(0, config.latent_channels, config.latent_size, config.latent_size, device=self.device)
        return self.encode_images(references)

    @torch.no_grad()
    def encode_images(self, images: Sequence[str | Path | bytes | Image.Image]) -> torch.Tensor:
        """Pictures, at least one -> normalised latents [R, C, S, S], each by itself."""
        return self.encode_pixels([to_tensor(open_image(image), self.image_size) for image in images])

    @torch.no_grad()
    def encode_pixels(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """As `encode_images`, of premultiplied RGBA pictures [4, S, S] in [-1, 1] of this model's size."""
        made = []
        for image in images:
            with autocast(self.device):
                made.append(self.autoencoder.encode(image[None].to(self.device)).float())
        return torch.cat(made)

    def content_of(self, prompt: str) -> str:
        """The words that a prompt is looked up by, without those that name a style; empty where nothing is."""
        if self.looked_up is None or not self.has_memory:
            return ""
        return without_style(prompt, self.looked_up.config.styles)[0]

    def memory_query(self, prompt: str, notes: list[str] | None = None) -> MemoryQuery | None:
        """What to look up for a prompt: its words without the style, each thing by itself where it names several.

        Several things are looked up together where the memory knows something that is like all of them.

        Returns:
            None where there is no memory, or nothing to look up.
        """
        memory = self.looked_up
        if memory is None or not self.has_memory:
            return None
        words, style = without_style(prompt, memory.config.styles)
        if not words:
            return None
        return self.content_query(words, memory.style_number(style) if style else None, notes, prompt)

    def content_query(
        self, words: str, style: int | None = None, notes: list[str] | None = None, prompt: str | None = None
    ) -> MemoryQuery:
        """What to look up for words that name things alone; a `notes` is given a sentence where nothing is like them.

        Args:
            style: number of the wanted style, or None.
            prompt: in which the words stand, read in the same pass; by default they are all of it.
        """
        prompt, memory = words if prompt is None else prompt, self.looked_up

        def make() -> tuple[MemoryQuery, bool]:
            keys = self.encode_prompt(prompt, words).keys
            best = memory.nearest(keys)
            whole, queries = choose_keys(keys, best, self.generator.config.memory_slots)
            return MemoryQuery(whole, queries, style), bool(best.max() < UNLIKE)

        key = " ".join(prompt.split()), words, style, self.generator.config.memory_slots, WHOLE
        owners = self.text_encoder, self.tokenizer, memory
        query, is_unlike = self.embeddings.queries.get(owners, key, make)
        if is_unlike and notes is not None:
            notes.append("The memory holds nothing like these words: the picture is drawn from what the model learned.")
        return query

    @torch.no_grad()
    def encode_keys(self, texts: Sequence[str]) -> torch.Tensor:
        """What texts are looked up by, [n, D]."""
        pieces = self.tokenizer(
            list(texts), truncation=True, max_length=MAX_PROMPT_TOKENS, padding=True, return_tensors="pt"
        ).to(self.device)
        mask = pieces["attention_mask"]
        return text_keys(text_tokens(self.text_encoder, pieces["input_ids"], mask), mask)

    def retrieve(
        self,
        query: MemoryQuery,
        seed: int,
        truncation: float = 1.0,
        has_references: bool = False,
        dropped: Sequence[int] = (),
        pinned: Sequence[int] = (),
    ) -> Retrieved:
        """Look up the memory, n = 1; the seed chooses among what is near, and the style where none is given.

        What was asked for itself, the same words in the same style, is never found, unless it is one thing of several.
        """
        memory, generator = self.looked_up, torch.Generator().manual_seed(seed + 2**33)
        excluded = None
        if dropped:
            excluded = torch.zeros(len(memory), dtype=torch.bool, device=self.device)
            excluded[list(dropped)] = True
        style = query.style
        if style is None and not has_references:
            style = choose_style(memory.likeness_by_style(query.whole, excluded), truncation, generator)
        found = memory.lookup(
            query.keys[None],
            torch.tensor([-1 if style is None else style], device=self.device),
            None if excluded is None else excluded[None],
            TEMPERATURE * truncation,
            generator,
            self.generator.config.memory_slots,
            never_same=torch.equal(query.keys[:1], query.whole),
        )
        # How alike an entry is is said of all the words, as in training, whatever it was looked up by.
        entries, weights = found.entries, found.weights
        for entry in pinned:
            is_own_style = memory.style_number(memory.about(entry)["style"]) == style
            slot = _slot_for(entry, is_own_style, found, pinned)
            entries[0, slot], weights[0, slot] = entry, 1.0
        if pinned or len(query.keys.unique(dim=0)) > 1:
            found = memory.read(entries, memory.likeness(query.whole, entries), weights)
        return found

    def remember(
        self,
        found: Retrieved | None,
        memory_weight: float,
        reference_latents: torch.Tensor,
        reference_weights: Sequence[float],
    ) -> Remembered | None:
        """What the generator looks at: entries that were found, then latents of references [R, C, S, S]."""
        reader, channels = self.generator.memory_reader, self.generator.config.memory_channels
        if reader is None or (found is None and not len(reference_latents)):
            return None
        shape = reference_latents.shape[1:]
        slots = reader.slots
        if found is None:
            blank = torch.zeros(1, slots, channels + 2, device=self.device)
            keys, likeness, weights = blank[..., :-2], blank[..., -2], blank[..., -1]
            latents = torch.zeros(1, slots, *shape, device=self.device)
        else:
            keys, likeness, latents = found.keys, found.likeness, found.latents
            weights = found.weights * memory_weight
        count = len(reference_latents)
        return Remembered(
            latents=torch.cat([latents, reference_latents[None]], dim=1),
            keys=torch.cat([keys, keys.new_zeros(1, count, channels)], dim=1),
            likeness=torch.cat([likeness, likeness.new_zeros(1, count)], dim=1),
            weights=torch.cat([weights, torch.tensor([list(reference_weights)[:count]]).to(weights)], dim=1),
        )

    def drawn_from(
        self,
        found: Retrieved | None,
        shares: list[torch.Tensor],
        about: Callable[[int], dict[str, str]] | None = None,
    ) -> list[MemoryShare]:
        """The entries that a picture leaned on, by what `MemoryReader.copy` says of each token.

        Args:
            about: what is told of an entry by number; by default what the memory that is looked up tells.
        """
        if found is None or not shares:
            return []
        about = about or self.looked_up.about
        slots = self.generator.config.memory_slots
        length = self.generator.place.shape[0]
        by_slot = shares[0][0].mean(0).view(-1, length).sum(1)[:slots]
        made = [
            MemoryShare(
                entry=entry, share=float(by_slot[slot]), likeness=float(found.likeness[0, slot]), **about(entry)
            )
            for slot, entry in enumerate(found.entries[0].tolist())
            if found.weights[0, slot] > 0
        ]
        return sorted(made, key=lambda one: -one.share)

    def draw(
        self,
        fused: Fused,
        seed: int,
        truncation: float = 1.0,
        remembered: Remembered | None = None,
        shares: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """One picture [1, 4, H, W] in [-1, 1], premultiplied, from a condition of batch size 1.

        Pictures are drawn one by one: a matrix product rounds differently in batches of another size, and the same
        seed is to give the same picture to the bit.

        Args:
            remembered: what the generator looks at beside.
            shares: a list that is given how much of each remembered patch went into each token.
        """
        z = noise(seed, self.generator.config.noise_channels).to(self.device)
        with autocast(self.device):
            latents = self.generator(z, fused, truncation, remembered, shares)
            return self.autoencoder.decode(latents.float()).float().clamp(-1, 1)

    def check_entries(self, dropped: Sequence[int], pinned: Sequence[int]) -> None:
        """Raise a `UserError` for numbers of entries that cannot be dropped or pinned; `memory_slots` can be pinned."""
        count = len(self.looked_up) if self.looked_up is not None else 0
        slots = self.generator.config.memory_slots
        if not count and (dropped or pinned):
            raise UserError("This model has no memory, so nothing of it can be dropped or pinned.")
        for entry in (*dropped, *pinned):
            if not isinstance(entry, (int, np.integer)) or isinstance(entry, bool) or not 0 <= entry < count:
                raise UserError(f"The memory has no entry {str(entry)[:40]}; it has {count}, counted from 0.")
        if both := set(dropped) & set(pinned):
            raise UserError(f"Entry {min(both)} of the memory is both dropped and pinned; choose one.")
        if len(set(pinned)) > slots:
            raise UserError(f"{len(set(pinned))} entries of the memory are pinned; pin at most {slots}.")

    @staticmethod
    def _check(
        prompts, references, reference_weights, text_weight, seed, truncation, num_images, output_type, memory_weight
    ) -> None:
        if not prompts or not all(isinstance(words, str) for words in prompts):
            raise UserError("The prompt must be a text, or a list of texts with at least one in it.")
        if len(references) > MAX_REFERENCES:
            raise UserError(f"There are {len(references)} references; use at most {MAX_REFERENCES}.")
        if len(reference_weights) != len(references):
            raise UserError(
                f"There are {len(reference_weights)} reference weights for {len(references)} references; give as many."
            )
        for name, value, low, high in (
            ("The text weight", text_weight, 0, 2),
            ("The memory weight", memory_weight, 0, 2),
            *(("A reference weight", weight, 0, 2) for weight in reference_weights),
            ("The truncation", truncation, 0, 1),
            ("The number of images", num_images, 1, 64),
            ("The seed", seed, 0, MAX_SEED),
        ):
            if not isinstance(value, (int, float, np.integer, np.floating)) or not low <= value <= high:
                said = repr(value[:40]) if isinstance(value, str) else shown(value)
                raise UserError(f"{name} is {said}; give a number from {low} to {high}.")
        if int(seed) != seed or int(num_images) != num_images:
            raise UserError("The seed and the number of images must be whole numbers.")
        if output_type not in ("pil", "pt"):
            raise UserError(f"The output type is {output_type!r}; give pil or pt.")


def _several(references) -> list:
    """References as a list: of one, of none, and of an array or tensor that holds several."""
    if references is None:
        return []
    if isinstance(references, (np.ndarray, torch.Tensor)):
        return list(references) if references.ndim == 4 else [references]
    if isinstance(references, (str, Path, bytes, bytearray, memoryview, Image.Image)):
        return [references]
    try:
        return list(references)
    except TypeError:
        return [references]


def _number(value):
    """A number of any library as Python's; whatever else as it is."""
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)) and math.prod(value.shape) == 1:
        return value.item()
    return float(value) if isinstance(value, (Decimal, Fraction)) else value


def _numbers(values) -> list:
    """One number or several as a list of Python's."""
    one = _number(values)
    return [one] if not hasattr(one, "__iter__") or isinstance(one, str) else [_number(value) for value in one]


def _seed_of(generator) -> int:
    """The seed that a torch.Generator was given, within the range that there is here."""
    if isinstance(generator, (list, tuple)) and len(generator) == 1:
        generator = generator[0]
    if not isinstance(generator, torch.Generator):
        raise UserError("The generator must be one torch.Generator. Or give a seed: picture i is drawn from seed + i.")
    return generator.initial_seed() % (MAX_SEED + 1)


def _refuse_others(others: dict) -> None:
    """Raise a `UserError` for what other pipelines take and this one does not."""
    given = {name: value for name, value in others.items() if value is not None}
    if not given.get("negative_prompt", True):
        given.pop("negative_prompt")
    if "negative_prompt" in given:
        raise UserError("This model draws in one pass, with nothing to be kept away from: leave negative_prompt away.")
    if given:
        name = next(iter(given))
        raise UserError(f"{name} means nothing to this model, which draws in one pass. Leave it away.")


def _tell_of_types(*given) -> None:
    if any(isinstance(one, torch.dtype) and one is not torch.float32 for one in given):
        warnings.warn(
            "The weights stay in float32; where the device is quicker in half precision, it is used by itself.",
            stacklevel=3,
        )


def things_of(words: str) -> list[str]:
    """What a prompt without its style may be looked up by: its words, the same without the article, and its things,
    where they are something else than that.

    >>> things_of("a sunset on the beach")
    ['a sunset on the beach', 'sunset on the beach', 'sunset', 'beach']
    >>> things_of("a cat"), things_of("two cats")
    (['a cat', 'cat'], ['two cats', 'cats', 'cat'])
    """
    things = phrases(words)[:MAX_THINGS]
    return [words, subject(words), *(things if things != [subject(words)] else ())]


def choose_keys(keys: torch.Tensor, best: torch.Tensor, slots: int) -> tuple[torch.Tensor, torch.Tensor]:
    """From keys [2 + T, D] of `things_of` a prompt: that of the whole [1, D], and those of `slots` slots [K, D].

    The whole is with or without its article, whichever finds more. Where nothing like all of it is known, each of its
    things has slots of its own.

    Args:
        best: [2 + T], how like each key its nearest entry is.
    """
    whole = keys[int(best[1] > best[0])][None]
    chosen = keys[2:] if len(keys) > 2 and best[:2].max() < WHOLE else whole
    return whole, chosen[places_of_things(len(chosen), slots)]


def choose_style(likeness: torch.Tensor, truncation: float, generator: torch.Generator) -> int:
    """One of the memory's styles, by the seed, the likelier the nearer its entries come to the words, [styles]."""
    uniform = torch.rand(len(likeness), generator=generator).clamp(1e-9, 1 - 1e-7)
    return int((likeness.cpu() - STYLE_TEMPERATURE * truncation * torch.log(-torch.log(uniform))).argmax())


def _slot_for(entry: int, own_style: bool, found: Retrieved, pinned: Sequence[int]) -> int:
    """Where a pinned entry goes: where it was found, else to the least alike of its half that is not pinned."""
    entries, present = found.entries[0].tolist(), found.weights[0].tolist()
    here = [number if there else None for number, there in zip(entries, present, strict=True)]
    if entry in here:
        return here.index(entry)
    half = len(here) // 2
    content, style = range(half - 1, -1, -1), range(len(here) - 1, half - 1, -1)
    return next(slot for slot in ([*style, *content] if own_style else [*content, *style]) if here[slot] not in pinned)


def _is_visible(pixels: torch.Tensor) -> bool:
    """Whether a premultiplied RGBA picture [4, H, W] in [-1, 1] shows anything at all."""
    return bool((pixels[3] > -1).any())


def noise(seed: int, channels: int) -> torch.Tensor:
    """Standard normal noise [1, channels] of a seed, the same on every device."""
    return torch.randn(1, channels, generator=torch.Generator("cpu").manual_seed(int(seed)))
