"""Synthetic styles: the treatments of pictures, and what the memory shows of them in training."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tiny import tiny_pipeline

from mmgen.data.columns import FEATURES
from mmgen.datasets.synthetic_styles import GROUP, draw_treatment, treat, without_synthetic
from mmgen.training.memory import build_memory


@pytest.fixture(scope="module")
def face() -> Image.Image:
    """A yellow face with eyes and a mouth, green where it is fully transparent."""
    image = Image.new("RGBA", (256, 256), (0, 255, 0, 0))
    canvas = ImageDraw.Draw(image)
    canvas.ellipse((28, 28, 228, 228), fill=(255, 200, 40, 255))
    for x in (90, 150):
        canvas.ellipse((x, 90, x + 24, 124), fill=(60, 40, 20, 255))
    canvas.rectangle((90, 165, 168, 178), fill=(60, 40, 20, 255))
    return image


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("number", range(1, 41))
def test_every_treatment_gives_a_picture_of_its_own_and_the_same_one_again(face, number):
    made = treat(face, draw_treatment(number))
    again = treat(face, draw_treatment(number))
    assert made.mode == "RGBA" and made.size == face.size and made.tobytes() == again.tobytes()
    rgba = pixels(made)
    there = rgba[..., 3] > 128
    assert 0.1 < there.mean() < 0.95 and rgba[0, 0, 3] == rgba[-1, -1, 3] == 0
    assert (rgba[rgba[..., 3] == 0][:, :3] == 0).all(), "colour where nothing is drawn"
    assert np.abs(rgba - pixels(face))[there].mean() > 4
    assert rgba[there][:, :3].std(0).max() > 8, "nothing can be told from the rest"


def test_seeds_and_numbers_make_different_treatments():
    drawn = {draw_treatment(number, seed) for number in range(30) for seed in range(3)}
    assert len(drawn) == 90 and draw_treatment(3, 1) == draw_treatment(3, 1)


PLAIN = dataclasses.replace(
    draw_treatment(1),
    **{"width": 1, "height": 1, "tilt": 0, "mirrored": False, "wobble": 0, "roundness": 0, "colours": "own", "ink": 0},
    **{"surface": "plain", "outline": 0, "shadow": "none", "ground": "none"},
)


def test_nothing_seeps_in_from_outside_a_drawing(face):
    for change in ({"width": 0.7, "height": 0.9}, {"tilt": 16}, {"wobble": 4}, {"roundness": 9}, {"surface": "pixels"}):
        rgba = pixels(treat(face, dataclasses.replace(PLAIN, **change)))
        seen = rgba[rgba[..., 3] > 8]
        assert (seen[:, 1] <= seen[:, 0] + 12).all(), f"the green outside shows after {change}"


def test_each_kind_of_change_does_what_it_says(face):
    assert np.abs(pixels(treat(face, PLAIN)) - pixels(face))[pixels(face)[..., 3] > 0].max() <= 1
    outlined = pixels(treat(face, dataclasses.replace(PLAIN, outline=8, outline_colour=(0.0, 0.0, 1.0))))
    assert tuple(outlined[128, 22]) == (0, 0, 255, 255) and tuple(outlined[128, 60]) == (255, 200, 40, 255)
    flat = dataclasses.replace(PLAIN, colours="silhouette", palette=((1.0, 0.0, 0.0),))
    rgba = pixels(treat(face, flat))
    assert (rgba[rgba[..., 3] == 255][:, :3] == (255, 0, 0)).all()
    lined = dataclasses.replace(flat, ink=4, ink_colour=(1.0, 1.0, 1.0))
    assert (pixels(treat(face, lined))[..., 1] > 200).sum() > 300, "no line around eyes and mouth"
    tile = pixels(treat(face, dataclasses.replace(PLAIN, ground="tile", ground_colours=((0.0, 0.0, 1.0),) * 2)))
    assert tuple(tile[20, 128]) == (0, 0, 255, 255) and tile[12, 12, 3] == 0
    grey = pixels(treat(face, dataclasses.replace(PLAIN, colours="grey")))
    assert np.ptp(grey[..., :3], axis=-1).max() <= 1
    blocks = pixels(treat(face, dataclasses.replace(PLAIN, surface="pixels", grain=8)))
    assert (blocks.reshape(32, 8, 32, 8, 4).std(axis=(1, 3)) < 1e-6).all()


def test_a_picture_takes_some_hundredths_of_a_second(face):
    start = time.process_time()
    for number in range(1, 21):
        treat(face, draw_treatment(number))
    assert (time.process_time() - start) / 20 < 0.2


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def remembered(pipe):
    """Rows of a data set with a synthetic style of "flat" and a recoloured picture, its memory and the index.

    Of each of two concepts there is a picture in "flat", "round" and "synthetic 01".
    """
    rows = [
        {"label": label, "concept": label, "style": style, "group": GROUP if "synthetic" in style else "things"}
        for style in ("flat", "round", "synthetic 01")
        for label in ("apple", "cat")
    ]
    rows.append({"label": "red cat", "concept": "cat", "style": "flat", "group": "recoloured"})
    columns = {name: [] for name in FEATURES}
    for number, row in enumerate(rows):
        base = "flat" if row["group"] == GROUP else ""
        row = {**row, "text": row["label"], "captions": [row["label"]], "tags": [], "base_style": base}
        row |= {"image": f"{number}.png", "source": "here", "licence": "MIT", "author": "Ada"}
        for name, column in columns.items():
            column.append(row[name])
    data = datasets.Dataset.from_dict(columns, FEATURES)
    captions = ["apple", "cat", "red cat"]
    generator = torch.Generator().manual_seed(0)
    cache = SimpleNamespace(
        captions=captions,
        first_caption=torch.tensor([captions.index(row["label"]) for row in rows]),
        latents=torch.randn(len(rows), 4, 2, 2, generator=generator),
        keys=torch.nn.functional.normalize(torch.randn(3, 32, generator=generator), dim=1),
    )
    return data, *build_memory(data, cache, pipe.autoencoder, pipe.text_encoder)


def test_a_checkpoints_memory_holds_no_synthetic_style(remembered):
    data, memory, index = remembered
    assert len(memory) == 4 and memory.config.styles == ["flat", "round"]
    assert len(index.memory) == 6 and index.memory.config.styles == ["flat", "round", "synthetic 01"]
    assert index.bases.tolist() == [-1, -1, 0, -1]
    assert without_synthetic(data)["style"] == ["flat", "flat", "round", "round", "flat"]


def test_a_synthetic_style_is_shown_to_its_own_pictures_alone_and_its_base_never_by_the_same_thing(remembered):
    _, _, index = remembered
    # Entries: apple and cat in flat, in round, and in synthetic 01.
    hard = torch.tensor([True] * 7)
    samples = SimpleNamespace(image=torch.arange(7), memory_hard=hard)
    hidden = index.excluded(samples).int().tolist()
    assert hidden[0] == [1, 0, 0, 0, 1, 1], "an apple in flat sees no synthetic entry"
    assert hidden[3] == [0, 0, 0, 1, 1, 1], "a cat in round sees no synthetic entry"
    assert hidden[4] == [1, 0, 0, 0, 1, 0], "a synthetic apple sees neither itself nor the apple that it is made from"
    assert hidden[5] == [0, 1, 0, 0, 0, 1]
    assert hidden[6] == [0, 1, 0, 0, 1, 1], "a recoloured cat sees neither cats in its style nor synthetic entries"
    moved = index.to(torch.device("cpu"))
    assert moved.excluded(samples).int().tolist() == hidden


def test_a_memory_without_synthetic_styles_serves_both(remembered, pipe):
    data = without_synthetic(remembered[0])
    captions = ["apple", "cat", "red cat"]
    cache = SimpleNamespace(
        captions=captions,
        first_caption=torch.tensor([captions.index(label) for label in data["label"]]),
        latents=torch.zeros(len(data), 4, 2, 2),
        keys=torch.eye(3, 32),
    )
    memory, index = build_memory(data, cache, pipe.autoencoder, pipe.text_encoder)
    assert index.memory is memory and index.bases.tolist() == [-1, -1, -1]
