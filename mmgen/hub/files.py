"""The files of a checkpoint; no others are published or fetched."""

from __future__ import annotations

from pathlib import Path

_DIFFUSERS = "diffusion_pytorch_model.safetensors"
_TRANSFORMERS = "model.safetensors"

PART_FILES = {
    "fusion": ("config.json", _DIFFUSERS),
    "generator": ("config.json", _DIFFUSERS),
    "autoencoder": ("config.json", _DIFFUSERS),
    "decoder": ("config.json", _DIFFUSERS),
    "decoder_fusion": ("config.json", _DIFFUSERS),
    "memory": ("config.json", _DIFFUSERS),
    "text_encoder": ("config.json", _TRANSFORMERS),
    "image_encoder": ("config.json", _TRANSFORMERS),
    "tokenizer": (
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.txt",
    ),
    "image_processor": ("preprocessor_config.json",),
}
"""Part -> the files that it may have."""

WEIGHTS = {part: files[-1] for part, files in PART_FILES.items() if files[-1].endswith(".safetensors")}
"""Part -> its weights."""

OPTIONAL = ("decoder", "decoder_fusion", "memory")
"""Parts that a checkpoint may lack."""

CAPTIONS_FILE = "captions.txt"
EVALUATION = "evaluation.json"
SAMPLES = "samples.png"
TRAINING_LOG = "training.csv"
DESCRIPTIONS = (CAPTIONS_FILE, "training.json", TRAINING_LOG, EVALUATION, "README.md")
"""Files beside the parts."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""How the names of weights end that are never opened."""


def read_captions(checkpoint: Path) -> list[list[str]]:
    """The captions that a checkpoint brings, in groups, that of the last training first; none without such a file."""
    file = checkpoint / CAPTIONS_FILE
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    return [group.splitlines() for group in text.strip("\n").split("\n\n") if group]
