"""What the captioner learns from: images, words or both, fused by the frozen fusion, and the caption that is right.

image alone      the image as it is, in a varied view, or as the base itself draws its caption
words alone        any of the image's captions
both               the same image and caption, or the caption and another image of the same style
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
from tqdm import tqdm

from mmgen.data.memmap import cached_memmap
from mmgen.devices import autocast
from mmgen.models.decoder import BEGIN, END
from mmgen.models.encoders import MAX_PROMPT_TOKENS, PyramidCNN, reference_tokens, reference_view
from mmgen.models.generator import Remembered
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.training.common.cache import word_batch
from mmgen.training.common.frozen import encode_pieces, text_pieces
from mmgen.training.lookup import PromptLookup

KINDS = (0.8, 0.1, 0.1)
"""Shares of the batches with images alone, words alone, and both."""

AS_IT_IS = 0.5
"""Of the samples with an image and varied views, how many show it unvaried."""

BATCH = 16


def naming(captions: Sequence[str], style: str) -> str:
    """The caption that the captioner is to give an image: the first, and its style where it has one.

    >>> naming(["red apple", "a red apple sticker"], "noto")
    'red apple, noto style'
    """
    first = captions[0] if captions else ""
    return f"{first}, {style} style" if style and first.strip() and style not in first else first


class CaptionTokenizer:
    """Texts <-> places in a vocabulary made of what a tokenizer cuts them into.

    The pieces are kept as they stand in the texts, with the space before them, so that joined they give the text back
    whatever the tokenizer does to case and spaces.
    """

    def __init__(self, tokenizer, texts: Sequence[str]):
        self.tokenizer = tokenizer
        cut = [self.tokenize(text) for text in dict.fromkeys(texts)]
        known = sorted({piece for pieces in cut for piece in pieces})
        self.vocabulary = ["", "", *known]  # BEGIN and END first.
        self.places = {piece: place for place, piece in enumerate(known, start=max(BEGIN, END) + 1)}
        self.longest = max(len(pieces) for pieces in cut)

    def tokenize(self, text: str) -> list[str]:
        """The pieces of a text, which joined are the text."""
        text = " " + " ".join(text.split())
        offsets = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, truncation=True, max_length=MAX_PROMPT_TOKENS
        )["offset_mapping"]
        pieces, start = [], 0
        for _, end in offsets:
            if end > start:
                pieces.append(text[start:end])
                start = end
        return pieces

    def encode(self, text: str) -> list[int]:
        """Places of the pieces of one of the texts."""
        return [self.places[piece] for piece in self.tokenize(text)]


@dataclass
class CaptionDataset:
    """Everything that samples are made of; N images, M drawings.

    Attributes:
        data: the pairs.
        plain: reference tokens of the images, float16 [N, grid, D].
        views: more of the same images, each of that shape.
        drawings: reference tokens of what the base drew, float16 [M, grid, D], or None.
        drawn: [M] the image whose caption was drawn.
        named: N captions with which the captioner is to answer, as pieces.
        bare: the same without the style, for words that do not name it.
        words, offsets: word tokens of some captions, as `mmgen.training.common.cache.cache_words` gives them.
        read: N arrays, which of those are captions of the image.
        styled: N lists, whether each of these names its style.
        of_style: style -> its images; styles: of each image.
        chances: [N] of each image to be drawn.
    """

    data: datasets.Dataset
    plain: np.ndarray
    views: list[np.ndarray]
    drawings: np.ndarray | None
    drawn: np.ndarray
    named: list[list[int]]
    bare: list[list[int]]
    words: torch.Tensor
    offsets: torch.Tensor
    read: list[np.ndarray]
    styled: list[list[bool]]
    of_style: dict[str, np.ndarray]
    styles: list[str]
    chances: np.ndarray


@dataclass
class Sample:
    """n samples.

    Attributes:
        condition: the arguments of `Fusion`, with one reference.
        pieces: captions [n, L]; lengths: [n] of each.
    """

    condition: dict[str, torch.Tensor]
    pieces: torch.Tensor
    lengths: torch.Tensor


def some_captions(data: datasets.Dataset, count: int, seed: int) -> tuple[list[str], list[list[str]]]:
    """About `count` different captions of a split, and which of them are each image's: at least one.

    All of them would take as long to read as the whole training.
    """
    rng = np.random.default_rng((seed, 6))
    captions = data["captions"][:]
    each = [[texts[int(rng.integers(len(texts)))]] for texts in captions]
    chosen = {texts[0] for texts in each}
    for row in rng.permutation(len(captions)):
        if len(chosen) >= count:
            break
        chosen.update(captions[row])
    return sorted(chosen), [[text for text in dict.fromkeys(texts) if text in chosen] for texts in captions]


def make_dataset(
    data: datasets.Dataset,
    pieces: CaptionTokenizer,
    plain: np.ndarray,
    views: list[np.ndarray],
    drawings: np.ndarray | None,
    drawn: np.ndarray,
    words: torch.Tensor,
    offsets: torch.Tensor,
    read: list[list[str]],
) -> CaptionDataset:
    """Put together what samples are drawn from.

    Args:
        data: the training split.
        words, offsets, read: of `some_captions`.
    """
    captions, styles = data["captions"][:], data["style"][:]
    concepts = np.unique(np.asarray(data["concept"][:]), return_inverse=True)[1]
    chances = np.bincount(concepts)[concepts] ** -0.5
    places = np.asarray(styles)
    numbers = {text: number for number, text in enumerate(sorted({text for texts in read for text in texts}))}
    return CaptionDataset(
        data=data,
        plain=plain,
        views=views,
        drawings=drawings,
        drawn=drawn,
        named=[pieces.encode(naming(texts, style)) for texts, style in zip(captions, styles, strict=True)],
        bare=[pieces.encode(texts[0]) for texts in captions],
        words=words,
        offsets=offsets,
        read=[np.array([numbers[text] for text in texts]) for texts in read],
        styled=[[not style or style in text for text in texts] for texts, style in zip(read, styles, strict=True)],
        of_style={style: np.flatnonzero(places == style) for style in set(styles)},
        styles=styles,
        chances=chances / chances.sum(),
    )


def make_sample(dataset: CaptionDataset, count: int, drawn_share: float, rng: np.random.Generator) -> Sample:
    """Draw `count` samples, all of one kind, so that none carries tokens that only others need."""
    kind = rng.choice(3, p=KINDS)
    has_image, has_words = kind != 1, kind != 0
    image = rng.choice(len(dataset.chances), count, p=dataset.chances)
    references = np.zeros((count, int(has_image), *dataset.plain.shape[1:]), dtype=np.float32)
    caption, targets = np.zeros(count, dtype=np.int64), []
    for row in range(count):
        if has_image:
            image[row], references[row, 0] = _show(dataset, int(image[row]), has_words, drawn_share, rng)
        target = int(image[row])
        number = int(rng.integers(len(dataset.read[target])))
        caption[row] = dataset.read[target][number]
        says_all = has_image or dataset.styled[target][number]
        targets.append(dataset.named[target] if says_all else dataset.bare[target])
    if has_words:
        words, mask = word_batch(dataset.words, dataset.offsets, torch.from_numpy(caption))
    else:
        words, mask = torch.zeros(count, 0, dataset.words.shape[1]), torch.zeros(count, 0)

    def weights(present: bool) -> torch.Tensor:
        weight = np.where(rng.random(count) < 0.2, rng.uniform(0.4, 2.0, count), 1.0)
        return torch.from_numpy((weight * present).astype(np.float32))

    lengths = np.array([len(target) for target in targets])
    places = np.full((count, lengths.max()), END)
    for row, target in enumerate(targets):
        places[row, : len(target)] = target
    condition = {
        "text": words,
        "text_mask": mask,
        "text_weight": weights(has_words),
        "references": torch.from_numpy(references),
        "reference_weights": weights(has_image)[:, None][:, : int(has_image)],
    }
    return Sample(condition, torch.from_numpy(places), torch.from_numpy(lengths))


def _show(
    dataset: CaptionDataset, image: int, has_words: bool, drawn_share: float, rng: np.random.Generator
) -> tuple[int, np.ndarray]:
    """What is to be captioned, and the reference tokens that are shown of it."""
    if not has_words and dataset.drawings is not None and rng.random() < drawn_share:
        chosen = int(rng.integers(len(dataset.drawn)))
        return int(dataset.drawn[chosen]), dataset.drawings[chosen]
    shown = image
    if has_words and rng.random() < 0.5:
        shown = int(rng.choice(dataset.of_style[dataset.styles[image]]))
    plain = not dataset.views or rng.random() < AS_IT_IS
    return image, (dataset.plain if plain else dataset.views[rng.integers(len(dataset.views))])[shown]


def draw_own(
    pipe: MultimodalGANPipeline, cnn: PyramidCNN, texts: Sequence[str], folder: Path, key: str, seed: int
) -> np.ndarray:
    """Reference tokens float16 [M, grid, D] of the images that a pipeline draws of M texts, kept on disk.

    One with a memory looks it up, as it does when it is called.

    Args:
        key: names the pipeline's weights, and its memory.
    """
    device, noise_channels = pipe.device, pipe.generator.config.noise_channels

    @torch.inference_mode()
    def drawn() -> Iterator[tuple[slice, np.ndarray]]:
        generator = torch.Generator().manual_seed(seed)
        lookup = PromptLookup(pipe, texts) if pipe.has_memory else None
        quiet = 0.5 if sys.stderr.isatty() else 30.0
        for start in tqdm(range(0, len(texts), BATCH), desc="drawings", unit="batch", mininterval=quiet):
            some = list(texts[start : start + BATCH])
            text, mask = encode_pieces(pipe.text_encoder, pipe.tokenizer, text_pieces(pipe.tokenizer, some), device)
            nothing = pipe.encode_references(())[None].expand(len(some), -1, -1, -1)
            ones = torch.ones(len(some), device=device)
            z = torch.randn(len(some), noise_channels, generator=generator).to(device)
            remembered = None
            if lookup:
                rows = torch.arange(start, start + len(some))
                found = lookup(rows, torch.zeros(len(some), dtype=torch.bool), generator)
                remembered = Remembered(found.latents, found.keys, found.likeness, found.weights)
            with autocast(device):
                fused = pipe.fusion(text, mask, ones, nothing, ones[:, None][:, :0])
                latents = pipe.generator(z, fused, remembered=remembered)
                pixels = pipe.autoencoder.decode(latents.float()).float().clamp(-1, 1)
            yield slice(start, start + len(some)), reference_tokens(cnn(reference_view(pixels))).half().cpu().numpy()

    stamp = hashlib.sha256("\n".join([key, str(seed), *texts]).encode()).hexdigest()[:16]
    return cached_memmap(folder / f"drawings-{stamp}.npy", len(texts), drawn())
