"""What a model knows in words: read by the pipeline, carried by checkpoints, told by services and endpoints."""

from __future__ import annotations

import json
import lzma
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import serve
from gradio_client import Client
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import tiny_pipeline
from wording import tables, wordy

from mmgen.cli.main import main
from mmgen.datasets.emoji_languages import emoji_words
from mmgen.errors import UserError
from mmgen.hub.prepare import prepare
from mmgen.models import vocabulary as module
from mmgen.models.vocabulary import Vocabulary, edit_distance, pack, term, unpack
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.services.inference import GenerationRequest, InferenceService
from mmgen.services.vocabulary import listing, summary, thumbnails, told_of_prompt
from mmgen.training.common.checkpoint import save_checkpoint

COMMON = {"die", "un", "mit", "stern", "hut"}


@pytest.fixture(scope="session")
def wordy_checkpoint(tmp_path_factory) -> Path:
    """The folder of a saved tiny pipeline that has a vocabulary."""
    folder = tmp_path_factory.mktemp("wordy")
    wordy(tiny_pipeline(folder / "parts")).save_pretrained(folder / "checkpoint")
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def vocabulary(wordy_checkpoint) -> Vocabulary:
    return MultimodalGANPipeline.from_pretrained(wordy_checkpoint).vocabulary


@pytest.fixture(scope="module")
def service(wordy_checkpoint) -> InferenceService:
    return InferenceService(MultimodalGANPipeline.from_pretrained(wordy_checkpoint))


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("\U0001f431", "cat face"),
        ("a \U0001f431\ufe0f on a star", "a cat face on a star"),
        ("\U0001f431\U0001f436", "cat face, dog face"),
        ("red\U0001f431.", "red cat face."),
        ("\u2665\ufe0f and \u2665", "heart suit and heart suit"),
        ("#\ufe0f\u20e3 apple #1", "keycap # apple #1"),
        ("\U0001f1ef\U0001f1f5", "flag of Japan"),
        ("\U0001f469\U0001f3fd\u200d\U0001f692!", "woman firefighter with medium skin!"),
        ("\U0001f436\u200d\U0001f692", "dog face, fire engine"),  # A sequence that has no name of its own.
        ("Katze", "cat"),
        ("ein roter Apfel", "a red apple"),  # The longest term, not "apple" alone.
        ("eine rote KATZE, mit Hut", "a red cat, with hat"),
        ("a red Katze", "a red cat"),
        ("Stern", "star"),
        ("猫", "cat"),
        ("猫とa dog", "cat a dog"),
        ("青い星", "blue star"),
        ("고양이가", "cat"),
        ("kot", "cat"),  # A name in Polish, a search word in German.
        ("kot mit Hut", "pile of poo with hat"),
        ("un gato rojo", "a cat red"),
    ],
)
def test_emoji_and_other_languages_become_english(vocabulary, prompt, read):
    reading = vocabulary.read(prompt, COMMON.__contains__)
    assert reading.changed and reading.text == read


@pytest.mark.parametrize(
    "prompt", ["", "a red apple", "a stern cat", "die cat", "a hut on a star", "xyzzy", "2 # 3", "שלום"]
)
def test_english_and_what_nobody_knows_are_left_alone(vocabulary, prompt):
    reading = vocabulary.read(prompt, COMMON.__contains__)
    assert not reading.changed and reading.text == prompt and not reading.language


def test_what_was_not_understood_is_told(vocabulary):
    reading = vocabulary.read("猫が走る", COMMON.__contains__)
    assert (reading.text, reading.language, reading.unread) == ("cat", "ja", ["が走る"])


def test_a_long_text_is_read_at_once(vocabulary):
    reading = vocabulary.read("Katze und \U0001f431 " * 3000)
    assert reading.text.startswith("cat und cat face cat")


def test_words_far_from_the_captions_and_what_was_meant(vocabulary):
    assert vocabulary.far_words("two red apples on a zamboni, flat style", ["flat"]) == ["zamboni"]
    assert vocabulary.is_known("apples") and vocabulary.is_known("stars") and not vocabulary.is_known("zamboni")
    assert vocabulary.nearest_spelling("aple") == "apple"
    assert vocabulary.nearest_spelling("elefant") == "elephant"  # What sounds alike is no change.
    assert vocabulary.nearest_spelling("unicorm") == "unicorn"
    assert vocabulary.nearest_spelling("zamboni") is None
    assert edit_distance("cta", "cat", 1) == 1 and edit_distance("cat", "house", 2) == 3


def test_the_nearest_label_is_found_by_its_key(service):
    vocabulary = service.pipe.vocabulary
    for words in ("red apple", "star"):
        ((label, likeness),) = vocabulary.nearest_labels(service.key(words)[None])
        assert label.text == words and likeness > 0.999


def test_tables_are_packed_and_damage_is_found(monkeypatch):
    packed = pack(tables())
    assert unpack(packed) == tables()
    for damaged in (packed[:-9], b"", b"nothing", lzma.compress(b"[]"), lzma.compress(b'{"groups": [1]}')):
        with pytest.raises(ValueError, match="vocabulary: the tables are damaged"):
            unpack(damaged)
    monkeypatch.setattr(module, "MAX_UNPACKED", 100)
    with pytest.raises(ValueError, match="larger than any"):
        unpack(packed)


def test_the_pipeline_draws_what_was_read(service):
    pipe = service.pipe
    read, direct = pipe("\U0001f431, flat style", seed=3), pipe("cat face, flat style", seed=3)
    assert read.images[0].tobytes() == direct.images[0].tobytes()
    assert read.read_as == direct.read_as == ["cat face, flat style"]
    assert pipe(["Katze", "a dog"]).read_as == ["cat", "a dog"]
    assert pipe("Katze", translate=False).read_as == ["Katze"]
    assert pipe("猫が走る").notes == ["Not understood, and left out: が走る."]
    drawing = service.draw(GenerationRequest("\U0001f431", "flat", seed=3))
    assert drawing.images[0].tobytes() == direct.images[0].tobytes() and drawing.read_as == "cat face, flat style"
    assert drawing.order.prompt == "\U0001f431"  # What is kept of a picture is what was typed.


def test_a_checkpoint_carries_it_and_one_without_is_as_before(wordy_checkpoint, tiny_checkpoint, tmp_path):
    pipe = MultimodalGANPipeline.from_pretrained(wordy_checkpoint)
    pipe.save_pretrained(tmp_path / "again")
    again = MultimodalGANPipeline.from_pretrained(tmp_path / "again")
    assert again.vocabulary.tables == tables() and again.vocabulary.config.about == "an apple artist"
    assert torch.equal(again.vocabulary.label_keys, pipe.vocabulary.label_keys)
    without = MultimodalGANPipeline.from_pretrained(tiny_checkpoint)
    assert without.vocabulary is None and without("Katze").read_as == ["Katze"]
    assert (without("cat", seed=1).images[0].tobytes()) == pipe("Katze", seed=1).images[0].tobytes()
    assert summary(InferenceService(without)) is None and listing(InferenceService(without))["labels"] == []


def test_what_is_learned_later_is_known_too(wordy_checkpoint, tmp_path):
    pipe = MultimodalGANPipeline.from_pretrained(wordy_checkpoint)
    save_checkpoint(tmp_path / "tuned", pipe, [["a Blobby, flat style", "Blobby"], ["a red apple"]])
    tuned = MultimodalGANPipeline.from_pretrained(tmp_path / "tuned").vocabulary
    assert pipe.vocabulary.far_words("blobby the cat") == ["blobby"] and tuned.far_words("blobby the cat") == []
    assert tuned.tables.labels == pipe.vocabulary.tables.labels and tuned.config.about == "an apple artist"
    assert pipe.vocabulary.learned(["red apple"]) is pipe.vocabulary


def test_a_set_is_completed_by_emoji_and_other_languages(tmp_path):
    pipe = wordy(tiny_pipeline(tmp_path, memory=True))
    style = [Image.new("RGBA", (8, 8), colour) for colour in ("red", "green")]
    read, direct = (
        list(pipe.complete(style, ["a dog", "a star"], labels, seeds=3))
        for labels in (["\U0001f431", "Katze"], ["cat face", "cat"])
    )
    assert [one.label for one in read] == ["\U0001f431", "Katze"]
    assert [one.image.tobytes() for one in read] == [one.image.tobytes() for one in direct]


@pytest.mark.parametrize("change", [lambda packed: packed.flip(0), lambda packed: packed[:40]])
def test_a_damaged_one_is_refused(wordy_checkpoint, tmp_path, change):
    checkpoint = shutil.copytree(wordy_checkpoint, tmp_path / "damaged")
    file = checkpoint / "vocabulary" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["packed"] = change(weights["packed"]).contiguous()
    save_file(weights, file)
    with pytest.raises(UserError, match="not whole"):
        MultimodalGANPipeline.from_pretrained(checkpoint)


def test_it_is_published_with_its_sources_and_loads_without_mmgen(wordy_checkpoint, tmp_path):
    text = prepare(wordy_checkpoint, tmp_path, "ann/apples")
    assert "## What it reads" in text and "| a list | MIT | Ann |" in text
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["vocabulary"] == ["mmgen.models.vocabulary", "Vocabulary"]
    code = (tmp_path / "vocabulary" / "mmgen.models.vocabulary.py").read_text()
    space: dict = {"__name__": "alone"}
    import sys
    import types

    sys.modules["alone"] = types.ModuleType("alone")  # Where dataclasses look for the names in annotations.
    exec(compile(code, "alone", "exec"), space)
    weights = load_file(tmp_path / "vocabulary" / "diffusion_pytorch_model.safetensors")
    alone = space["Vocabulary"](size=len(weights["packed"]), labels=len(weights["label_keys"]), key_channels=32)
    alone.load_state_dict(weights)
    assert alone.read("ein roter Apfel").text == "a red apple"


def test_the_page_is_told(service):
    assert summary(service) == {"about": "an apple artist", "count": 8, "styles": 2}
    all_of_it = listing(service)
    assert sorted(all_of_it["groups"]) == ["animals", "food", "shapes"]
    assert ["cat", all_of_it["groups"].index("animals"), ["pet", "kitten"]] in all_of_it["labels"]
    told = told_of_prompt(service, "\U0001f431 and an aple")
    assert told["read_as"] == "cat face and an aple"
    assert told["far"] == [{"word": "aple", "thing": "apple", "slip": True}]
    assert told_of_prompt(service, "a red apple") == {"read_as": "", "unread": [], "far": []}
    assert told_of_prompt(service, None)["far"] == []
    assert len(told_of_prompt(service, " ".join(f"zz{letter}qj" for letter in "abcdefghijklmnop"))["far"]) <= 3


def test_thumbnails_are_what_the_words_draw_and_are_drawn_once(service, monkeypatch):
    made = thumbnails(service, ["cat", "nothing that is known", 7, "dog"], "flat")
    assert list(made) == ["cat", "dog"] and made["cat"] != made["dog"]
    assert made["cat"].startswith("data:image/webp;base64,")
    assert thumbnails(service, ["cat"], "Any")["cat"] != made["cat"]
    monkeypatch.setattr(service.pipe, "draw", None)
    assert thumbnails(service, ["dog", "cat"], "flat") == {"dog": made["dog"], "cat": made["cat"]}
    assert thumbnails(service, None, None) == {}
    monkeypatch.undo()
    assert len(thumbnails(service, [text for text, *_ in map(lambda one: (one.text,), tables().labels)], "Any")) == 6


ENTRIES = {
    "en": [
        ("cat", "1F408", ["pet", "animal"]),
        ("cat face", "1F431", ["pet", "animal"]),
        ("red apple", "1F34E", ["fruit", "red"]),
        ("red heart", "2764", ["red"]),
        ("flag: Japan", "1F1EF-1F1F5", ["JP"]),
    ],
    "de": [
        ("Katze", "1F408", ["haustier", "tier"]),
        ("Katzengesicht", "1F431", ["haustier", "tier"]),
        ("roter Apfel", "1F34E", ["obst"]),
        ("rotes Herz", "2764", ["liebe"]),
        ("Flagge: Japan", "1F1EF-1F1F5", []),
    ],
}


def pack_emojibase(folder: Path) -> Path:
    """An archive as that of emojibase-data, with two languages."""
    for name, entries in ENTRIES.items():
        place = folder / "package" / name
        place.mkdir(parents=True)
        rows = [
            {"label": label, "hexcode": code, "tags": tags, "group": 9 if "lag" in label else 1}
            for label, code, tags in entries
        ]
        (place / "data.json").write_text(json.dumps(rows))
    with tarfile.open(folder / "some.tgz", "w:gz") as archive:
        archive.add(folder / "package", "package")
    return folder / "some.tgz"


def test_words_of_a_language_find_their_english_ones(tmp_path):
    said = emoji_words(pack_emojibase(tmp_path))
    assert said.names["\U0001f431"] == "cat face" and said.names["\U0001f1ef\U0001f1f5"] == "flag of Japan"
    german = said.languages["de"]
    assert german.labels["katze"] == "cat" and german.labels["roter apfel"] == "red apple"
    assert german.words["haustier"] in ("pet", "animal") and german.words["obst"] == "red apple"
    assert german.words["rote"] == "red" and german.words["mit"] == "with"
    assert german.words["japan"] == "flag of Japan" and "fruit" in said.english
    assert term("Flagge: Japan") in german.labels


def test_the_command_writes_it_into_a_checkpoint(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    checkpoint, data = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"), tmp_path / "data"
    data.mkdir()
    rows = [("cat", "animals", "train"), ("dog", "animals", "train"), ("star", "shapes", "unseen_labels")]
    with open(data / "metadata.jsonl", "w") as file:
        for label, group, split in rows:
            Image.new("RGBA", (8, 8), "red").save(data / f"{label}.png")
            row = {"file_name": f"{label}.png", "text": f"a {label}", "captions": [f"a {label}", f"{label}, furry"]}
            file.write(json.dumps({**row, "label": label, "group": group, "tags": ["pet"], "split": split}) + "\n")
    archive = pack_emojibase(tmp_path)
    monkeypatch.setattr("mmgen.datasets.npm.fetch", lambda package, folder: archive)
    asked = ["vocabulary", "--data", str(data), "--checkpoint", str(checkpoint), "--about", "a cat artist"]
    for _ in range(2):  # What is there is replaced.
        assert main(asked) == 0
    assert "2 things to draw, 5 emoji" in capsys.readouterr().out
    pipe = MultimodalGANPipeline.from_pretrained(checkpoint)
    assert [label.text for label in pipe.vocabulary.tables.labels] == ["cat", "dog"]  # None that was held out.
    assert "furry" in pipe.vocabulary.tables.words and pipe("Katze").read_as == ["cat"]
    assert main([*asked[:4], str(tmp_path / "none")]) == 1
    assert "no checkpoint at" in capsys.readouterr().err


def test_generate_prints_how_it_read(wordy_checkpoint, tmp_path, capsys):
    asked = ["generate", "\U0001f431", "--checkpoint", str(wordy_checkpoint), "--output", str(tmp_path / "a.png")]
    assert main(asked) == 0
    assert "Read as: cat face" in capsys.readouterr().out
    assert main([*asked, "--no-translation"]) == 0
    assert "Read as" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def client(wordy_checkpoint, tmp_path_factory) -> Iterator[Client]:
    with serve(wordy_checkpoint, tmp_path_factory.mktemp("wordy-studio")) as url:
        got = str(tmp_path_factory.mktemp("got"))
        yield Client(url, verbose=False, analytics_enabled=False, download_files=got)


def test_the_endpoints_tell_how_they_read(client):
    path, facts = client.predict(prompt="ein roter Apfel", style="flat", seed=2, api_name="/preview")
    assert facts["read_as"] == "a red apple, flat style"
    other, _ = client.predict(prompt="a red apple", style="flat", seed=2, api_name="/preview")
    assert Image.open(path).tobytes() == Image.open(other).tobytes()
    with Image.open(path) as image:
        assert image.text["prompt"] == "ein roter Apfel"
    names = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert not [name for name in names if name in ("/tell", "/fetch", "/draw")]
