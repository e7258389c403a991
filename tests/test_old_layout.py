"""A checkpoint of before, when the captioner was called the decoder, loads, draws and describes as it did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgen.pipeline import MultimodalGANPipeline

DATA = Path(__file__).parent / "data"
REFERENCE = Image.new("RGBA", (20, 20), (200, 30, 60, 255))


@pytest.fixture(scope="module")
def pipe() -> MultimodalGANPipeline:
    return MultimodalGANPipeline.from_pretrained(DATA / "old_layout")


def check_drawings(pipe: MultimodalGANPipeline) -> None:
    """The drawings that lie beside the checkpoint, up to one of 255: other processors round otherwise."""
    for name, drawn in (
        ("words", pipe("a red apple", seed=1)),
        ("reference", pipe("a blue cat", references=[REFERENCE], seed=2)),
    ):
        then = np.asarray(Image.open(DATA / f"old_layout_{name}.png")).astype(int)
        now = np.asarray(drawn.images[0]).astype(int)
        assert now.shape == then.shape == (32, 32, 4) and abs(now - then).max() <= 1


def check_captions(pipe: MultimodalGANPipeline) -> None:
    then = json.loads((DATA / "old_layout_captions.json").read_text())
    now = pipe.describe(REFERENCE)[0]
    assert [caption.text for caption in now] == [caption["text"] for caption in then]
    for caption, known in zip(now, then, strict=True):
        assert caption.probability == pytest.approx(known["probability"], rel=0.02)


def test_it_draws_the_same_bytes(pipe):
    check_drawings(pipe)


def test_it_says_the_same_words(pipe):
    check_captions(pipe)
