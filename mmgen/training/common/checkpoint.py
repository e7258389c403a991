"""Write a whole checkpoint: the trained parts beside the frozen ones they were trained with."""

from __future__ import annotations

import copy
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmgen.io import replacing_folder, write_json
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.decoder import CaptionDecoder
from mmgen.models.encoders import load_image_encoder, load_text_encoder
from mmgen.models.fusion import Fusion
from mmgen.models.generator import Generator
from mmgen.models.memory import Memory
from mmgen.parts import CAPTIONS_FILE, PARTS, TRAINING, TRAINING_LOG
from mmgen.pipeline import MultimodalGANPipeline

MAX_KEPT_CAPTIONS = 4000


def write_checkpoint(
    folder: Path,
    encoders: Path,
    fusion: Fusion,
    generator: Generator,
    autoencoder: ImageAutoencoder,
    styles: Sequence[str] = (),
    captions: Sequence[str] = (),
    captioner: CaptionDecoder | None = None,
    captioner_fusion: Fusion | None = None,
    log: Path | None = None,
    memory: Memory | None = None,
) -> None:
    """Write a checkpoint of parts that were trained with the encoders of `mmgen encoders`.

    Args:
        encoders: folder made by `mmgen encoders`.
        captions: some that it was trained on; see `save_checkpoint`.
        captioner_fusion: the fusion with which the captioner learned to read.
        log: as `save_checkpoint` takes it.
    """
    bert, tokenizer = load_text_encoder(encoders / "text_encoder", encoders / "tokenizer")
    cnn, processor = load_image_encoder(encoders / "image_encoder", encoders / "image_processor")
    drawing, reading = (fusion, generator, autoencoder), (captioner, captioner_fusion)
    pipe = MultimodalGANPipeline(bert, tokenizer, cnn, processor, *drawing, *reading, memory=memory, styles=styles)
    save_checkpoint(folder, pipe, [captions], log=log)


def save_checkpoint(
    folder: Path,
    pipe: MultimodalGANPipeline,
    captions: Sequence[Sequence[str]],
    facts: dict[str, object] | None = None,
    log: Path | None = None,
) -> None:
    """Write `folder` in the diffusers layout, whole or not at all; a checkpoint that stood there is replaced.

    The trained parts and BERT are stored in float16 and used in more: half the size, and their rounding is far below
    one step of 8-bit colour. The CNN stays in float32, because its batch norms hold variances that float16 cannot.

    Args:
        captions: what it was trained on, for whoever fine-tunes it (`mmgen.training.finetune.prior`), a group for each
            training, the last one first; up to `MAX_KEPT_CAPTIONS` of each, evenly spread, are written, one a line,
            with an empty line between groups.
        facts: about its training, written as training.json.
        log: the training's log.csv, if there is one there, written as training.csv.
    """
    parts = dict(pipe.components)
    if parts["vocabulary"] is not None:
        parts["vocabulary"] = parts["vocabulary"].learned(itertools.chain.from_iterable(captions))
    halved = [name for name, part in PARTS.items() if part.weights and part.is_halved and parts[name] is not None]
    for name in halved:
        parts[name] = copy.deepcopy(parts[name]).cpu()
    stored = MultimodalGANPipeline(**parts, styles=list(pipe.config.styles))
    for name in halved:
        parts[name].half()
    with replacing_folder(folder) as part:
        stored.save_pretrained(part)
        text = "\n".join("".join(f"{line}\n" for line in _some(group)) for group in captions)
        (part / CAPTIONS_FILE).write_text(text, encoding="utf-8")
        if facts:
            write_json(part / TRAINING, facts, indent=2)
        if log and log.is_file():
            shutil.copyfile(log, part / TRAINING_LOG)


def _some(captions: Sequence[str]) -> list[str]:
    chosen = np.unique(np.linspace(0, len(captions) - 1, MAX_KEPT_CAPTIONS).astype(int)) if len(captions) else []
    return [line for index in chosen if (line := " ".join(captions[index].split()))]
