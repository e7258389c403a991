"""Write a whole checkpoint: the trained parts beside the frozen ones they were trained with."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path

from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.encoders import load_image_encoder, load_text_encoder
from mmgen.models.fusion import Fusion
from mmgen.models.generator import Generator
from mmgen.pipeline import MultimodalGANPipeline


def write_checkpoint(
    folder: Path,
    encoders: Path,
    fusion: Fusion,
    generator: Generator,
    autoencoder: ImageAutoencoder,
    styles: Sequence[str] = (),
) -> None:
    """Write `folder` in the diffusers layout, whole or not at all; a checkpoint that stood there is replaced.

    The trained parts and BERT are stored in float16 and used in more: half the size, and their rounding is far below
    one step of 8-bit colour. The CNN stays in float32, because its batch norms hold variances that float16 cannot.

    Args:
        encoders: folder made by `mmgen encoders`.
    """
    bert, tokenizer = load_text_encoder(encoders / "text_encoder", encoders / "tokenizer")
    cnn, processor = load_image_encoder(encoders / "image_encoder", encoders / "image_processor")
    pipe = MultimodalGANPipeline(
        text_encoder=bert,
        tokenizer=tokenizer,
        image_encoder=cnn,
        image_processor=processor,
        fusion=copy.deepcopy(fusion).cpu(),
        generator=copy.deepcopy(generator).cpu(),
        autoencoder=copy.deepcopy(autoencoder).cpu(),
        styles=styles,
    )
    for part in (pipe.text_encoder, pipe.fusion, pipe.generator, pipe.autoencoder):
        part.half()
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    pipe.save_pretrained(part)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
