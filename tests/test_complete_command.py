"""`mmgen complete` and the endpoint `/complete`: a set on the disk that goes on, and one that is streamed."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from conftest import serve
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from tiny import tiny_pipeline

from mmgen.cli.main import main
from mmgen.data.folder import load_pairs
from mmgen.errors import UserError
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.quota import VISITOR
from mmgen.services.completed_set import CompletedSet, wanted_labels
from mmgen.services.completion import MAX_LABELS, CompletionRequest
from mmgen.services.drafts import DraftService
from mmgen.services.inference import InferenceService

WORDS = ("red circle", "blue square", "green circle", "red apple", "blue circle", "green square")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_pipeline(folder / "parts", memory=True).save_pretrained(folder / "pipeline")
    return folder / "pipeline"


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> Path:
    """Six pictures of one's own with a word or two each."""
    folder = tmp_path_factory.mktemp("mine")
    rng = np.random.default_rng(3)
    rows = []
    for word in WORDS:
        Image.fromarray(rng.integers(0, 255, (40, 40, 4), dtype=np.uint8)).save(folder / f"{word}.png")
        rows.append({"file_name": f"{word}.png", "text": word})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def command(checkpoint, mine, output, labels, *more) -> list[str]:
    asked = ["complete", "--checkpoint", str(checkpoint), "--data", str(mine), "--output", str(output)]
    return [*asked, "--labels", str(labels), "--author", "Me", "--licence", "CC0-1.0", *more]


def test_a_set_is_drawn_stopped_and_gone_on_with(checkpoint, mine, tmp_path, capsys, monkeypatch):
    labels, output = tmp_path / "labels.txt", tmp_path / "set"
    labels.write_text("blue cat\n\nred apple\ngreen star\nblue cat\nblue dog\n")
    draw = MultimodalGANPipeline.draw
    calls = []

    def stopped(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw(self, *arguments, **options)

    monkeypatch.setattr(MultimodalGANPipeline, "draw", stopped)
    assert main(command(checkpoint, mine, output, labels)) == 130
    assert [row["label"] for row in rows_of(output) if not row["own"]] == ["blue cat", "green star"]
    assert (output / "sheet.png").is_file() and (output / "README.md").is_file()
    before = (output / "pictures" / "blue cat.png").read_bytes()
    with open(output / "metadata.jsonl", "a") as file:
        file.write('{"file_name": "pict')  # As a process leaves it that is killed.
    assert main(command(checkpoint, mine, output, labels)) == 0
    said = capsys.readouterr().out
    assert "1 of the labels are your own pictures and are not drawn: red apple." in said and "[2/2]" in said
    rows = rows_of(output)
    assert [row["label"] for row in rows if row["own"]] == list(WORDS)
    assert [row["label"] for row in rows if not row["own"]] == ["blue cat", "green star", "blue cat", "blue dog"]
    assert [row["seed"] for row in rows if not row["own"]] == [0, 0, 1, 0]
    assert (output / "pictures" / "blue cat.png").read_bytes() == before
    assert {path.name for path in (output / "pictures").iterdir()} == {Path(row["file_name"]).name for row in rows}
    drawn = next(row for row in rows if row["label"] == "blue dog")
    assert {(one["own"], one["licence"]) for one in drawn["drawn_from"]} >= {(True, "CC0-1.0")}
    assert {one["source"] for one in drawn["drawn_from"] if not one["own"]} <= {"the flat set", "the other set"}
    card = (output / "README.md").read_text()
    assert "6 are the author's own" in card and "4 were drawn" in card and "| CC0-1.0 | Me |" in card
    assert Image.open(output / "sheet.png").width == 10 * 132 + 4
    calls.extend([1] * 9)
    assert main(command(checkpoint, mine, output, labels)) == 0
    assert "nothing left to draw" in capsys.readouterr().out and rows_of(output) == rows
    assert main(command(checkpoint, mine, output, labels, "--seed", "5")) == 1
    assert "was begun with another seed" in capsys.readouterr().err


def test_a_set_is_an_image_folder(checkpoint, mine, tmp_path, monkeypatch):
    labels, output = tmp_path / "labels.txt", tmp_path / "set"
    labels.write_text("blue cat\n")
    assert main(command(checkpoint, mine, output, labels)) == 0
    read = load_pairs(output)["train"]
    assert read["text"][:] == [*WORDS, "blue cat"] and read["author"][0] == "Me"
    loaded = datasets.load_dataset(str(output), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["text"][:] == [*WORDS, "blue cat"] and loaded[6]["image"].size == (32, 32)


def test_labels_are_all_a_style_a_word_or_a_file(checkpoint, tmp_path):
    memory = MultimodalGANPipeline.from_pretrained(checkpoint).memory
    assert len(wanted_labels("all", memory)) == 12 and len(wanted_labels("Flat", memory)) == 12
    assert wanted_labels("cat", memory) == ["red cat", "blue cat", "green cat"]
    with pytest.raises(UserError, match="no file 'ca', and no label"):
        wanted_labels("ca", memory)
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(UserError, match="names nothing"):
        wanted_labels(str(tmp_path / "empty.txt"), memory)


def test_what_stands_there_is_not_touched(checkpoint, mine, tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("Dear")
    assert main(command(checkpoint, mine, tmp_path, "all")) == 1
    assert "holds something else than a set" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    (tmp_path / "set").mkdir()
    assert CompletedSet(tmp_path / "set", {"seed": 0}).labels_to_draw(["a", "a"]) == ([("a", 0), ("a", 1)], [])


def test_a_model_without_a_memory_is_told(tiny_checkpoint, mine, tmp_path, capsys):
    assert main(command(tiny_checkpoint, mine, tmp_path / "set", "all")) == 1
    assert "has no memory" in capsys.readouterr().err and not (tmp_path / "set").exists()


@pytest.fixture(scope="module")
def client(checkpoint, tmp_path_factory):
    with serve(checkpoint, tmp_path_factory.mktemp("studio")) as url:
        got = str(tmp_path_factory.mktemp("got"))
        yield Client(url, verbose=False, analytics_enabled=False, download_files=got)


def files_of(mine: Path) -> list:
    return [handle_file(str(mine / f"{word}.png")) for word in WORDS]


def test_the_endpoint_streams_a_set(client, mine):
    ask = {"pictures": files_of(mine), "captions": list(WORDS), "labels": ["blue cat", "green star", "blue cat"]}
    job = client.submit(**ask, seeds=[7], api_name="/complete")
    last = job.result(timeout=300)
    assert [one["done"] for one in job.outputs()] == [1, 2, 3] and last["of"] == 3
    assert [(one["label"], one["seed"]) for one in last["drawn"]] == [
        ("blue cat", 7),
        ("green star", 7),
        ("blue cat", 8),
    ]
    assert {one["own"] for one in last["drawn"][0]["drawn_from"]} == {True, False}
    assert "adapted from" in last["attributions"]
    paths = [Path(file if isinstance(file, str) else file["path"]) for file in last["files"]]
    assert [path.name for path in paths] == ["blue cat.png", "green star.png", "blue cat-2.png"]
    assert all(Image.open(path).size == (32, 32) for path in paths)
    assert set(client.predict(api_name="/known_labels")) >= {"blue cat", "green star"}


def test_the_endpoint_takes_a_draft_and_tells_what_is_wrong(client, mine):
    draft, _ = client.predict(files=files_of(mine), captions=list(WORDS), api_name="/check_pairs")
    assert client.predict(draft=draft, labels=["blue cat"], api_name="/complete")["done"] == 1
    for change, sentence in (
        ({"draft": "0" * 32}, "not there any more"),
        ({"labels": []}, "no labels"),
        ({"labels": ["cat"] * (MAX_LABELS + 1)}, f"ask for {MAX_LABELS} at a time"),
        ({"labels": [3]}, "list of texts"),
        ({"seeds": [-1]}, "The seed is -1"),
        ({"draft": ""}, "no pictures"),
        ({"model": "nobody"}, "no model"),
    ):
        with pytest.raises(AppError, match=sentence):
            client.predict(**{"draft": draft, "labels": ["blue cat"], **change}, api_name="/complete")


def test_a_visitor_has_a_quota_and_own_drafts_only(monkeypatch, tmp_path, checkpoint, mine):
    monkeypatch.setenv("MMGEN_HOME", str(tmp_path))
    service, drafts = InferenceService(MultimodalGANPipeline.from_pretrained(checkpoint)), DraftService()
    paths = tuple(str(mine / f"{word}.png") for word in WORDS)
    many = CompletionRequest(paths * 100, WORDS * 100, labels=("blue cat",))
    with pytest.raises(UserError, match=f"may have {VISITOR.pairs} here"):
        many.draw("visitor-a", drafts, service)
    draft = drafts.new_draft("visitor-a")
    drafts.draft("visitor-a", draft).add_images(list(paths), list(WORDS))
    request = CompletionRequest(draft=draft, labels=("blue cat",))
    [one] = request.draw("visitor-a", drafts, service)  # Of a memory that is frozen.
    assert one.image.size == (32, 32)
    with pytest.raises(UserError, match="not there any more"):
        request.draw("visitor-b", drafts, service)
