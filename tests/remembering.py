"""The tiny pipeline with a memory of twelve entries that shows in what it draws."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny import tiny_pipeline

from mmgen.models.encoders import text_tokens
from mmgen.models.memory import Memory, encoder_hashes, text_keys
from mmgen.pipeline import MultimodalGANPipeline

TEXTS = ("red apple", "blue cat", "green dog", "red star", "blue circle", "green square")
SOURCES = {
    "flat": ("https://example.org/flat", "CC-BY-4.0", "Ann"),
    "round": ("round pictures", "MIT", ""),
}


def remembering_pipeline(folder: Path) -> MultimodalGANPipeline:
    """A pipeline whose memory has every one of `TEXTS` in both styles, six flat entries and then six round ones."""
    pipe = tiny_pipeline(folder)
    torch.manual_seed(2)
    generator = pipe.generator.with_memory(4, 32, head_channels=8).eval().requires_grad_(False)
    generator.memory_reader.gate.bias.fill_(1.0)  # So that copies show.
    pieces = pipe.tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    with torch.no_grad():
        tokens = text_tokens(pipe.text_encoder, pieces["input_ids"], pieces["attention_mask"])
    styles = [style for style in SOURCES for _ in TEXTS]
    torch.nn.init.normal_(generator.memory_reader.aligned, std=0.1)
    memory = Memory.build(
        latents=torch.randn(len(styles), 4, 2, 2),
        keys=text_keys(tokens, pieces["attention_mask"]),
        texts=TEXTS,
        text=[*range(len(TEXTS))] * 2,
        concepts=[*TEXTS] * 2,
        styles=styles,
        sources=[SOURCES[style] for style in styles],
        **encoder_hashes(pipe.autoencoder, pipe.text_encoder),
    )
    parts = {**pipe.components, "generator": generator, "memory": memory}
    return MultimodalGANPipeline(**parts, styles=pipe.config.styles)
