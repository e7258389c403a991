"""The real pipeline at a tiny size: every part of it, untrained, in a second."""

from __future__ import annotations

from pathlib import Path

import torch
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


def tiny_pipeline(folder: Path) -> MultimodalGANPipeline:
    """A whole pipeline that draws 32x32 pictures."""
    bert, tokenizer, cnn, processor = tiny_encoders(folder)
    torch.manual_seed(1)
    autoencoder = ImageAutoencoder(
        latent_channels=4, patch=2, widths=(8, 8, 8, 8), encoder_blocks=(1,) * 4, decoder_blocks=(1,) * 4
    )
    autoencoder.scale.fill_(8.0)  # So that small changes of the latent show.
    fusion = Fusion(text_channels=32, reference_channels=16 + 4 * 16, width=32, depth=1, heads=2)
    generator = Generator(latent_channels=4, latent_size=2, patch=1, noise_channels=16, width=32, depth=2, heads=2)
    for block in generator.blocks:  # Wake the gates, which start at zero, so that every input matters.
        torch.nn.init.normal_(block.modulation.weight, std=0.3)
        torch.nn.init.normal_(block.modulation.bias, std=0.3)
        torch.nn.init.normal_(block.cross_attention.to_out.weight, std=0.3)
    return MultimodalGANPipeline(
        bert, tokenizer, cnn, processor, fusion, generator, autoencoder, styles=["flat", "round"]
    )
