"""What the frozen networks make of a data set, computed once and kept on disk.

The generator learns from latents, word tokens and reference tokens; none of them changes in training, so each picture
and each caption passes through the frozen networks once.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from mmgen.data.memmap import cached_memmap
from mmgen.datasets.composed import GROUP as COMPOSED
from mmgen.devices import autocast
from mmgen.images import from_uint8
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.encoders import PyramidCNN, reference_tokens, reference_view
from mmgen.models.memory import text_keys
from mmgen.phrases import phrases
from mmgen.training.common.frozen import alike, encode_pieces, text_pieces

CODE_CHANNELS = 8
BATCH = 32

Parts = Iterator[tuple[slice | np.ndarray, np.ndarray]]


@dataclass
class TrainingCache:
    """A data set as the generator's training sees it; N images, M different captions.

    The tensors lie in files that are mapped into memory, or wherever `to` has put them.

    Attributes:
        latents: float16 [N, C, h, w], normalised.
        references: float16 [N, grid, D], reference tokens.
        words: float16 [sum of lengths, W], word tokens of all captions, one after the other.
        offsets: int64 [M + 1], where each caption's tokens start.
        keys: float16 [M, W], what each caption is looked up by (`mmgen.models.memory.text_keys`).
        codes: float32 [N, 8], each image's appearance code (see `appearance_codes`).
        first_caption: int64 [N], the number of each image's first caption, its label's words alone.
        caption_ids: N lists of caption numbers.
        captions: the M captions.
        things: int64 [N, T], numbers of the captions by which each of a composed image's things is looked up, -1 for
            none; all are -1 for an image that is looked up by its own words, and it is None where all are.
        longest: tokens to which every word batch is padded; None pads each to its own longest caption.
    """

    latents: torch.Tensor
    references: torch.Tensor
    words: torch.Tensor
    offsets: torch.Tensor
    keys: torch.Tensor
    codes: torch.Tensor
    first_caption: torch.Tensor
    caption_ids: list[list[int]]
    captions: list[str]
    things: torch.Tensor | None = None
    longest: int | None = None

    def word_batch(self, captions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Word tokens float32 [n, T, W] and mask [n, T] of captions by number [n], on their device.

        T is the longest of them, or `longest`.
        """
        return word_batch(self.words, self.offsets, captions, self.longest)

    def to(self, device: torch.device, room: float = 0.5) -> TrainingCache:
        """The same on a device, as far as it fits into a share of the free memory there; the rest stays mapped.

        There all word batches have one length, so that nothing waits for it, and a compiled step fits all of them.
        """
        if device.type != "cuda":
            return self
        free = torch.cuda.mem_get_info(device)[0] * room
        moved = {}
        names = ("offsets", "keys", "codes", "first_caption", "things", "words", "latents", "references")
        for name in names:
            tensor = getattr(self, name)
            if tensor is None:
                continue
            size = tensor.numel() * tensor.element_size()
            if size <= free:
                moved[name], free = tensor.to(device), free - size
        return replace(self.padded(), **moved)

    def padded(self) -> TrainingCache:
        """The same with word batches that are all as long as the longest caption, rounded up to a multiple of 8."""
        longest = int(self.offsets.diff().max()) if len(self.offsets) > 1 else 1
        return replace(self, longest=-(-longest // 8) * 8)


def word_batch(
    words: torch.Tensor, offsets: torch.Tensor, captions: torch.Tensor, longest: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `TrainingCache.word_batch`, of `TrainingCache`'s `words`, `offsets` and `longest`."""
    numbers = captions.to(offsets.device)
    starts, lengths = offsets[numbers], offsets[numbers + 1] - offsets[numbers]
    places = torch.arange(int(lengths.max()) if longest is None else longest, device=offsets.device)
    mask = places < lengths[:, None]
    rows = torch.where(mask, starts[:, None] + places, 0).to(words.device)
    mask = mask.to(captions.device)
    return words[rows].to(captions.device).float() * mask[..., None], mask


def mapped(array: np.ndarray) -> torch.Tensor:
    """A memory-mapped array as a tensor that reads the same file; what is written to it stays in memory."""
    return torch.from_numpy(np.load(array.filename, mmap_mode="c"))


def build_cache(
    data: datasets.Dataset,
    images: np.ndarray,
    text_encoder: nn.Module,
    tokenizer,
    cnn: PyramidCNN,
    autoencoder: ImageAutoencoder,
    folder: Path,
    device: torch.device,
    on_part: Callable[[], object] = lambda: None,
) -> TrainingCache:
    """Compute or open the cache of one split.

    Args:
        images: the packed pictures of `data`, uint8 [N, 4, S, S].
        folder: where the arrays are kept, under names made of the data's and the networks' contents.
        on_part: as `cached_memmap` takes it.
    """
    caption_ids, captions = _number_captions(data["captions"])
    things = number_things(data, captions)
    concepts = data["concept"][:]
    data_key = Path(images.filename).stem  # Made of every picture's path, size and time.
    cnn_key, autoencoder_key = weights_digest(cnn), weights_digest(autoencoder)
    for model in (text_encoder, cnn, autoencoder):
        model.to(device).eval()
    autoencoder.to(memory_format=torch.channels_last)

    def keep(name: str, key: str, count: int, parts: Parts) -> np.ndarray:
        return cached_memmap(folder / f"{name}-{digest(key.encode())}.npy", count, parts, on_part)

    @torch.inference_mode()
    def make_latents() -> Parts:
        for rows, x in batches("latents", images, device):
            with autocast(device):
                x = autoencoder.encode(from_uint8(x))
            yield rows, x.half().cpu().numpy()

    latents = keep("latents", data_key + autoencoder_key, len(images), make_latents())

    def make_codes() -> Parts:
        yield slice(None), appearance_codes(references, concepts)

    words, offsets = cache_words(captions, text_encoder, tokenizer, folder, device, on_part)
    references = cache_references(images, cnn, folder, device, on_part)
    code_key = data_key + cnn_key + digest("\n".join(concepts).encode())
    codes = keep("codes", code_key, len(images), make_codes())
    return TrainingCache(
        latents=mapped(latents),
        references=mapped(references),
        words=words,
        offsets=offsets,
        keys=caption_keys(words, offsets),
        codes=mapped(codes),
        first_caption=torch.tensor([ids[0] for ids in caption_ids]),
        caption_ids=caption_ids,
        captions=captions,
        things=things,
    )


def number_things(data: datasets.Dataset, captions: list[str]) -> torch.Tensor | None:
    """By which captions the things of composed images are looked up, as `TrainingCache.things`.

    Args:
        captions: all there are; a thing that nobody has written a caption for is added at the end.
    """
    groups = data["group"] if "group" in data.column_names else ()
    composed = [row for row, group in enumerate(groups) if group == COMPOSED]
    if not composed:
        return None
    numbers = {caption: number for number, caption in enumerate(captions)}
    named = [phrases(text) for text in data.select(composed)["text"]]
    things = torch.full((len(data), max(map(len, named))), -1)
    for row, words in zip(composed, named, strict=True):
        things[row, : len(words)] = torch.tensor([numbers.setdefault(word, len(numbers)) for word in words])
    captions[len(captions) :] = list(numbers)[len(captions) :]
    return things


def caption_keys(words: torch.Tensor, offsets: torch.Tensor, batch: int = 4096) -> torch.Tensor:
    """What each of M captions is looked up by, float16 [M, W], from their word tokens end to end."""
    made = []
    for start in range(0, len(offsets) - 1, batch):
        numbers = torch.arange(start, min(start + batch, len(offsets) - 1))
        made.append(text_keys(*word_batch(words, offsets, numbers)).half())
    return torch.cat(made)


def cache_references(
    images: np.ndarray,
    cnn: PyramidCNN,
    folder: Path,
    device: torch.device,
    on_part: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """Reference tokens float16 [N, grid, D] of packed pictures, kept on disk as `build_cache` keeps them."""
    key = Path(images.filename).stem + weights_digest(cnn)
    cnn.to(device).eval()

    @torch.inference_mode()
    def made() -> Parts:
        for rows, x in batches("references", images, device):
            yield rows, reference_tokens(cnn(reference_view(from_uint8(x)))).half().cpu().numpy()

    return cached_memmap(folder / f"references-{digest(key.encode())}.npy", len(images), made(), on_part)


def cache_words(
    captions: list[str],
    text_encoder: nn.Module,
    tokenizer,
    folder: Path,
    device: torch.device,
    on_part: Callable[[], object] = lambda: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Word tokens of captions, kept on disk, and where each caption's start, as `TrainingCache` has them."""
    key = digest("\n".join(captions).encode()) + weights_digest(text_encoder)
    pieces, offsets = _word_pieces(captions, tokenizer)
    made = _encode_pieces(pieces, offsets, text_encoder.to(device).eval(), tokenizer, device)
    words = cached_memmap(folder / f"words-{digest(key.encode())}.npy", len(pieces), made, on_part)
    return mapped(words), torch.from_numpy(offsets)


def batches(what: str, array: np.ndarray, device: torch.device) -> Iterator[tuple[slice, torch.Tensor]]:
    """The rows of an array a batch at a time, with where they stand, behind a progress bar."""
    quiet = 0.5 if sys.stderr.isatty() else 30.0
    for start in tqdm(range(0, len(array), BATCH), desc=what, unit="batch", mininterval=quiet):
        yield slice(start, start + BATCH), torch.from_numpy(array[start : start + BATCH].copy()).to(device)


def _word_pieces(captions: list[str], tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The word pieces of all captions end to end, int32, and where each caption's start, int [M + 1]."""
    pieces, lengths = [], []
    for start in range(0, len(captions), 10_000):
        ids = text_pieces(tokenizer, captions[start : start + 10_000])
        pieces.append(np.array([piece for caption in ids for piece in caption], dtype=np.int32))
        lengths += [len(caption) for caption in ids]
    return np.concatenate(pieces), np.concatenate([[0], np.cumsum(lengths)])


@torch.inference_mode()
def _encode_pieces(
    pieces: np.ndarray, offsets: np.ndarray, model: nn.Module, tokenizer, device: torch.device, batch: int = 256
) -> Parts:
    """Word pieces -> their tokens float16 [n, W], with their places among the pieces; captions of like length first."""
    lengths = np.diff(offsets)
    quiet = 0.5 if sys.stderr.isatty() else 30.0
    count = -(-len(lengths) // batch)
    for rows in tqdm(alike(lengths, batch), total=count, desc="captions", unit="batch", mininterval=quiet):
        places = [np.arange(offsets[row], offsets[row + 1]) for row in rows]
        hidden, mask = encode_pieces(model, tokenizer, [pieces[place].tolist() for place in places], device)
        yield np.concatenate(places), hidden[mask.bool()].half().cpu().numpy()


def appearance_codes(references: np.ndarray, concepts: list[str]) -> np.ndarray:
    """What tells pictures of one concept apart, as a standard normal code of 8 numbers a picture.

    The mean reference token of each picture, less the mean of its concept, in its principal components, each brought to
    a normal distribution by rank. Where a caption leaves the appearance open, training takes the first 8 numbers of the
    noise from here instead of drawing them (the encoder of BicycleGAN, Zhu et al. 2017, in closed form): so noise comes
    to mean appearance, and the regression has one right answer instead of a blurred mean.

    Returns:
        float32 [N, 8]; NaN for a picture that is alone in its concept, which has nothing to be told apart from.
    """
    _, groups, sizes = np.unique(np.asarray(concepts), return_inverse=True, return_counts=True)
    several = (sizes > 1)[groups]
    numbers = (np.cumsum(sizes > 1) - 1)[groups]  # of the concepts that have several pictures, which alone count
    sizes = sizes[sizes > 1, None]

    def pooled() -> Iterator[tuple[slice, np.ndarray]]:
        """The mean reference tokens float32 [n, D], some pictures at a time, as all of them may be too many."""
        for start in range(0, len(references), 1024):
            rows = slice(start, start + 1024)
            yield rows, np.asarray(references[rows], dtype=np.float32).mean(1)

    channels = references.shape[2]
    sums = np.zeros((len(sizes), channels), dtype=np.float32)
    total, squares = np.zeros((2, channels))
    for rows, values in pooled():
        np.add.at(sums, numbers[rows][several[rows]], values[several[rows]])
        total += values.sum(0, dtype=np.float64)
        squares += np.square(values, dtype=np.float64).sum(0)
    spread = np.sqrt((squares / len(references) - (total / len(references)) ** 2).clip(0)) + 1e-6
    means = sums / sizes

    def centred() -> Iterator[np.ndarray]:
        for rows, values in pooled():
            yield (values[several[rows]] - means[numbers[rows][several[rows]]]) / spread.astype(np.float32)

    covariance = np.zeros((channels, channels))
    for values in centred():
        covariance += values.T @ values
    _, _, directions = np.linalg.svd(covariance.astype(np.float32))
    code = np.concatenate([values @ directions[:CODE_CHANNELS].T for values in centred()])
    code = np.pad(code, ((0, 0), (0, CODE_CHANNELS - code.shape[1])))
    ranks = code.argsort(0, kind="stable").argsort(0, kind="stable")
    uniform = (torch.from_numpy(ranks).double() + 0.5) / max(1, len(ranks))
    result = np.full((len(references), CODE_CHANNELS), np.nan, dtype=np.float32)
    result[several] = torch.special.ndtri(uniform).float().numpy()
    return result


def _number_captions(lists: list[list[str]]) -> tuple[list[list[int]], list[str]]:
    numbers: dict[str, int] = {}
    ids = [[numbers.setdefault(caption, len(numbers)) for caption in captions] for captions in lists]
    return ids, list(numbers)


def weights_digest(model: nn.Module) -> str:
    """What tells a model's weights from all others, as `digest` writes it."""
    return digest(*(value.detach().cpu().numpy().tobytes() for value in model.state_dict().values()))


def digest(*parts: bytes) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of all parts, end to end."""
    made = hashlib.sha256()
    for part in parts:
        made.update(part)
    return made.hexdigest()[:16]
