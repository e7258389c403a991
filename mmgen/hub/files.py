"""The files of a checkpoint; no others are published or fetched."""

from __future__ import annotations

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

EVALUATION = "evaluation.json"
TRAINING_LOG = "training.csv"
DESCRIPTIONS = ("captions.txt", "training.json", TRAINING_LOG, EVALUATION, "README.md")
"""Files beside the parts."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""How the names of weights end that are never opened."""
