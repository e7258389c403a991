"""Load a pipeline from a folder, whoever made it: nothing in it is run, imported or unpickled.

Each part is loaded by a class that is known here, from files that are known here, after its weights were compared with
what the class expects; an index that asks for anything else is refused before.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError, safe_open
from transformers import BertModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor

from mmgen.errors import UserError
from mmgen.loading.fetch import fetch, split_name
from mmgen.loading.index import Index, read_index
from mmgen.models.encoders import PyramidCNN
from mmgen.models.memory import Memory, check_encoders
from mmgen.parts import INDEX, PARTS, PICKLES, Part

Pipeline = TypeVar("Pipeline")

_BASES = {
    "text_encoder": BertModel,
    "tokenizer": PreTrainedTokenizerBase,
    "image_encoder": PreTrainedModel,
    "image_processor": BaseImageProcessor,
}
_ASKS_ELSEWHERE = ("auto_map", "quantization_config", "attn_implementation", "_attn_implementation")
"""Keys of a description by which transformers would look for code or kernels elsewhere."""

_LAYERS = ("depth", "readers", "num_hidden_layers", "n_layer")
"""Keys of a description that say how many layers there are."""


def load(
    kind: type[Pipeline],
    name: str | Path,
    revision: str | None,
    token: str | bool | None,
    cache_dir: str | Path | None,
    local_files_only: bool,
    given: dict[str, object],
) -> Pipeline:
    """Load a pipeline from a folder or, if there is none of this name, from the Hub.

    Args:
        kind: the pipeline's class.
        given: parts to take instead of the checkpoint's.

    Raises:
        UserError: it is missing, not whole, not one of mmgen, or cannot be fetched.
        TypeError: one of `given` is no part.
    """
    for part in given:
        if part not in PARTS:
            raise TypeError(f"from_pretrained() got an unexpected argument {part!r}; the parts are {', '.join(PARTS)}")
    folder = Path(name)
    if not folder.is_dir():
        found = split_name(str(name))
        if found is None:
            raise UserError(f"There is no checkpoint at {folder}. Give a folder that holds {INDEX}, or user/name.")
        folder = fetch(found[0], revision or found[1], token, cache_dir, local_files_only)
    index = read_index(folder / INDEX, str(name))
    try:
        parts = {name: _load_part(folder, PARTS[name], index) for name in index.classes if name not in given}
        parts |= given
        _check_fit(parts)
        pipe = kind(**parts, styles=index.styles)
    except UserError:
        raise
    except Exception as error:  # Whatever the libraries raise at a damaged part.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{name} is not whole ({first}). Fetch or train the checkpoint again.") from error
    pipe.register_to_config(_name_or_path=str(name))
    return pipe


def load_memory(folder: Path) -> Memory:
    """Load a memory from a folder of its own, as `Memory.save` writes it, or as it lies in a checkpoint.

    Raises:
        UserError: it is missing or damaged, or what lies there is no memory.
    """
    try:
        memory = _load_from(folder, PARTS["memory"], Memory)
        memory.check()
    except Exception as error:  # Whatever the libraries raise at a damaged part.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{folder} is no memory, or not a whole one ({first}). Build it again.") from error
    return memory.float().eval().requires_grad_(False)


def _load_part(folder: Path, part: Part, index: Index) -> object:
    name = index.classes[part.name]
    kind = getattr(import_module(part.module), name, None)
    base = _BASES.get(part.name, ModelMixin)
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise ValueError(f"{name} is no {part.name} in this version of transformers")
    return _load_from(part.folder(folder), part, kind)


def _load_from(home: Path, part: Part, kind: type) -> object:
    for file in home.glob("*.json"):
        if file.name not in part.files:  # An adapter or a list of shards, which would be loaded instead.
            raise ValueError(f"{part.name}/{file.name} does not belong there")
        if file.name.endswith("config.json"):
            content = json.loads(file.read_text(encoding="utf-8"))
            if asks := [key for key in _ASKS_ELSEWHERE if key in content]:
                raise ValueError(f"{part.name}/{file.name} asks for {asks[0]}, code or kernels from elsewhere")
    if not part.weights:
        return kind.from_pretrained(home, local_files_only=True)
    if not (home / "config.json").is_file():
        raise FileNotFoundError(f"{part.name} has no config.json")
    _check_weights(part, home, kind)
    if part.is_ours:
        return kind.from_pretrained(home, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False)
    return kind.from_pretrained(home, local_files_only=True, use_safetensors=True, dtype=torch.float32)


def _check_weights(part: Part, home: Path, kind: type) -> None:
    """Refuse weights that do not fit their model: its loader would put random ones in their place.

    Raises:
        ValueError, OSError: they are missing or no safetensors, or a name or a shape differs.
    """
    file = home / part.weights
    if not file.is_file():
        if any(path.name.endswith(PICKLES) for path in home.glob("*")):
            raise ValueError(f"the weights of {part.name} are pickles, which may run any code and are never opened")
        raise FileNotFoundError(f"{part.name} has no {file.name}")
    weights = _shapes(part, file)
    content = json.loads((home / "config.json").read_text(encoding="utf-8"))
    if any(isinstance(content.get(key), int) and content[key] > len(weights) for key in _LAYERS):
        raise ValueError(f"{part.name} has more layers than weights")  # To build them all might never end.
    config = kind.load_config(home) if part.is_ours else kind.config_class.from_pretrained(home, local_files_only=True)
    with torch.device("meta"):
        model = kind.from_config(config) if part.is_ours else kind(config)
    wanted = {key: list(value.shape) for key, value in model.state_dict().items()}
    if wanted != weights:
        odd = sorted(key for key in wanted.keys() | weights.keys() if wanted.get(key) != weights.get(key))
        raise ValueError(f"{part.name}: {odd[0]} and {len(odd) - 1} more weights do not fit the model")


def _shapes(part: Part, file: Path) -> dict[str, list[int]]:
    """Name -> shape of the weights in a file."""
    try:
        with safe_open(file, "pt") as weights:
            return {key: weights.get_slice(key).get_shape() for key in weights.keys()}
    except SafetensorError as error:
        raise ValueError(f"{part.name}/{file.name} is damaged, or no safetensors in spite of its name") from error


def _check_fit(parts: dict) -> None:
    """Refuse parts of different models.

    Raises:
        ValueError: the output of one is not what the next one takes.
    """
    fusion, generator, autoencoder = (parts[part].config for part in ("fusion", "generator", "autoencoder"))
    captioner = parts["captioner"].config if parts.get("captioner") else None
    processor = parts["image_processor"]
    channels = PyramidCNN(parts["image_encoder"], processor.image_mean, processor.image_std).channels()
    reader = parts["captioner_fusion"].config if parts.get("captioner_fusion") else fusion
    taken_by_captioner = (
        (
            ("fusion", reader.width, "captioner", captioner.fused_channels),
            ("image_encoder", reader.reference_channels, "captioner", captioner.reference_channels),
            ("image_encoder", channels[3] + 4 * channels[2], "captioner_fusion", reader.reference_channels),
        )
        if captioner
        else ()
    )
    for giver, given, taker, taken in (
        ("text_encoder", parts["text_encoder"].config.hidden_size, "fusion", fusion.text_channels),
        ("image_encoder", channels[3] + 4 * channels[2], "fusion", fusion.reference_channels),
        ("fusion", fusion.width, "generator", generator.width),
        ("generator", generator.latent_channels, "autoencoder", autoencoder.latent_channels),
        *taken_by_captioner,
    ):
        if given != taken:
            raise ValueError(f"{giver} gives {given} channels and {taker} takes {taken}")
    if parts.get("memory") is not None:
        _check_memory(parts["memory"], parts)
    if parts.get("vocabulary") is not None:
        parts["vocabulary"].check()


def _check_memory(memory: Memory, parts: dict) -> None:
    """Refuse a memory that is damaged or of another model.

    Raises:
        ValueError: a number in it points to nothing, or its shapes are not those that the generator takes.
        UserError: its latents or its keys are of other networks than those beside it.
    """
    memory.check()
    generator, config = parts["generator"].config, memory.config
    if not generator.memory_slots:
        raise ValueError("there is a memory, and the generator has no slots for one")
    for what, given, taken in (
        ("latents of {} channels", config.latent_channels, generator.latent_channels),
        ("latents of side {}", config.latent_size, generator.latent_size),
        ("keys of {} channels", config.key_channels, generator.memory_channels),
        ("keys of {} channels", config.key_channels, parts["text_encoder"].config.hidden_size),
    ):
        if given != taken:
            raise ValueError(f"memory has {what.format(given)} where {taken} are taken")
    if len(memory):
        check_encoders(config, parts["autoencoder"], parts["text_encoder"])
