"""The bench of small words: a detector that knows really composed pictures from those that the words do not fit."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
from creatures import NAMES, draw_creature
from PIL import Image, ImageDraw

from mmgen.cli.main import main
from mmgen.data.folder import load_pairs
from mmgen.datasets.composed import KINDS, Scene, Thing, compose, compose_things, find_things, is_held_out
from mmgen.evaluation import grammar
from mmgen.evaluation.gallery import gallery
from mmgen.evaluation.grammar import (
    SEED,
    Asked,
    Detector,
    choose_scenes,
    composed_images,
    composed_otherwise,
    find_regions,
    grammar_scores,
    grammar_table,
    otherwise,
    without_ground,
)

PLACED = ("left", "right", "above", "below", "row", "size", "count", "beside", "ground", "tile")


class ColourJudge:
    """In the place of a network: which colours a picture has, and how much of each."""

    name, weights, channels = "colours", "colours", 512

    def extract(self, images):
        made = []
        for image in images:
            rgba = np.asarray(image.convert("RGBA").resize((64, 64), Image.Resampling.NEAREST))
            bins = (rgba[rgba[..., 3] > 128][:, :3] // 32).astype(int) @ [64, 8, 1]
            made.append(np.bincount(bins, minlength=512) / max(1, len(bins)))
        return np.stack(made).astype(np.float32) if made else np.zeros((0, 512), dtype=np.float32)


def quiet(things, what):
    return things


@pytest.fixture(scope="module")
def creatures(tmp_path_factory):
    """Creatures in two styles, one of which is a little tilted."""
    folder = tmp_path_factory.mktemp("creatures")
    rows = []
    for name in NAMES:
        for style in ("plain", "tilted"):
            image = draw_creature(name, 96)
            (image.rotate(4) if style == "tilted" else image).save(folder / f"{name}-{style}.png")
            rows.append({"file_name": f"{name}-{style}.png", "text": name, "label": name, "style": style})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def things(creatures):
    return find_things(load_pairs(creatures)["train"])


@pytest.fixture(scope="module")
def detector(creatures, tmp_path_factory):
    real = gallery(load_pairs(creatures), ColourJudge(), tmp_path_factory.mktemp("cache"), quiet)
    return Detector(ColourJudge(), real)


@pytest.mark.parametrize("kind", PLACED)
def test_real_compositions_are_told_from_swapped_ones(kind, detector, things):
    asked = choose_scenes(things, kind, 12)
    assert len(asked) >= 3 and all(is_held_out(one.scene) for one in asked)
    told = [detector(image, one, leave_out=True) for one, image in zip(asked, composed_images(asked), strict=True)]
    assert np.mean([right for _, right in told]) >= 0.7, told
    others = zip(asked, composed_otherwise(asked, things), strict=True)
    wrong = [detector(image, one, leave_out=True)[1] for one, image in others if image is not None]
    assert wrong and np.mean(wrong) <= 0.2, wrong


def test_what_is_not_there_is_not_found(detector, things):
    asked = choose_scenes(things, "left", 12)
    empty = Image.new("RGBA", (256, 256))
    assert all(detector(empty, one) == (False, False) for one in asked)
    for one in asked:
        left = compose_things(Scene("count", one.scene.names[:1], count=2), one.things[:1], 0, SEED)
        assert not detector(left[0], one)[1], "two of the one thing are not one and the other"


class Drawer:
    """Draws what a function makes of the scene that is asked for."""

    def __init__(self, things, make):
        self.make, self.scenes = make, {}
        for kind in KINDS:
            self.scenes |= {one.prompt: one for one in choose_scenes(things, kind, 6)}

    def __call__(self, prompt, seed=0):
        return SimpleNamespace(images=[self.make(self.scenes[prompt])], drawn_from=[])


def test_a_model_that_follows_words_scores_above_one_that_draws_the_thing_alone(detector, things):
    good = Drawer(things, lambda one: next(iter(composed_images([one]))))
    lazy = Drawer(things, lambda one: Image.open(one.things[0].path).convert("RGBA").resize((256, 256)))
    kinds = ("left", "above", "count", "tile")
    scores = grammar_scores(good, detector, things, 6, quiet, kinds)
    alone = grammar_scores(lazy, detector, things, 6, quiet, kinds)
    assert list(scores) == list(kinds)
    for kind in kinds:
        assert scores[kind]["right"] >= 0.6 > 0.2 >= alone[kind]["right"]
        for name in ("real_right", "real_right_left_out", "wrong_right"):
            assert scores[kind][name] == alone[kind][name]
        assert scores[kind]["right"] == scores[kind]["real_right"] and scores[kind]["wrong_right"] <= 0.2
    table = grammar_table({"grammar": scores})
    mean = (6 * scores["left"]["right"] + 6 * scores["above"]["right"]) / 12
    assert "| **two things in their places** | 12 | " in table and f"{mean:.3f}" in table


# What is read from the pixels alone.


def lopsided(colour: str) -> Image.Image:
    image = Image.new("RGBA", (256, 256))
    pen = ImageDraw.Draw(image)
    pen.rectangle((40, 40, 200, 200), fill=colour)
    pen.rectangle((120, 40, 200, 150), fill=(0, 0, 0, 0))
    return image


def asked_for(kind: str, path, **more) -> Asked:
    return Asked(Scene(kind, ("thing",), **more), (Thing(str(path), "thing", "thing", "flat"),), 0)


def test_colours_grounds_and_mirror_images_are_read_from_the_pixels(tmp_path):
    red = lopsided("#d02020")
    red.save(tmp_path / "red.png")

    def said(image, kind, **more):
        return grammar._as_said(image, asked_for(kind, tmp_path / "red.png", **more), find_regions(image, kind), [])

    for colour in ("blue", "green", "yellow"):
        image, _ = compose(Scene("colour", ("thing",), colour=colour), [red], random.Random(0))
        assert said(image, "colour", colour=colour) and not said(image, "colour", colour="pink")
        for kind, other in (("ground", "tile"), ("tile", "ground")):
            image, _ = compose(Scene(kind, ("thing",), colour=colour), [red], random.Random(0))
            assert said(image, kind, colour=colour) and not said(image, kind, colour="purple")
            assert not said(image, other, colour=colour)
            bare, ground = without_ground(image)
            assert ground is not None and np.asarray(bare)[128, 20, 3] == 0 < (np.asarray(bare)[..., 3] > 0).sum()
    mirrored, _ = compose(Scene("mirrored", ("thing",)), [red], random.Random(0))
    assert said(mirrored, "mirrored") and not said(red, "mirrored")
    assert without_ground(red)[1] is None


def test_every_scene_has_another_that_its_words_do_not_fit():
    for kind in KINDS:
        names = ("a", "b", "c")[: 3 if kind == "row" else 2]
        for count in (2, 3, 5):
            scene = Scene(kind, names, count=count, colour="blue")
            other = otherwise(scene, "z")
            assert other != scene and otherwise(scene, "z") == other
            assert kind != "count" or (2 <= other.count <= 5 and other.count != count)


def test_the_command_prints_and_writes(creatures, tiny_checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mmgen.evaluation.features.mobilenet", lambda cache: ColourJudge())
    monkeypatch.setattr(grammar.evaluate_grammar, "__defaults__", (10, quiet, ("left", "count")))
    report = tmp_path / "report.json"
    command = ["evaluate", "--checkpoint", str(tiny_checkpoint), "--data", str(creatures), "--cache", str(tmp_path)]
    assert main([*command, "--grammar", "--prompts", "10", "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert set(found["grammar"]) == {"left", "count"} and found["checkpoint"] == str(tiny_checkpoint)
    assert capsys.readouterr().out.strip() == grammar_table(found)
    assert main([*command, "--grammar", "--style-set"]) == 1
    assert "Ask for one of them" in capsys.readouterr().err
    few = tmp_path / "few"
    few.mkdir()
    draw_creature("zorblat", 64).save(few / "zorblat.png")
    (few / "zorblat.txt").write_text("a zorblat")
    command[command.index(str(creatures))] = str(few)
    assert main([*command, "--grammar"]) == 1 and "one thing each" in capsys.readouterr().err
