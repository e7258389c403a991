"""A set is completed: what to draw comes from the memory, how to draw it from the given pictures alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tiny import tiny_pipeline

from mmgen.completion import StyleSet, known_labels
from mmgen.errors import UserError
from mmgen.images import cut_out_ground
from mmgen.style_distance import FEWEST, StyleMetric


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("parts"), memory=True)


def pictures(count: int, seed: int = 7, channels: int = 4) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 255, (8, 8, channels), dtype=np.uint8)) for _ in range(count)]


CAPTIONS = ["red circle", "blue square", "green circle", "red square", "blue circle", "green square"]


def arrays(drawn) -> list[np.ndarray]:
    return [np.asarray(one.image) for one in drawn]


def state(memory) -> tuple:
    return len(memory), dict(memory.config), memory.codes.clone(), memory.style.clone()


def test_labels_are_drawn_in_the_style_and_nothing_persists(pipe):
    before = state(pipe.memory)
    drawn = list(pipe.complete(pictures(6), CAPTIONS, ["red apple", "blue cat"], seeds=3, truncation=0))
    assert [(one.number, one.label, one.seed) for one in drawn] == [(0, "red apple", 3), (1, "blue cat", 3)]
    assert all(one.image.size == (32, 32) and one.image.mode == "RGBA" for one in drawn)
    count = len(pipe.memory)
    for one in drawn:
        own = [share for share in one.drawn_from if share.entry >= count]
        known = [share for share in one.drawn_from if share.entry < count]
        assert {share.label for share in own} <= set(CAPTIONS) and len(own) == len(known) == 2
        assert one.label in {share.label for share in known} and {share.style for share in own} == {""}
    after = state(pipe.memory)
    assert before[:2] == after[:2] and all(torch.equal(a, b) for a, b in zip(before[2:], after[2:], strict=True))


def test_the_pictures_show_in_what_is_drawn_and_a_seed_gives_it_again(pipe):
    ask = {"captions": CAPTIONS, "labels": ["red apple"], "seeds": 5}
    [one], [again] = (arrays(pipe.complete(pictures(6), **ask)) for _ in range(2))
    [other] = arrays(pipe.complete(pictures(6, seed=8), **ask))
    [without] = arrays(pipe.complete(pictures(6), memory_weight=0.0, **ask))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other) and not np.array_equal(one, without)


def test_a_picture_with_the_very_words_is_not_copied(pipe):
    [one] = pipe.complete(pictures(6), CAPTIONS, ["red circle"])
    assert "red circle" not in {share.label for share in one.drawn_from if share.entry >= len(pipe.memory)}


def test_a_picture_that_is_alone_shows_its_style_whatever_is_asked(pipe):
    [one] = pipe.complete(pictures(1), ["red circle"], ["red circle"])
    assert [share.label for share in one.drawn_from if share.entry >= len(pipe.memory)] == ["red circle"]


def test_a_label_that_is_asked_for_twice_is_drawn_twice(pipe):
    drawn = list(pipe.complete(pictures(6), CAPTIONS, ["red apple", "blue cat", "Red  apple"], seeds=2**32 - 1))
    assert [one.seed for one in drawn] == [2**32 - 1, 2**32 - 1, 0]
    assert not np.array_equal(np.asarray(drawn[0].image), np.asarray(drawn[2].image))
    drawn = list(pipe.complete(pictures(6), CAPTIONS, ["red apple", "red apple"], seeds=[4, 4]))
    assert np.array_equal(*arrays(drawn))


def test_it_draws_as_it_is_taken_and_stops_where_nobody_takes_more(pipe, monkeypatch):
    calls, read = [], []
    draw = pipe.draw
    monkeypatch.setattr(pipe, "draw", lambda *a, **k: calls.append(1) or draw(*a, **k))
    stream = pipe.complete(pictures(3), CAPTIONS[:3], ["red apple"] * 9, on_picture=lambda *n: read.append(n))
    assert read == [(1, 3), (2, 3), (3, 3)] and not calls
    next(stream), next(stream)
    stream.close()
    assert len(calls) == 2


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_pictures_work_and_are_told(pipe, count):
    [one] = pipe.complete(pictures(count), CAPTIONS[:count], ["green dog"])
    assert sum(share.entry >= len(pipe.memory) for share in one.drawn_from) == min(count, 2)
    assert any("little of a style" in note for note in one.notes)


def test_five_hundred_pictures_work(pipe):
    captions = [CAPTIONS[number % 6] for number in range(500)]
    [one] = pipe.complete(pictures(500), captions, ["green dog"])
    assert one.drawn_from and not any("little of a style" in note for note in one.notes)


def test_words_that_nothing_is_like_are_told(pipe, monkeypatch):
    nearest = pipe.memory.nearest
    monkeypatch.setattr(pipe.memory, "nearest", lambda keys: nearest(keys) * 0.4)
    pipe.embeddings.clear()  # Of the memory as it was.
    drawn = list(pipe.complete(pictures(6), CAPTIONS, ["red apple", "blue cat"]))
    assert any(note.startswith("No caption names anything") for note in drawn[0].notes)
    assert len(drawn[1].notes) == 1 and drawn[1].notes[0].startswith('"blue cat": the memory knows nothing like')
    pipe.embeddings.clear()


def test_pictures_without_transparency_are_told_and_cut_out(pipe):
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse([16, 16, 48, 48], fill="red", outline="black")
    noisy = pictures(1, channels=3)[0]
    [one] = pipe.complete([image, *pictures(5)], CAPTIONS, ["green dog"])
    assert any("One of the pictures has no transparency" in note and "GIMP" in note for note in one.notes)
    style = StyleSet(pipe, [image, noisy, *pictures(4)], CAPTIONS, cut_out=True)
    assert [note for note in style.notes if "transparency" in note] == [
        'One of the pictures has no transparency and no even ground that could be cut out ("blue square"). Cut it out '
        "by a program such as GIMP or rembg, and save as PNG."
    ]
    alpha = np.asarray(cut_out_ground(image))[..., 3]
    assert (alpha[:12] == 0).all() and (alpha[24:40, 24:40] == 255).all() and cut_out_ground(noisy) is None


def test_a_hole_of_the_grounds_colour_stays():
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse([8, 8, 56, 56], fill="white", outline="black", width=4)
    assert np.asarray(cut_out_ground(image))[32, 32, 3] == 255


def test_pictures_that_stand_apart_are_found_and_named(pipe, monkeypatch):
    generator = torch.Generator().manual_seed(0)

    def of_style(middle: torch.Tensor, count: int) -> torch.Tensor:
        content = torch.randn(count, 12, generator=generator) * torch.tensor([0.1] * 6 + [3.0] * 6)
        return content + middle

    middles = torch.cat([torch.randn(6, 6, generator=generator), torch.zeros(6, 6)], dim=1)
    metric = StyleMetric(torch.cat([of_style(one, 12) for one in middles[:4]]), torch.arange(4).repeat_interleave(12))
    one, other = of_style(middles[4], 9), of_style(middles[5], 2)
    assert metric.apart(torch.cat([one, other])) == [9, 10] and metric.apart(one) == []
    assert metric.apart(one[: FEWEST - 1]) == []
    monkeypatch.setattr(StyleMetric, "apart", lambda self, vectors: [2])
    [drawn] = pipe.complete(pictures(6), CAPTIONS, ["green dog"])
    assert any('"green circle" stands apart' in note for note in drawn.notes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": [], "captions": []}, "no pictures"),
        ({"labels": []}, "no labels"),
        ({"labels": ["red apple", " "]}, "Label 2 is empty"),
        ({"captions": CAPTIONS[:5]}, "5 captions for 6 pictures"),
        ({"captions": [*CAPTIONS[:5], " "]}, "Picture 6 has no caption"),
        ({"images": [*pictures(5), b"no picture"]}, "Picture 6 could not be read"),
        ({"seeds": [1, 2]}, "2 seeds for 1 labels"),
        ({"seeds": -1}, "The seed is -1"),
        ({"seeds": None}, "The seed is None"),
        ({"truncation": 2}, "truncation"),
        ({"memory_weight": 3}, "memory weight"),
    ],
)
def test_bad_input_gives_a_sentence_before_anything_is_drawn(pipe, change, sentence):
    ask = {"images": pictures(6), "captions": CAPTIONS, "labels": ["red apple"]}
    with pytest.raises(UserError, match=sentence):
        pipe.complete(**{**ask, **change})


def test_a_model_without_a_memory_is_told(tmp_path):
    with pytest.raises(UserError, match="has no memory"):
        tiny_pipeline(tmp_path).complete(pictures(1), ["red circle"], ["red apple"])


def test_known_labels_are_one_a_concept(pipe):
    memory = copy.deepcopy(pipe.memory)
    assert len(known_labels(memory)) == 12
    memory.concept[:] = torch.where(memory.text == 1, 0, memory.concept)  # The second is the first in another tone.
    assert len(known_labels(memory)) == 11
