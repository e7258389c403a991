"""The two frozen encoders: BERT reads the words, a CNN reads the references.

Both are ordinary transformers models; this module turns them into token sequences. Neither is trained, and both compute
in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BertModel,
    PreTrainedModel,
    ViTImageProcessorPil,
)

from mmgen.errors import UserError
from mmgen.images import composite

REFERENCE_SIZE = 128
"""Side in pixels at which references are read."""

MAX_PROMPT_TOKENS = 64
"""Longest prompt in word pieces, in training and in use."""

STRIDES = (4, 8, 16, 32)


class PyramidCNN(nn.Module):
    """A frozen transformers CNN that gives its feature maps at strides 4, 8, 16 and 32.

    Works with any model that returns `hidden_states` as maps [N, C, h, w] (EfficientNet, ResNet, ConvNeXt, ...): for
    each stride the deepest map of that stride is taken.

    Args:
        model: the transformers model.
        mean, std: the colour normalisation the model was trained with, for RGB in [0, 1].
    """

    def __init__(self, model: PreTrainedModel, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> PyramidCNN:
        """Stay in evaluation mode: the statistics of the batch norms are part of the frozen network."""
        return super().train(False)

    def forward(self, rgb: torch.Tensor) -> list[torch.Tensor]:
        """RGB [N, 3, H, W] in [-1, 1], H and W multiples of 32 -> maps [N, C_s, H/s, W/s] for s in 4, 8, 16, 32.

        Always computed in float32: depthwise convolutions run backward faster so, and their features are sharper.
        """
        with torch.autocast(rgb.device.type, enabled=False):
            pixels = ((rgb.float() + 1.0) / 2.0 - self.mean) / self.std
            hidden = self.model(pixels, output_hidden_states=True).hidden_states
        deepest = {}
        for feature in hidden:
            stride = rgb.shape[-1] // feature.shape[-1]
            deepest[stride] = feature
        return [deepest[stride] for stride in STRIDES]

    def channels(self) -> list[int]:
        """Channels of the four maps."""
        device = self.mean.device
        with torch.no_grad():
            return [feature.shape[1] for feature in self(torch.zeros(1, 3, 64, 64, device=device))]


def skip_neutral_squeeze(cnn: PyramidCNN) -> None:
    """Replace squeeze-and-excite layers that always give 1 (EfficientNet-Lite0) by the identity, to save their time.

    For training and inference only: the replaced model must not be saved.
    """
    for module in cnn.model.modules():
        squeeze = getattr(module, "squeeze_excite", None)
        if isinstance(squeeze, nn.Module) and hasattr(squeeze, "expand"):
            neutral = not squeeze.expand.weight.any() and bool((squeeze.expand.bias >= 20).all())
            if neutral:
                module.squeeze_excite = nn.Identity()


def reference_view(pixels: torch.Tensor) -> torch.Tensor:
    """Premultiplied RGBA [N, 4, S, S] in [-1, 1] -> what is read of a reference: RGB on white at `REFERENCE_SIZE`."""
    return F.interpolate(composite(pixels), size=(REFERENCE_SIZE, REFERENCE_SIZE), mode="area")


def reference_tokens(maps: list[torch.Tensor]) -> torch.Tensor:
    """Maps of a `PyramidCNN` -> one token for each position of the stride-32 grid.

    A token joins the stride-32 features with the four stride-16 features that lie in its cell, so that drawing style
    and colour survive beside the meaning.

    Returns:
        [N, h * w, C_32 + 4 * C_16]; h * w is 16 for pictures of `REFERENCE_SIZE`.
    """
    fine, coarse = maps[2], maps[3]
    return torch.cat([coarse, F.pixel_unshuffle(fine, 2)], dim=1).flatten(2).transpose(1, 2)


def text_tokens(model: BertModel, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Last hidden state of BERT [N, T, D], in float32."""
    with torch.autocast(input_ids.device.type, enabled=False):
        return model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def load_text_encoder(name: str | Path, tokenizer_name: str | Path | None = None) -> tuple[BertModel, object]:
    """BERT and its tokenizer from a folder or a Hub name such as `bert-base-uncased`.

    Raises:
        UserError: not found, or not a BERT.
    """
    with _explain(name, "text encoder"):
        model = AutoModel.from_pretrained(name, use_safetensors=True, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_name or name)
    if not isinstance(model, BertModel):
        raise UserError(f"{name} is a {type(model).__name__}, not a BERT. Name a BERT such as bert-base-uncased.")
    return model.eval().requires_grad_(False), tokenizer


def load_image_encoder(name: str | Path, processor_name: str | Path | None = None) -> tuple[PreTrainedModel, object]:
    """A CNN and its image processor from a folder or a Hub name such as `microsoft/resnet-18`.

    Raises:
        UserError: not found, or not a CNN with feature maps at strides 4, 8, 16 and 32.
    """
    with _explain(name, "image encoder"):
        model = AutoModel.from_pretrained(name, use_safetensors=True, dtype=torch.float32)
        try:
            processor = AutoImageProcessor.from_pretrained(processor_name or name, backend="pil")
        except ImportError:  # Older transformers ask for torchvision first, whatever the backend.
            processor = ViTImageProcessorPil.from_pretrained(processor_name or name)
    try:
        PyramidCNN(model, processor.image_mean, processor.image_std).channels()
    except Exception as error:  # Whatever a model of another kind makes of a picture.
        raise UserError(
            f"{name} gives no feature maps at strides 4, 8, 16 and 32. Name a CNN such as microsoft/resnet-18."
        ) from error
    return model.eval().requires_grad_(False), processor


class _explain:
    """Turn whatever a failed load raises into one sentence."""

    def __init__(self, name: str | Path, what: str):
        self.name, self.what = name, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> None:
        if error is not None and isinstance(error, (OSError, ValueError)):
            first = str(error).strip().splitlines()[0][:200]
            raise UserError(
                f"The {self.what} {self.name} could not be loaded ({first}). Give a folder with config.json and "
                "model.safetensors, or a Hub name while the network is there."
            ) from error
