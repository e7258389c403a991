"""A set as the page draws it: what a person may give, a set that goes on, and what is taken home or published."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pytest
from conftest import ROOT
from hub_server import HubServer
from PIL import Image
from tiny import tiny_pipeline

from mmgen.cli.main import main
from mmgen.errors import UserError
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.quota import VISITOR
from mmgen.services import set_drawing
from mmgen.services.drafts import DraftService
from mmgen.services.drawn_set import MAX_LABEL, DrawnSet, SetOptions, drawn_by
from mmgen.services.inference import InferenceService
from mmgen.services.models import Models
from mmgen.services.set_drawing import NO_CAPTIONS, NO_PAIRS, SetService, grouped
from mmgen.services.set_parcel import SetParcels, SetRequest
from mmgen.style_distance import StyleMetric

WORDS = ("red circle", "blue square", "green circle", "red square", "blue circle", "green square")
OPTIONS = SetOptions()
ME = "local"


@pytest.fixture(scope="module")
def pipe(tmp_path_factory) -> MultimodalGANPipeline:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_pipeline(folder / "parts", memory=True).save_pretrained(folder / "pipeline")
    return MultimodalGANPipeline.from_pretrained(folder / "pipeline")


@pytest.fixture
def sets(pipe, tmp_path, monkeypatch) -> SetService:
    monkeypatch.setenv("MMGEN_HOME", str(tmp_path / "home"))
    return SetService(Models(pipe), DraftService())


def give(sets: SetService, folder: Path, captions=WORDS, owner: str = ME, mode: str = "RGBA", side: int = 24) -> str:
    """Give pictures of noise with captions, and get the draft's id."""
    rng = np.random.default_rng(len(captions))
    paths = []
    for number in range(len(captions)):
        paths.append(folder / f"{number}.png")
        Image.fromarray(rng.integers(0, 255, (side, side, len(mode)), dtype=np.uint8)).save(paths[-1])
    draft = sets.drafts.new_draft(owner)
    sets.drafts.draft(owner, draft).add_images(paths, list(captions))
    return draft


def wait(sets: SetService, draft: str, owner: str = ME):
    """Wait until nothing is drawn any more, and get the set."""
    deadline = time.monotonic() + 120
    while sets.is_busy(owner, draft):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return sets.drawn_set(owner, draft).read()


def ids(state, *labels: str) -> set[int]:
    return {one.id for one in state.drawings if one.label in labels}


def test_labels_are_drawn_and_what_is_there_is_drawn_once(sets, tmp_path):
    draft = give(sets, tmp_path)
    notes = sets.draw(ME, draft, ["blue cat", "a Blue  cat", "green star", "red circle", " "], OPTIONS)
    assert notes == [
        '"red circle" is among your own pictures and is not drawn.',
        '"a Blue cat" is in the set already and is drawn once. Draw it again there for another one.',
    ]
    state = wait(sets, draft)
    assert [(one.label, one.seed, one.waiting) for one in state.drawn] == [
        ("blue cat", 0, False),
        ("green star", 0, False),
    ]
    told = drawn_by(sets.drawn_set(ME, draft).path(state.drawings[0]))
    assert told["seed"] == "0" and {share["own"] for share in told["drawn_from"]} == {True, False}
    assert "is in the set already" in sets.draw(ME, draft, ["green star", "red dog"], OPTIONS)[0]
    assert len(wait(sets, draft).drawn) == 3


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_pictures_work_and_are_told(sets, tmp_path, count):
    draft = give(sets, tmp_path, WORDS[:count])
    sets.draw(ME, draft, ["blue cat"], OPTIONS)
    state = wait(sets, draft)
    assert len(state.drawn) == 1 and "Give more, such as twenty" in " ".join(state.notes)


def test_five_hundred_pictures_work(sets, tmp_path):
    draft = give(sets, tmp_path, [f"{WORDS[n % 6]} {n}" for n in range(500)], side=8)
    sets.draw(ME, draft, ["blue cat"], OPTIONS)
    assert len(wait(sets, draft).drawn) == 1


def test_photographs_strange_words_and_other_styles_are_told(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(StyleMetric, "apart", lambda self, vectors: [2])
    draft = give(sets, tmp_path, [*WORDS, "", ""], mode="RGB")
    sets.draw(ME, draft, ["blue cat"], OPTIONS)
    said = " ".join(wait(sets, draft).notes)
    assert "The pictures have no transparency" in said and "cut it out" in said
    assert '"green circle" stands apart from the others' in said
    assert "2 of your pictures have no caption and are left out" in said
    monkeypatch.setattr("mmgen.completion.UNLIKE", 2.0)
    monkeypatch.setattr(StyleMetric, "apart", lambda self, vectors: list(range(6)))
    sets.draw_again(ME, draft, SetOptions(cut_out=True))
    said = " ".join(wait(sets, draft).notes)
    assert "No caption names anything that the memory knows" in said and "by a program such as GIMP" in said
    assert "little of their style in common" in said


@pytest.mark.parametrize(
    ("labels", "options", "sentence"),
    [
        ([], OPTIONS, "no labels to draw"),
        ([" ", 3, None], OPTIONS, "no labels to draw"),
        (["x" * (MAX_LABEL + 1)], OPTIONS, "has 201 letters"),
        (["blue cat"], SetOptions(seed=-1), "The seed is -1"),
        (["blue cat"], SetOptions(seed=None), "The seed is None"),
        (["blue cat"], SetOptions(truncation=2), "The truncation is 2"),
        (["blue cat"], SetOptions(model="nobody"), "There is no model 'nobody'"),
        (["blue cat"], SetOptions(cut_out="yes"), "whether to cut out"),
    ],
)
def test_bad_values_give_a_sentence_and_nothing_is_drawn(sets, tmp_path, labels, options, sentence):
    draft = give(sets, tmp_path)
    with pytest.raises(UserError, match=sentence):
        sets.draw(ME, draft, labels, options)
    assert wait(sets, draft).drawings == []


def test_what_is_missing_is_told(sets, tmp_path, tiny_checkpoint):
    with pytest.raises(UserError, match=NO_PAIRS):
        sets.draw(ME, "", ["blue cat"], OPTIONS)
    with pytest.raises(UserError, match=NO_PAIRS):
        sets.draw(ME, sets.drafts.new_draft(ME), ["blue cat"], OPTIONS)
    draft = give(sets, tmp_path, ["", ""])
    with pytest.raises(UserError, match=NO_CAPTIONS):
        sets.draw(ME, draft, ["blue cat"], OPTIONS)
    other = SetService(Models(MultimodalGANPipeline.from_pretrained(tiny_checkpoint)), sets.drafts)
    with pytest.raises(UserError, match="This model has no memory"):
        other.known(ME, "")
    draft = give(sets, tmp_path)
    other.draw(ME, draft, ["blue cat"], OPTIONS)
    assert len(wait(other, draft).waiting) == 1 and "This model has no memory" in other.run(ME, draft).error
    with pytest.raises(UserError, match="nothing left to draw"):
        sets.go_on(ME, give(sets, tmp_path))


def test_a_set_half_drawn_is_kept_and_goes_on(sets, pipe, tmp_path, monkeypatch):
    draft, draw = give(sets, tmp_path), InferenceService.draw_in

    def stopping(self, style, label, *arguments, **options):
        if label == "green star":
            sets.stop(ME, draft)
        return draw(self, style, label, *arguments, **options)

    monkeypatch.setattr(InferenceService, "draw_in", stopping)
    labels = ["blue cat", "green star", "red dog", "green dog"]
    sets.draw(ME, draft, labels, SetOptions(seed=4))
    state = wait(sets, draft)
    assert [one.label for one in state.drawn] == labels[:2]
    files = [one.file for one in state.drawn]
    monkeypatch.undo()
    monkeypatch.setenv("MMGEN_HOME", str(tmp_path / "home"))
    again = SetService(Models(pipe), DraftService())  # As after a restart.
    again.go_on(ME, draft)
    state = wait(again, draft)
    assert [one.label for one in state.drawn] == labels and [one.file for one in state.drawn[:2]] == files
    assert {one.seed for one in state.drawings} == {4} and not state.waiting


def test_what_breaks_off_is_told_and_can_be_gone_on_with(sets, tmp_path, monkeypatch):
    draft = give(sets, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(InferenceService, "draw_in", lambda *args, **options: 1 / 0)
        sets.draw(ME, draft, ["blue cat"], OPTIONS)
        assert len(wait(sets, draft).waiting) == 1
    assert "broke off (ZeroDivisionError" in sets.run(ME, draft).error
    sets.go_on(ME, draft)
    assert len(wait(sets, draft).drawn) == 1 and sets.run(ME, draft).error == ""


def test_single_ones_are_kept_drawn_again_brought_back_and_dropped(sets, tmp_path):
    draft = give(sets, tmp_path)
    sets.draw(ME, draft, ["blue cat", "green star", "red dog"], OPTIONS)
    before = wait(sets, draft)
    made = sets.drawn_set(ME, draft)
    sets.act(ME, draft, "redraw", ids(before, "green star"))
    after = wait(sets, draft)
    assert [a.file == b.file for a, b in zip(before.drawings, after.drawings, strict=True)] == [True, False, True]
    assert after.drawings[1].seed != 0 and made.path(before.drawings[1]).is_file()
    sets.act(ME, draft, "back", ids(before, "green star"))
    back = wait(sets, draft).drawings[1]
    assert (back.file, back.seed) == (before.drawings[1].file, 0)
    sets.act(ME, draft, "keep", ids(before, "blue cat"))
    assert "2 drawings are drawn again" in sets.draw_again(ME, draft, OPTIONS)
    again = wait(sets, draft)
    assert again.drawings[0].file == before.drawings[0].file != again.drawings[1].file
    pixels = [np.asarray(Image.open(made.path(one))) for one in (again.drawings[1], back)]
    assert np.array_equal(*pixels)  # The same seed and model.
    sets.act(ME, draft, "drop", ids(before, "blue cat", "red dog"))
    assert [one.label for one in wait(sets, draft).drawings] == ["green star"]
    assert len(list((made.folder / "pictures").iterdir())) == 2  # It, and what it was before.
    for act, some, sentence in (("keep", set(), "No drawing is chosen"), ("paint", {1}, "something else")):
        with pytest.raises(UserError, match=sentence):
            sets.act(ME, draft, act, some)


def test_one_is_corrected_by_a_reference(sets, tmp_path):
    draft = give(sets, tmp_path)
    sets.draw(ME, draft, ["blue cat"], OPTIONS)
    before = wait(sets, draft).drawings[0]
    made = sets.drawn_set(ME, draft)
    first = np.asarray(Image.open(made.path(before)))
    Image.new("RGB", (40, 30), "red").save(tmp_path / "sketch.png")
    sets.correct(ME, draft, before.id, tmp_path / "sketch.png", 2.0)
    after = wait(sets, draft).drawings[0]
    assert after.seed == before.seed and made.reference(after).is_file()
    assert not np.array_equal(first, np.asarray(Image.open(made.path(after))))
    (tmp_path / "no.png").write_text("I am no picture")
    for id, path, weight, sentence in (
        (before.id, "no.png", 1.0, "could not be read as a picture"),
        (before.id, "sketch.png", 3, "The weight is 3"),
        (99, "sketch.png", 1.0, "not there any more"),
    ):
        with pytest.raises(UserError, match=sentence):
            sets.correct(ME, draft, id, tmp_path / path, weight)
    sets.act(ME, draft, "plain", {before.id})
    plain = wait(sets, draft).drawings[0]
    assert np.array_equal(first, np.asarray(Image.open(made.path(plain)))) and not list(
        (made.folder / "references").iterdir()
    )


def test_what_was_dropped_or_asked_for_otherwise_is_not_put_in(pipe, tmp_path):
    made = DrawnSet(tmp_path / "set")
    made.add(["blue cat", "red dog"], [])
    first, second = made.read().drawings
    one = next(pipe.complete([Image.new("RGBA", (8, 8), "red")], ["circle"], ["blue cat"]))
    made.drop([first.id])
    made.put(first, one, "tiny", 36)
    made.redraw([second.id])
    made.put(second, one, "tiny", 36)
    assert [(left.label, left.file, left.waiting) for left in made.read().drawings] == [("red dog", "", True)]
    assert not list((tmp_path / "set" / "pictures").iterdir())


def test_visitors_reach_their_own_sets_within_their_quota(sets, tmp_path, monkeypatch):
    draft = give(sets, tmp_path, owner="visitor-a")
    with pytest.raises(UserError, match=f"it may have {VISITOR.pairs} here"):
        sets.draw("visitor-a", draft, [f"cat {n}" for n in range(501)], OPTIONS)
    for do in (lambda: sets.drawn_set("visitor-b", draft), lambda: sets.draw("visitor-b", draft, ["cat"], OPTIONS)):
        with pytest.raises(UserError, match="not there any more|no pictures yet"):
            do()
    monkeypatch.setattr(set_drawing, "disk_use", lambda folder: 3e9)
    with pytest.raises(UserError, match="Your 2,000 MB here are full"):
        sets.draw("visitor-a", draft, ["cat"], OPTIONS)


def test_labels_are_grouped_by_words_and_styles(sets, pipe):
    labels, groups = sets.known(ME, "")
    assert len(labels) == 12 and groups == grouped(labels, pipe.memory)
    found = {(one.name, one.is_style): [labels[n] for n in one.labels] for one in groups}
    assert found["cat", False] == ["red cat", "blue cat", "green cat"] and len(found["flat", True]) == 12


def quiet(share: float, words: str) -> None:
    pass


def test_a_set_is_taken_home_with_sizes(sets, tmp_path, capsys):
    draft = give(sets, tmp_path)
    parcels, request = SetParcels(sets), SetRequest(author="Me", licence="CC0-1.0", source="https://me.example")
    with pytest.raises(UserError, match="Nothing is drawn yet"):
        parcels.download(ME, draft, request, [32], tmp_path / "set.zip", quiet)
    sets.draw(ME, draft, ["blue cat", "green star"], OPTIONS)
    state = wait(sets, draft)
    for some, sizes, sentence in ((SetRequest(kept_only=True), [], "No drawing is kept"), (request, [33], "sizes")):
        with pytest.raises(UserError, match=sentence):
            parcels.download(ME, draft, some, sizes, tmp_path / "set.zip", quiet)
    sets.act(ME, draft, "keep", ids(state, "green star"))
    only = SetRequest(kept_only=True, with_own=False, author="Me", licence="CC0-1.0")
    with zipfile.ZipFile(parcels.download(ME, draft, only, [16], tmp_path / "kept.zip", quiet)) as packed:
        assert "16px/green star.png" in packed.namelist() and "pictures/blue cat.png" not in packed.namelist()
        [row] = [json.loads(line) for line in packed.read("metadata.jsonl").splitlines()]
    assert not row["own"] and {share["author"] for share in row["drawn_from"] if share["own"]} == {"Me"}
    with zipfile.ZipFile(parcels.download(ME, draft, request, [], tmp_path / "set.zip", quiet)) as packed:
        packed.extractall(tmp_path / "taken")
    assert main(["publish", str(tmp_path / "taken"), "ann/taken", "--dry-run"]) == 0
    assert "pictures/blue cat.png" in capsys.readouterr().out
    loaded = datasets.load_dataset(str(tmp_path / "taken"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["text"][:] == [*WORDS, "blue cat", "green star"] and loaded["author"][0] == "Me"


PUBLISH = """
import sys
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.services.drafts import DraftService
from mmgen.services.models import Models
from mmgen.services.set_drawing import SetService
from mmgen.services.set_parcel import SetParcels, SetRequest
sets = SetService(Models(MultimodalGANPipeline.from_pretrained(sys.argv[1])), DraftService())
parcels, request = SetParcels(sets), SetRequest(author="Me", licence="CC0-1.0")
ask = ("local", sys.argv[2], "ann/my-set", request)
look = parcels.look(*ask, lambda share, words: None)
sent = parcels.send(*ask, sys.argv[3] == "private", None, lambda share, words: print(words))
assert look.card == sent.card and look.commit is None and [one.path for one in look.files] == [
    one.path for one in sent.files
]
print(sent.url)
"""


def test_a_set_is_published_as_a_data_set(sets, pipe, tmp_path):
    draft = give(sets, tmp_path)
    sets.draw(ME, draft, ["blue cat", "green star"], OPTIONS)
    state = wait(sets, draft)
    with HubServer() as hub:

        def publish(how: str) -> subprocess.CompletedProcess:
            told = hub.environment(tmp_path / "hf", hub.token("ann"))
            environment = {**os.environ, **told, "PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-c", PUBLISH, str(pipe.name_or_path), draft, how]
            return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=240)

        done = publish("private")
        assert done.returncode == 0, done.stderr
        assert f"{hub.url}/datasets/ann/my-set" in done.stdout
        there = hub.repositories["datasets/ann/my-set"]
        files = there.files()
        assert there.private and {"README.md", "metadata.jsonl", "sheet.png", "pictures/blue cat.png"} <= set(files)
        card = files["README.md"].decode()
        assert card.startswith("---\nlicense: mit\n") and "# my-set" in card and "| CC0-1.0 | Me |" in card
        assert hub.token("ann") not in card + done.stdout + done.stderr
        sets.act(ME, draft, "drop", ids(state, "blue cat"))
        assert publish("private").returncode == 0
        assert "pictures/blue cat.png" not in there.files() and "pictures/green star.png" in there.files()
        assert "is there already, private" in publish("public").stderr


def test_a_stamp_changes_with_all_that_is_published(sets, tmp_path):
    draft = give(sets, tmp_path)
    parcels = SetParcels(sets)
    sets.draw(ME, draft, ["blue cat"], OPTIONS)
    state = wait(sets, draft)
    stamp = parcels.stamp(ME, draft, "ann/x", SetRequest())
    assert stamp == parcels.stamp(ME, draft, " ann/x", SetRequest()) != parcels.stamp(ME, draft, "ann/y", SetRequest())
    assert stamp != parcels.stamp(ME, draft, "ann/x", SetRequest(licence="MIT"))
    sets.act(ME, draft, "keep", ids(state, "blue cat"))
    assert stamp != parcels.stamp(ME, draft, "ann/x", SetRequest())
    with pytest.raises(UserError, match="cannot be the name of a data set"):
        parcels.look(ME, draft, "nonsense", SetRequest(), quiet)
    with pytest.raises(UserError, match="private by true or false"):
        parcels.send(ME, draft, "ann/x", SetRequest(), "no", None, quiet)
