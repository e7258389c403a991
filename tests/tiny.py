"""The real pipeline at a tiny size: every part of it, untrained, in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import BertConfig, BertModel, BertTokenizer, ResNetConfig, ResNetModel, ViTImageProcessorPil

from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.fusion import Fusion
from mmgen.models.generator import Generator
from mmgen.pipeline import MultimodalGANPipeline

WORDS = "a red blue green apple cat dog star circle square in of style flat round left the on and with".split()


def tiny_encoders(folder: Path):
    """A BERT of two layers with a small vocabulary, and a ResNet, both with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + x for x in letters), *WORDS]
    vocabulary = list(dict.fromkeys(vocabulary))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    torch.manual_seed(0)
    bert = BertModel(
        BertConfig(
            vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
        )
    )
    cnn = ResNetModel(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic")
    )
    processor = ViTImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return bert.eval(), tokenizer, cnn.eval(), processor


def tiny_pipeline(folder: Path, memory: bool = False) -> MultimodalGANPipeline:
    """A whole pipeline that draws 32x32 pictures, with `memory` from a memory of 36 entries, which it heeds."""
    bert, tokenizer, cnn, processor = tiny_encoders(folder)
    torch.manual_seed(1)
    autoencoder = ImageAutoencoder(
        latent_channels=4, patch=2, widths=(8, 8, 8, 8), encoder_blocks=(1,) * 4, decoder_blocks=(1,) * 4
    )
    autoencoder.scale.fill_(8.0)  # So that small changes of the latent show.
    fusion = Fusion(text_channels=32, reference_channels=16 + 4 * 16, width=32, depth=1, heads=2)
    slots = {"memory_slots": 4, "memory_channels": 32} if memory else {}
    sizes = {"latent_channels": 4, "latent_size": 2, "patch": 1, "width": 32, "depth": 2, "heads": 2}
    generator = Generator(noise_channels=16, **sizes, **slots)
    for block in generator.blocks:  # Wake the gates, which start at zero, so that every input matters.
        torch.nn.init.normal_(block.modulation.weight, std=0.3)
        torch.nn.init.normal_(block.modulation.bias, std=0.3)
        torch.nn.init.normal_(block.cross_attention.to_out.weight, std=0.3)
    if memory:
        torch.nn.init.zeros_(generator.memory_reader.gate.bias)
        torch.nn.init.normal_(generator.memory_reader.aligned, std=0.3)
    pipe = MultimodalGANPipeline(
        bert, tokenizer, cnn, processor, fusion, generator, autoencoder, styles=["flat", "round"]
    )
    if memory:
        remember_apples(pipe)
    return pipe


COLOURS = ("red", "blue", "green")
THINGS = ("apple", "cat", "dog", "star")
STYLES = ("flat", "round", "left")


def remember_apples(pipe: MultimodalGANPipeline) -> None:
    """Add 36 pictures: 12 labels of a colour and a thing, each in three styles of two sources."""
    rows = [(style, f"{colour} {thing}") for style in STYLES for colour in COLOURS for thing in THINGS]
    rng = np.random.default_rng(0)
    pipe.memory.add(
        [Image.fromarray(rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)) for _ in rows],
        [label for _, label in rows],
        style=[style for style, _ in rows],
        source=["the flat set" if style == "flat" else "the other set" for style, _ in rows],
        licence=["CC-BY-4.0" if style == "flat" else "MIT" for style, _ in rows],
        author=["Ann" if style == "flat" else "Bob" for style, _ in rows],
    )
