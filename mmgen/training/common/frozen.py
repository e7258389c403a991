"""The frozen networks as every training reads with them: the CNN, and BERT over many texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mmgen.models.encoders import (
    MAX_PROMPT_TOKENS,
    PyramidCNN,
    load_image_encoder,
    skip_neutral_squeeze,
    text_tokens,
)


def frozen_cnn(image_encoder: Any, image_processor: Any) -> PyramidCNN:
    """The CNN of a pipeline's parts, without layers that change nothing; so its digest is the same in all trainings.

    Args:
        image_encoder: loses those layers, and must not be saved afterwards: give a copy, or a pipeline of one's own.
    """
    cnn = PyramidCNN(image_encoder, image_processor.image_mean, image_processor.image_std)
    skip_neutral_squeeze(cnn)
    return cnn


def load_frozen_cnn(encoders: Path) -> PyramidCNN:
    """The same from a folder that `mmgen encoders` made.

    Raises:
        UserError: it is not there, or no CNN.
    """
    return frozen_cnn(*load_image_encoder(encoders / "image_encoder", encoders / "image_processor"))


def text_pieces(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The word pieces of each text, at most `MAX_PROMPT_TOKENS`."""
    return tokenizer(list(texts), truncation=True, max_length=MAX_PROMPT_TOKENS)["input_ids"] if len(texts) else []


def encode_pieces(
    text_encoder: nn.Module, tokenizer: Any, pieces: Sequence[list[int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Word pieces of n texts -> their tokens float32 [n, T, W], and which are not padding [n, T]; T is the longest."""
    padded = tokenizer.pad({"input_ids": list(pieces)}, return_tensors="pt").to(device)
    mask = padded["attention_mask"]
    return text_tokens(text_encoder, padded["input_ids"], mask), mask


def alike(lengths: Sequence[int] | np.ndarray, batch: int = 256) -> Iterator[np.ndarray]:
    """The numbers of texts of these lengths, up to `batch` of like length together, so that little is padded."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    for start in range(0, len(order), batch):
        yield order[start : start + batch]
