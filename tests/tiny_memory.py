"""A memory for the tiny pipeline: twelve labels in two styles, with latents made of noise."""

from __future__ import annotations

import torch

from mmgen.models.encoders import text_tokens
from mmgen.models.memory import Memory, encoder_fingerprint, fingerprint, text_keys
from mmgen.pipeline import MultimodalGANPipeline

LABELS = [f"a {colour} {thing}" for colour in ("red", "blue", "green") for thing in ("cat", "dog", "star", "apple")]
STYLES = ("flat", "round")


@torch.no_grad()
def tiny_memory(pipe: MultimodalGANPipeline) -> Memory:
    """24 entries; entry 2 * label + style."""
    words = pipe.tokenizer(LABELS, padding=True, return_tensors="pt")
    tokens = text_tokens(pipe.text_encoder, words["input_ids"], words["attention_mask"])
    size = pipe.generator.config.latent_size
    return Memory.build(
        latents=torch.randn(24, 4, size, size, generator=torch.Generator().manual_seed(5)),
        keys=text_keys(tokens, words["attention_mask"]),
        texts=LABELS,
        text=[entry // 2 for entry in range(24)],
        concepts=[LABELS[entry // 2] for entry in range(24)],
        styles=list(STYLES) * 12,
        sources=[("a set", "CC0-1.0", "an author")] * 24,
        image_encoder_hash=encoder_fingerprint(pipe.autoencoder),
        text_encoder_hash=fingerprint(pipe.text_encoder),
    )


@torch.no_grad()
def with_tiny_memory(pipe: MultimodalGANPipeline) -> MultimodalGANPipeline:
    """The same pipeline with a memory, and a generator that looks at it and has woken up."""
    torch.manual_seed(2)
    generator = pipe.generator.with_memory(4, 32, head_channels=8)
    reader = generator.memory_reader
    reader.aligned.normal_(std=0.3)
    reader.gate.bias.fill_(0.0)
    for weight in (reader.aligned_key.weight, reader.gate.weight, *(block.to_out.weight for block in reader.blocks)):
        weight.normal_(std=0.3)
    generator.head[2].weight.normal_(std=0.1)
    parts = {**pipe.components, "generator": generator, "memory": tiny_memory(pipe)}
    return MultimodalGANPipeline(**parts, styles=list(pipe.config.styles))
