"""A memory on disk: built by one process or two, stopped and gone on with, and looked up as the one in a checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from tars import write_shard
from test_memory import of_near_styles
from tiny import tiny_pipeline

from mmgen import MultimodalGANPipeline
from mmgen.checkpoints import open_memory
from mmgen.cli.main import main
from mmgen.errors import UserError
from mmgen.models import indexed_memory
from mmgen.models.indexed_memory import IndexedMemory, make_faiss, write_index
from mmgen.models.memory import Memory, encoder_hashes
from mmgen.training import index

WORDS = [f"{a} {b}" for a in ("red", "blue", "green", "flat") for b in ("apple", "cat", "dog", "star", "circle")]
STYLES = ("left", "right", "round")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("disk")
    tiny_pipeline(folder / "parts", memory=True).save_pretrained(folder / "tiny")
    return folder / "tiny"


@pytest.fixture(scope="module")
def pipe(checkpoint) -> MultimodalGANPipeline:
    return MultimodalGANPipeline.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """50 pictures with different captions, one of which cannot be read, and one without."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    lines = []
    for number in range(50):
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(folder / f"{number:02}.png")
        row = {"file_name": f"{number:02}.png", "text": f"{WORDS[number % 20]} {number}", "style": STYLES[number % 3]}
        lines.append(row | ({"source": "a shop", "licence": "MIT", "author": "Al"} if number % 2 else {}))
    lines[48]["text"] = ""
    (folder / "07.png").write_bytes(b"no picture")
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def build(pairs: Path, checkpoint: Path, output: Path, *more: str) -> list[str]:
    words = ["memory", "build", "--data", pairs, "--checkpoint", checkpoint, "--output", output, "--licence", "CC0-1.0"]
    return [str(word) for word in (*words, *more)]


@pytest.fixture(scope="module")
def built(pairs, checkpoint, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("built") / "memory"
    assert main(build(pairs, checkpoint, output)) == 0
    return output


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_built_is_shown(built, capsys):
    assert main(["memory", "show", str(built)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("48 pictures", "16 right", "24 a shop, by Al", "24 (no source)", "24 MIT", "24 CC0-1.0"):
        assert words in said, (words, said)
    memory = open_memory(built)
    assert isinstance(memory, IndexedMemory) and len(memory) == 48
    assert memory.about(7) == {
        **{"label": f"{WORDS[8]} 8", "style": "round"},
        **{"source": "", "licence": "CC0-1.0", "author": ""},
    }
    assert not (built / "work").exists()


def test_two_ranks_build_the_same(built, pairs, checkpoint, tmp_path, monkeypatch):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    small = "import runpy, mmgen.training.index as i\ni.PART, i.BATCH = 16, 8\n"
    small += "runpy.run_module('mmgen', run_name='__main__')"
    (tmp_path / "small.py").write_text(small)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(tmp_path / "small.py"), *build(pairs, checkpoint, tmp_path / "two")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "1 pictures were left out. 07.png could not be read" in done.stderr and "48 pictures" in done.stdout
    monkeypatch.setattr(index, "PART", 16)
    monkeypatch.setattr(index, "BATCH", 8)
    assert main(build(pairs, checkpoint, tmp_path / "one")) == 0
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert {"codes/00003.npy", "nearest.faiss"} < one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_a_stopped_build_goes_on(pairs, checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(index, "PART", 16)
    encode, calls = index._encode_part, []

    def stopped(*words):
        calls.append(words[5])
        if len(calls) == 3:
            raise KeyboardInterrupt
        encode(*words)

    monkeypatch.setattr(index, "_encode_part", stopped)
    output = tmp_path / "memory"
    assert main(build(pairs, checkpoint, output)) == 130
    assert calls == [0, 1, 2] and not (output / "index.json").exists()
    with pytest.raises(UserError, match="There is no memory"):
        open_memory(output)
    kept = (output / "codes/00001.npy").stat().st_ino
    assert main(build(pairs, checkpoint, output, "--style", "other")) == 0  # All rows have a style: the same plan.
    assert calls == [0, 1, 2, 2, 3] and (output / "codes/00001.npy").stat().st_ino == kept
    assert "Going on" in capsys.readouterr().err and len(open_memory(output)) == 48
    assert main(build(pairs, checkpoint, output)) == 1
    assert "holds a memory already" in capsys.readouterr().err


def test_work_on_something_else_is_not_mixed_in(pairs, checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(index, "_encode_part", lambda *words: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(build(pairs, checkpoint, tmp_path / "m")) == 130
    assert main(build(pairs, checkpoint, tmp_path / "m", "--author", "Di")) == 1
    assert "the work on a memory of other pictures" in capsys.readouterr().err


def test_shards_are_read_and_what_holds_nothing_is_told(pairs, checkpoint, tmp_path, capsys):
    members = {"a.png": (pairs / "00.png").read_bytes(), "a.txt": b"a red cat"}
    write_shard(tmp_path / "some-000.tar", members)
    assert main(build(tmp_path / "some-{000..000}.tar", checkpoint, tmp_path / "shards")) == 0
    assert open_memory(tmp_path / "shards").about(0)["label"] == "a red cat"
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/x.png").write_bytes(b"x")
    capsys.readouterr()
    for data, more, words in (
        (tmp_path / "bad", (), "has a caption"),
        (pairs, ("--split", "test"), "has no split test; it has train"),
        (tmp_path / "none", (), "no folder or zip file"),
    ):
        assert main(build(data, checkpoint, tmp_path / "out", *more)) == 1
        assert words in capsys.readouterr().err
    (tmp_path / "bad/x.txt").write_text("a cat")
    assert main(build(tmp_path / "bad", checkpoint, tmp_path / "out")) == 1
    assert "None of the pictures can be read" in capsys.readouterr().err


@pytest.fixture
def both(built, pairs, pipe) -> tuple[Memory, IndexedMemory]:
    """The same entries, to be compared one by one and by faiss."""
    disk = IndexedMemory(built)
    about = [disk.about(entry) for entry in range(len(disk))]
    texts = [one["label"] for one in about]
    flat = Memory.build(
        latents=disk.latents(torch.arange(48)),
        keys=torch.from_numpy(disk._keys[disk._text[:]].astype(np.float32)),
        texts=texts,
        text=range(48),
        concepts=texts,
        styles=[one["style"] for one in about],
        sources=[(one["source"], one["licence"], one["author"]) for one in about],
        **encoder_hashes(pipe.autoencoder, pipe.text_encoder),
    )
    return flat, disk


@pytest.fixture(params=["flat", "lists"])
def kind(request, monkeypatch) -> str:
    """Whether faiss compares all keys or searches inverted lists, and bits instead of numbers tell labels apart."""
    if request.param == "lists":
        monkeypatch.setattr(indexed_memory, "FLAT_UP_TO", 1)
        monkeypatch.setattr(indexed_memory, "ONE_BY_ONE", 0)
        monkeypatch.setattr(indexed_memory, "PROBES", 1)
    return request.param


def test_faiss_finds_what_comparing_all_finds(both, kind):
    flat, disk = both
    if kind == "lists":
        disk._faiss, disk._lists = make_faiss(disk._keys[:]), 12
    words = flat.text_keys[[3, 30]]
    excluded = torch.zeros(1, 48, dtype=torch.bool)
    excluded[0, [0, 5, 6]] = True
    for style in (-1, 0, 2):
        for query in (words[:1], words[None]):
            for left_out, never_same in ((None, False), (excluded, True)):
                options = {"excluded": left_out, "never_same": never_same, "style": torch.tensor([style])}
                near = [memory.lookup(query, temperature=0.0, **options) for memory in both]
                assert torch.equal(near[0].entries, near[1].entries) or kind == "lists"
                assert torch.allclose(near[0].likeness, near[1].likeness, atol=1e-5 if kind == "flat" else 0.1)
                for seed in range(5):
                    ours, theirs = (
                        memory.lookup(query, generator=torch.Generator().manual_seed(seed), temperature=0.05, **options)
                        for memory in both
                    )
                    if kind == "flat":
                        assert torch.equal(ours.entries, theirs.entries)
                        assert torch.allclose(ours.latents, theirs.latents, atol=0.2)
                    assert torch.equal(ours.weights, theirs.weights)
                    assert not never_same or not {0, 5, 6} & set(theirs.entries[theirs.weights > 0].tolist())
                    own = disk._style[:][theirs.entries[0].numpy()] == style
                    assert own.tolist() == ([False] * 4 if style < 0 else [False, False, True, True])
    assert torch.allclose(flat.nearest(words), disk.nearest(words), atol=1e-4)
    assert torch.allclose(
        flat.likeness(words, torch.tensor([1, 2])), disk.likeness(words, torch.tensor([1, 2])), atol=1e-4
    )
    styles = [memory.likeness_by_style(words, excluded[0]) for memory in both]
    assert torch.allclose(styles[0], styles[1], atol=1e-4) or kind == "lists"


def test_styles_are_as_near_on_disk(tmp_path):
    memory = of_near_styles()
    (tmp_path / "codes").mkdir()
    np.save(tmp_path / "codes/00000.npy", memory.codes.numpy())
    config = memory.config
    write_index(
        tmp_path,
        [len(memory)],
        memory.levels,
        memory.text_keys.numpy(),
        config.texts,
        *(getattr(memory, name).numpy() for name in ("text", "style", "source")),
        config.styles,
        [("here", "MIT", "Ann")],
        config.latent_size,
        {"image_encoder_hash": "i", "text_encoder_hash": "t"},
    )
    disk = IndexedMemory(tmp_path)
    assert torch.allclose(disk.affinity(), memory.affinity(), atol=1e-6) and memory.affinity().any()
    for style in (0, 1, 2, -1):
        found = [one.lookup(memory.text_keys[[4]], torch.tensor([style]), temperature=0.0) for one in (memory, disk)]
        assert torch.equal(found[0].entries, found[1].entries)


def test_drawing_from_disk_is_drawing_from_the_same_memory(both, pipe):
    flat, disk = both
    drawn = []
    for memory in (disk, flat):
        mine = MultimodalGANPipeline(**pipe.components)
        mine.use_memory(memory)
        drawn.append(
            [mine(f"a red apple {n}, round style", seed=n, memory_dropped=[0], memory_pinned=[9]) for n in range(3)]
        )
    for ours, theirs in zip(*drawn, strict=True):
        assert [one.entry for one in ours.drawn_from[0]] and len(ours.drawn_from[0]) == 4
        assert {one.entry for one in ours.drawn_from[0]} == {one.entry for one in theirs.drawn_from[0]}
        assert {one.label for one in ours.drawn_from[0]} == {one.label for one in theirs.drawn_from[0]}
    with pytest.raises(ValueError, match="one at a time"):
        disk.lookup(flat.text_keys[:2], torch.tensor([0, 0]))


def test_the_command_draws_from_it(built, checkpoint, tmp_path, capsys):
    draw = [
        "generate",
        "a red apple, round style",
        "--checkpoint",
        str(checkpoint),
        "--output",
        str(tmp_path / "x.png"),
    ]
    assert main(draw) == 0
    own = (tmp_path / "x.png").read_bytes()
    assert main([*draw, "--memory", str(built)]) == 0
    assert (tmp_path / "x.png").read_bytes() != own
    (tmp_path / "empty").mkdir()
    assert main([*draw, "--memory", str(tmp_path / "empty")]) == 1
    assert "There is no memory in" in capsys.readouterr().err


SPOILED = {
    "index.json": (b"{", "not whole"),
    "keys.npy": (b"\x80\x04K\x01.", "not whole"),
    "codes/00000.npy": (b"", "not whole"),
    "texts.txt": (b"a\n", "texts.txt is cut short"),
    "nearest.faiss": (b"no index", "not whole"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_cut_short_or_a_pickle_is_told(built, pipe, tmp_path, name):
    for path, content in contents(built).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    content, words = SPOILED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as told:
        pipe.use_memory(open_memory(tmp_path))
    assert str(told.value).endswith("Build it again.") and pipe.memory_on_disk is None


def test_a_memory_by_other_encoders_is_told(built, pipe, tmp_path):
    for path, content in contents(built).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    said = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**said, "text_encoder_hash": "0"}))
    with pytest.raises(UserError, match="made by another text encoder"):
        pipe.use_memory(open_memory(tmp_path))


@pytest.mark.parametrize("first", ["faiss", "torch"])
def test_faiss_and_torch_compute_beside_each_other(first):
    code = f"""
import {first}, faiss, torch
import numpy as np
x = np.eye(64, dtype=np.float32)
index = faiss.IndexFlatIP(64)
index.add(x)
for _ in range(5):
    assert (torch.from_numpy(x) @ torch.ones(64, 64)).sum() == 4096
    assert index.search(x, 1)[1][:, 0].tolist() == list(range(64))
print("both")
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.strip() == "both" and not done.stderr, done.stderr
