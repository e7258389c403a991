"""What the frozen networks make of a data set, computed once and kept on disk.

The generator learns from latents, word tokens and reference tokens; none of them changes in training, so each picture
and each caption passes through the frozen networks once.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from mmgen.devices import autocast
from mmgen.images import from_uint8
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.encoders import MAX_PROMPT_TOKENS, PyramidCNN, reference_tokens, reference_view, text_tokens

CODE_CHANNELS = 8


@dataclass
class TrainingCache:
    """A data set as the generator's training sees it; N pictures, M different captions.

    Attributes:
        latents: float16 [N, C, h, w], normalised.
        restored: uint8 [N, 4, P, P], the autoencoder's reconstructions, what the discriminator calls real: the
        generator
            is not blamed for what the autoencoder loses.
        references: float16 [N, grid, D], reference tokens.
        words: float16 [sum of lengths, W], word tokens of all captions, one after the other.
        offsets: int [M + 1], where each caption's tokens start.
        caption_ids: N lists of caption numbers.
        captions: the M captions.
        codes: float32 [N, 8], each picture's appearance code (see `appearance_codes`).
    """

    latents: np.ndarray
    restored: np.ndarray
    references: np.ndarray
    words: np.ndarray
    offsets: np.ndarray
    caption_ids: list[list[int]]
    captions: list[str]
    codes: np.ndarray

    def word_batch(self, captions: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Word tokens [n, T, W] and mask [n, T] of captions by number; T is the longest of them."""
        starts, lengths = self.offsets[captions], self.offsets[captions + 1] - self.offsets[captions]
        words = np.zeros((len(captions), int(lengths.max()), self.words.shape[1]), dtype=np.float32)
        for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            words[row, :length] = self.words[start : start + length]
        mask = np.arange(words.shape[1]) < lengths[:, None]
        return torch.from_numpy(words), torch.from_numpy(mask)


def build_cache(
    data: datasets.Dataset,
    pictures: np.ndarray,
    text_encoder: nn.Module,
    tokenizer,
    cnn: PyramidCNN,
    autoencoder: ImageAutoencoder,
    folder: Path,
    device: torch.device,
    picture_size: int,
) -> TrainingCache:
    """Compute or open the cache of one split.

    Args:
        pictures: the packed pictures of `data`, uint8 [N, 4, S, S].
        folder: where the arrays are kept, under names made of the data's and the networks' contents.
        picture_size: side of `restored` in pixels, at which the discriminator judges.
    """
    caption_ids, captions = _number_captions(data["captions"])
    data_key = Path(pictures.filename).stem  # Made of every picture's path, size and time.
    cnn_key, autoencoder_key, text_key = (_weights_digest(model) for model in (cnn, autoencoder, text_encoder))
    caption_key = _digest("\n".join(captions).encode())
    for model in (text_encoder, cnn, autoencoder):
        model.to(device).eval()
    autoencoder.to(memory_format=torch.channels_last)

    def keep(name: str, key: str, make) -> np.ndarray:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{name}-{_digest(key.encode())}.npy"
        if not file.exists():
            part = file.with_name(f"{file.stem}.part{os.getpid()}.npy")
            np.save(part, make())
            part.rename(file)
        return np.load(file, mmap_mode="r")

    def batches(what: str, size: int = 32):
        quiet = 0.5 if sys.stderr.isatty() else 30.0
        for start in tqdm(range(0, len(pictures), size), desc=what, unit="batch", mininterval=quiet):
            yield from_uint8(torch.from_numpy(pictures[start : start + size])).to(device)

    @torch.inference_mode()
    def make_latents() -> np.ndarray:
        with autocast(device):
            return np.concatenate([autoencoder.encode(x).half().cpu().numpy() for x in batches("latents")])

    latents = keep("latents", data_key + autoencoder_key, make_latents)

    @torch.inference_mode()
    def make_restored() -> np.ndarray:
        made = []
        for start in tqdm(range(0, len(latents), 32), desc="reconstructions", unit="batch", mininterval=30.0):
            with autocast(device):
                x = autoencoder.decode(torch.from_numpy(latents[start : start + 32]).float().to(device))
            x = F.interpolate(x.float(), size=(picture_size, picture_size), mode="area").clamp(-1, 1)
            made.append(((x + 1) * 127.5).round().byte().cpu().numpy())
        return np.concatenate(made)

    @torch.inference_mode()
    def make_references() -> np.ndarray:
        def tokens(x: torch.Tensor) -> np.ndarray:
            return reference_tokens(cnn(reference_view(x))).half().cpu().numpy()

        return np.concatenate([tokens(x) for x in batches("references")])

    pieces = tokenizer(captions, truncation=True, max_length=MAX_PROMPT_TOKENS)["input_ids"]
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in pieces])])
    words = keep("words", caption_key + text_key, lambda: encode_pieces(pieces, text_encoder, tokenizer, device))
    references = keep("references", data_key + cnn_key, make_references)
    restored = keep("restored", data_key + autoencoder_key + str(picture_size), make_restored)
    return TrainingCache(
        latents=latents,
        restored=restored,
        references=references,
        words=words,
        offsets=offsets,
        caption_ids=caption_ids,
        captions=captions,
        codes=appearance_codes(references, data["concept"]),
    )


@torch.inference_mode()
def encode_pieces(
    pieces: list[list[int]], model: nn.Module, tokenizer, device: torch.device, batch: int = 256
) -> np.ndarray:
    """Word pieces of all captions -> their tokens end to end, float16 [sum of lengths, W]."""
    lengths = np.array([len(ids) for ids in pieces])
    offsets = np.concatenate([[0], lengths.cumsum()])
    words = np.zeros((int(offsets[-1]), model.config.hidden_size), dtype=np.float16)
    order = np.argsort(lengths, kind="stable")
    quiet = 0.5 if sys.stderr.isatty() else 30.0
    for start in tqdm(range(0, len(order), batch), desc="captions", unit="batch", mininterval=quiet):
        chosen = order[start : start + batch]
        padded = tokenizer.pad({"input_ids": [pieces[i] for i in chosen]}, return_tensors="pt").to(device)
        hidden = text_tokens(model, padded["input_ids"], padded["attention_mask"]).half().cpu().numpy()
        for row, index in enumerate(chosen):
            words[offsets[index] : offsets[index + 1]] = hidden[row, : lengths[index]]
    return words


def appearance_codes(references: np.ndarray, concepts: list[str]) -> np.ndarray:
    """What tells pictures of one concept apart, as a standard normal code of 8 numbers a picture.

    The mean reference token of each picture, less the mean of its concept, in its principal components, each brought to
    a normal distribution by rank. Where a caption leaves the appearance open, training takes the first 8 numbers of the
    noise from here instead of drawing them (the encoder of BicycleGAN, Zhu et al. 2017, in closed form): so noise comes
    to mean appearance, and the regression has one right answer instead of a blurred mean.

    Returns:
        float32 [N, 8]; NaN for a picture that is alone in its concept, which has nothing to be told apart from.
    """
    pooled = np.stack([np.asarray(tokens, dtype=np.float32).mean(0) for tokens in references])
    _, groups = np.unique(np.asarray(concepts), return_inverse=True)
    sums = np.zeros((groups.max() + 1, pooled.shape[1]), dtype=np.float32)
    np.add.at(sums, groups, pooled)
    residual = pooled - (sums / np.bincount(groups)[:, None])[groups]
    centred = residual / (pooled.std(0) + 1e-6)
    _, _, directions = np.linalg.svd(centred.T @ centred / len(centred))
    code = centred @ directions[:CODE_CHANNELS].T
    code = np.pad(code, ((0, 0), (0, max(0, CODE_CHANNELS - code.shape[1]))))
    several = (np.bincount(groups) > 1)[groups]
    ranks = code[several].argsort(0, kind="stable").argsort(0, kind="stable")
    uniform = (torch.from_numpy(ranks).double() + 0.5) / max(1, len(ranks))
    result = np.full((len(code), CODE_CHANNELS), np.nan, dtype=np.float32)
    result[several] = torch.special.ndtri(uniform).float().numpy()
    return result


def _number_captions(lists: list[list[str]]) -> tuple[list[list[int]], list[str]]:
    numbers: dict[str, int] = {}
    ids = [[numbers.setdefault(caption, len(numbers)) for caption in captions] for captions in lists]
    return ids, list(numbers)


def _weights_digest(model: nn.Module) -> str:
    return _digest(*(value.detach().cpu().numpy().tobytes() for value in model.state_dict().values()))


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]
