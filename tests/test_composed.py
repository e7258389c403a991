"""Composed pictures: what their captions say is to be seen, and the memory is looked up for each of their things."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from creatures import NAMES, draw_creature
from PIL import Image, ImageDraw
from test_conditioning import cache_of
from tiny_memory import LABELS, with_tiny_memory

from mmgen.checkpoints import load_pipeline
from mmgen.cli.main import main
from mmgen.data.folder import load_pairs
from mmgen.data.memmap import pack_images
from mmgen.datasets import composed
from mmgen.datasets.composed import (
    GROUP,
    HELD_OUT,
    KINDS,
    OF_TWO,
    Scene,
    build_composed,
    compose,
    draw_scenes,
    find_things,
    is_held_out,
    parts_of,
    plural,
    scene_captions,
    scene_label,
)
from mmgen.errors import UserError
from mmgen.models.encoders import PyramidCNN
from mmgen.phrases import phrases, places_of_things
from mmgen.training.common.cache import build_cache, number_things
from mmgen.training.gan.batch import MemoryIndex, _keys_of_things, _places, make_batch
from mmgen.training.gan.sampler import COMPOSED, Sampler
from mmgen.training.memory import build_memory


def block(colour: str, size=(160, 160)) -> Image.Image:
    """A square of one colour with a notch at its right, green where it is fully transparent."""
    image = Image.new("RGBA", (256, 256), (0, 255, 0, 0))
    left, top = (256 - size[0]) // 2, (256 - size[1]) // 2
    pen = ImageDraw.Draw(image)
    pen.rectangle((left, top, left + size[0], top + size[1]), fill=colour)
    pen.rectangle((left + size[0] // 2, top, 256, top + size[1] // 2), fill=(0, 255, 0, 0))
    return image


RED, BLUE = block("#d02020"), block("#2030d0")


def where(image: Image.Image, colour: str) -> np.ndarray:
    rgba = np.asarray(image).astype(int)
    red, blue = rgba[..., 0], rgba[..., 2]
    return (rgba[..., 3] > 200) & ((red > blue + 100) if colour == "red" else (blue > red + 60))


def middle(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def scene(kind: str, **more) -> Scene:
    names = ("cat", "tree", "dog")[: 3 if kind == "row" else 2 if kind in OF_TWO else 1]
    return Scene(kind, names, **more)


@pytest.mark.parametrize("seed", range(4))
def test_things_lie_where_the_caption_says(seed):
    for kind, axis, sign in (("left", 0, 1), ("right", 0, -1), ("above", 1, 1), ("below", 1, -1)):
        image, boxes = compose(scene(kind), [RED, BLUE], random.Random(seed))
        red, blue = middle(where(image, "red")), middle(where(image, "blue"))
        assert sign * (blue[axis] - red[axis]) > 80, f"red is not {kind} of blue"
        assert len(boxes) == 2 and (np.asarray(image)[..., 1] < 90)[where(image, "red")].all()
        for box, mask in zip(boxes, (where(image, "red"), where(image, "blue")), strict=True):
            outside = mask.copy()
            outside[box[1] : box[3], box[0] : box[2]] = False
            assert not outside.any()
    image, _ = compose(scene("size"), [RED, BLUE], random.Random(seed))
    assert where(image, "red").sum() > 3 * where(image, "blue").sum() > 0
    image, _ = compose(scene("hidden"), [RED, BLUE], random.Random(seed))
    alone, _ = compose(scene("hidden"), [RED, Image.new("RGBA", (9, 9), "#00000001")], random.Random(seed)) or (0, 0)
    assert alone == 0, "an empty picture was composed"
    assert where(image, "blue").sum() > where(image, "red").sum() > 300
    image, boxes = compose(scene("row"), [RED, BLUE, RED], random.Random(seed))
    assert [box[0] for box in boxes] == sorted(box[0] for box in boxes)
    assert np.asarray(image)[0, 0, 3] == 0


@pytest.mark.parametrize("count", range(2, 6))
def test_as_many_are_there_as_are_said(count):
    for seed in range(5):
        image, boxes = compose(scene("count", count=count), [RED], random.Random(seed))
        assert len(boxes) == count == len(parts_of(np.asarray(image)[..., 3]))
    assert scene_label(scene("count", count=count)) == f"{('two', 'three', 'four', 'five')[count - 2]} cats"


def test_grounds_colours_and_mirrors():
    ground, _ = compose(scene("ground", colour="blue"), [RED], random.Random(1))
    tile, _ = compose(scene("tile", colour="blue"), [RED], random.Random(1))
    assert where(ground, "blue")[0, 0] and not where(tile, "blue")[0, 0] and where(tile, "blue")[24, 128]
    assert where(ground, "red").sum() > 2000 and where(tile, "red").sum() > 2000
    turned, _ = compose(scene("colour", colour="blue"), [RED], random.Random(1))
    assert where(turned, "blue").sum() > 10_000 and not where(turned, "red").any()
    assert compose(scene("colour", colour="red"), [RED], random.Random(1)) is None, "it is red already"
    mirrored, _ = compose(scene("mirrored"), [RED], random.Random(1))
    x, y = middle(where(RED, "red"))
    assert middle(where(mirrored, "red"))[0] == pytest.approx(255 - x, abs=9) and x < 120
    disc = Image.new("RGBA", (256, 256))
    ImageDraw.Draw(disc).ellipse((20, 20, 236, 236), fill="#d02020")
    assert compose(scene("mirrored"), [disc], random.Random(1)) is None, "its mirror image is the same"


def test_captions_say_what_the_memory_is_looked_up_by():
    """Of each caption of a scene, whatever its words, the things are found again."""
    for kind in KINDS:
        for names in (("cat", "tree", "dog"), ("watermelon", "ice hockey", "owl")):
            count, colour = (3 if kind == "count" else 1), "blue" if kind in ("ground", "tile", "colour") else ""
            one = replace(scene(kind, count=count, colour=colour), names=names[: len(scene(kind).names)])
            wanted = {f"blue {names[0]}"} if kind == "colour" else set(one.names)
            for seed in range(6):
                for caption in scene_captions(one, "", random.Random(seed)):
                    assert set(phrases(caption)) == wanted, caption
            assert any("flat style" in caption for caption in scene_captions(one, "flat", random.Random(0)))
    assert scene_label(Scene("tile", ("apple",), colour="orange")) == "an apple on an orange tile"
    assert [plural(word) for word in ("fox", "baby", "wolf", "bus")] == ["foxes", "babies", "wolves", "buses"]
    assert phrases("two hearts") == ["heart"] and phrases("small") == ["small"]


def test_each_thing_has_a_slot_as_far_as_there_are_slots():
    for slots in (2, 4, 6, 8):
        for count in range(1, slots + 1):
            assert set(places_of_things(count, slots)) == set(range(count)), (count, slots)
        assert places_of_things(1, slots) == [0] * slots
        wanted = [places_of_things(max(1, count), slots) for count in range(10)]
        assert _places(torch.arange(10), slots).tolist() == wanted, "a batch is laid out otherwise"


@pytest.fixture(scope="module")
def creatures(tmp_path_factory) -> Path:
    """Twenty creatures in two styles, one of them opaque all over, with where they come from."""
    folder = tmp_path_factory.mktemp("creatures")
    rows = []
    for number, name in enumerate(NAMES):
        for style in ("plain", "dim"):
            image = draw_creature(name, 96)
            image = image.point(lambda value: value // 2 + 40) if style == "dim" and number != 3 else image
            if style == "dim":
                alpha = draw_creature(name, 96).getchannel("A")
                image.putalpha(alpha)
            if number == 3:
                image = image.convert("RGB").convert("RGBA")
            image.save(folder / f"{name}-{style}.png")
            row = {"file_name": f"{name}-{style}.png", "text": name, "label": name, "style": style}
            rows.append({**row, "source": style, "licence": "MIT", "author": "Ada", "split": "train"})
    rows += [{**rows[0], "text": "two red dogs", "label": "x"}, {**rows[0], "group": "synthetic", "label": "y"}]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_command_writes_a_folder_that_a_training_takes(creatures, tmp_path, capsys):
    command = ["data", "compose", "--data", str(creatures), "--count", "60", "--size", "64", "--output"]
    assert main([*command, str(tmp_path / "one")]) == 0
    assert "60  pictures in" in capsys.readouterr().out
    splits = load_pairs(tmp_path / "one")
    assert set(splits) == {"train", HELD_OUT} and sum(map(len, splits.values())) == 60
    train = splits["train"]
    assert (
        set(train["group"]) == {GROUP} and set(train["style"]) == {"plain", "dim"} and set(train["licence"]) == {"MIT"}
    )
    assert all(style == source for style, source in zip(train["style"], train["source"], strict=True))
    rows = [json.loads(line) for line in (tmp_path / "one" / "metadata.jsonl").read_text().splitlines()]
    assert {row["kind"] for row in rows} >= set(KINDS) - {"colour", "mirrored"}
    assert not any("ottabix" in row["text"] and NAMES[3] in row["text"] for row in rows)
    assert not any(NAMES[3] in row["text"] for row in rows), "a picture without transparency was composed"
    held = {tuple(sorted(thing["name"] for thing in row["things"])) for row in rows if row["split"] == HELD_OUT}
    seen = {tuple(sorted(thing["name"] for thing in row["things"])) for row in rows if row["split"] == "train"}
    assert not {names for names in held if len(names) > 1} & seen
    # Again it is the same to the byte, with another seed another; what is no composed folder is left alone.
    build_composed(load_pairs(creatures)["train"], tmp_path / "again", 60, size=64)
    files = sorted(path.name for path in (tmp_path / "one" / "pictures").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "again" / "pictures").iterdir()) and len(files) == 60
    for name in ("metadata.jsonl", "README.md", f"pictures/{files[7]}"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    build_composed(load_pairs(creatures)["train"], tmp_path / "again", 20, seed=1, size=64)
    assert len(list((tmp_path / "again" / "pictures").iterdir())) == 20
    assert main([*command, str(creatures)]) == 1 and "something else" in capsys.readouterr().err


def test_too_few_things_are_told(tmp_path):
    draw_creature("zorblat", 64).save(tmp_path / "zorblat.png")
    (tmp_path / "zorblat.txt").write_text("a zorblat")
    with pytest.raises(UserError, match="too few things"):
        build_composed(load_pairs(tmp_path)["train"], tmp_path / "out", 4)


def test_scenes_are_evenly_of_all_kinds_and_come_in_two_styles(creatures):
    things = find_things(load_pairs(creatures)["train"])
    assert set(things) == {"plain", "dim"} and set(NAMES) - set(things["plain"]) == {"veebus"}
    scenes = draw_scenes(things, 26 * 8, 0)
    kinds = [one.kind for one, _, _ in scenes]
    assert all(kinds.count(kind) == 16 for kind in KINDS)
    pairs = list(zip(scenes[::2], scenes[1::2], strict=True))
    assert all(first[0] == second[0] and first[1] != second[1] for first, second in pairs)
    many = [Scene("left", tuple(random.Random(n).sample(NAMES, 2))) for n in range(400)]
    assert 0.05 < np.mean([is_held_out(one) for one in many]) < 0.16
    assert all(is_held_out(one) == is_held_out(Scene("above", one.names[::-1])) for one in many)


def test_composing_takes_some_milliseconds():
    start = time.process_time()
    for seed in range(50):
        compose(scene("left"), [RED, BLUE], random.Random(seed))
    assert (time.process_time() - start) / 50 < 0.05


# The memory and the training.

LABELS_AND = ["cat", "dog", "star", "cat left of dog", "three stars"]


def test_composed_images_are_no_entries_and_their_things_are_looked_up_one_by_one(tiny_checkpoint, tmp_path):
    pipe = with_tiny_memory(load_pipeline(tiny_checkpoint))
    rows = []
    for number, label in enumerate(LABELS_AND):
        block(("red", "blue", "green", "yellow", "pink")[number]).save(tmp_path / f"{number}.png")
        rows.append(
            {"file_name": f"{number}.png", "text": label, "style": "flat", "group": GROUP if number > 2 else ""}
        )
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load_pairs(tmp_path)["train"]
    captions = [*LABELS_AND]
    things = number_things(data, captions)
    assert captions == LABELS_AND, "each thing has a caption already"
    assert things.tolist() == [[-1, -1], [-1, -1], [-1, -1], [0, 1], [2, -1]]
    alone = data.select([3])
    only = ["cat left of dog"]
    assert number_things(alone, only).tolist() == [[1, 2]] and only == ["cat left of dog", "cat", "dog"]
    assert number_things(data.select([0]), ["cat"]) is None
    cache = cache_of(LABELS_AND, ["flat"] * 5)
    cache = replace(
        cache,
        keys=torch.nn.functional.normalize(
            torch.randn(len(cache.captions), 32, generator=torch.Generator().manual_seed(1))
        ),
        latents=torch.randn(5, 4, 2, 2),
    )
    numbers = [cache.captions.index(label) for label in LABELS_AND[:3]]
    cache.things = torch.tensor([[numbers[n] if n >= 0 else -1 for n in row] for row in things.tolist()])
    memory, index = build_memory(data, cache, pipe.autoencoder, pipe.text_encoder)
    assert sorted(memory.config.texts) == ["cat", "dog", "star"] and len(memory) == 3
    assert index.texts.tolist()[3:] == [-1, -1]
    sampler = Sampler(cache, LABELS_AND, ["flat"] * 5, LABELS_AND, groups=data["group"], kinds=(1.0, 0.0, 0.0, 0.0))
    samples = sampler.draw(4000, torch.Generator().manual_seed(0))
    assert float((samples.image > 2).float().mean()) == pytest.approx(COMPOSED, abs=0.03)
    keys, is_composed = _keys_of_things(cache, samples, 4)
    assert torch.equal(is_composed, samples.image > 2)
    pair, stars = int((samples.image == 3).nonzero()[0]), int((samples.image == 4).nonzero()[0])
    wanted = [cache.keys[numbers[n]].float() for n in (0, 1, 2)]
    torch.testing.assert_close(keys[pair], torch.stack([wanted[0], wanted[1]] * 2))
    torch.testing.assert_close(keys[stars], torch.stack([wanted[2]] * 4))
    # Nothing of a composed image is kept from it: its cat and its dog are found, in its own style too.
    found = index.memory.lookup(
        keys[[pair]],
        index.styles[samples.image[[pair]]],
        index.excluded(samples)[[pair]],
        0.0,
        None,
        4,
        one_by_one=True,
    )
    shown = [memory.about(int(entry))["label"] for entry in found.entries[0, 2:]]
    assert shown == ["cat", "dog"] and (found.weights[0] == torch.tensor([0, 0, 1, 1])).all()


def test_a_prompt_of_several_things_finds_each_of_them(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr("mmgen.pipeline.WHOLE", 1.1)  # All texts are alike to an encoder that was never trained.
    pipe = with_tiny_memory(load_pipeline(tiny_checkpoint))
    pipe.memory.text_keys = torch.nn.functional.normalize(pipe.memory.text_keys - pipe.memory.text_keys.mean(0), dim=1)
    middle_of_all = pipe.memory.text_keys.mean(0)
    assert middle_of_all.norm() < 0.5
    for prompt, things in (
        ("a red cat left of a blue star, flat style", ["red cat", "blue star", "red cat", "blue star"]),
        ("a red cat, a blue star and a green dog", ["red cat", "blue star", "green dog", "red cat"]),
        ("three red cats on a green tile", ["red cat"] * 4),
    ):
        query = pipe.memory_query(prompt)
        expected = pipe.encode_keys(things)
        torch.testing.assert_close(query.keys, expected, atol=1e-5, rtol=1e-5)
    # The queries of the second half are those of the slots in the wanted style.
    own = pipe.memory.text_keys[
        [LABELS.index(label) for label in ("a red cat", "a blue star", "a green dog", "a red cat")]
    ]
    found = pipe.memory.lookup(own[None], torch.tensor([0]), temperature=0.0)
    labels = [pipe.memory.about(int(entry)) for entry in found.entries[0]]
    assert [one["label"] for one in labels] == ["a red cat", "a blue star", "a green dog", "a red cat"]
    assert [one["style"] for one in labels] == ["round", "round", "flat", "flat"]
    again = pipe.memory.lookup(own[None], torch.tensor([0]), temperature=0.0, one_by_one=True)
    assert torch.equal(again.entries, found.entries)


def test_the_kinds_have_their_templates():
    assert set(composed._TEMPLATES) == set(KINDS)


def test_a_training_batch_of_composed_images_remembers_their_things(tiny_checkpoint, tmp_path):
    """From a folder on the disk to what the generator is shown, as `train gan` does it."""
    pipe = with_tiny_memory(load_pipeline(tiny_checkpoint))
    labels = ["a red cat left of a blue star", "three green dogs"]
    for number in range(2):
        block(("red", "blue")[number]).save(tmp_path / f"{number}.png")
    rows = [
        {"file_name": f"{number}.png", "text": label, "style": "flat", "group": GROUP}
        for number, label in enumerate(labels)
    ]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load_pairs(tmp_path)["train"]
    folder = tmp_path / "cache"
    cnn = PyramidCNN(pipe.image_encoder, [0.5] * 3, [0.5] * 3)
    networks = pipe.text_encoder, pipe.tokenizer, cnn, pipe.autoencoder
    cache = build_cache(data, pack_images(data, 32, folder), *networks, folder, torch.device("cpu"))
    names = [[cache.captions[number] for number in row if number >= 0] for row in cache.things.tolist()]
    assert names == [["red cat", "blue star"], ["green dog"]]
    keys = cache.keys[cache.things[0]].float()
    torch.testing.assert_close(keys, pipe.encode_keys(names[0]), atol=1e-2, rtol=1e-2)
    memory, concepts = pipe.memory, torch.full((2,), -1)
    memory.text_keys[:] = torch.nn.functional.normalize(torch.randn(12, 32, generator=torch.Generator().manual_seed(2)))
    for label, key in zip(("a red cat", "a blue star"), keys, strict=True):
        memory.text_keys[LABELS.index(label)] = key
    index = MemoryIndex(memory, concepts, torch.zeros(2, dtype=torch.int64), concepts)
    sampler = Sampler(cache, labels, ["flat"] * 2, labels, kinds=(1.0, 0.0, 0.0, 0.0), groups=data["group"])
    generator = torch.Generator().manual_seed(3)
    batch = make_batch(cache, sampler.draw(32, generator), 16, generator, index)
    first = (batch.remembered.weights[:, :4].sum(1) == 4 * batch.remembered.weights[:, 0]) & (
        batch.remembered.weights[:, 0] > 0
    )
    entries = [2 * LABELS.index(label) + style for style in (1, 0) for label in ("a red cat", "a blue star")]
    wanted = memory.latents(torch.tensor(entries))
    shown = [torch.equal(one[:4], wanted) for one in batch.remembered.latents[first]]
    assert 0.25 < np.mean(shown) < 0.75, "a cat and a star, in another style and in their own, for each such image"
