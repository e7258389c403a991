"""A training carried to a machine without a network and home again, word for word, at a tiny size."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_data import write_autoencoder, write_encoders, write_shapes

from mmgen import MultimodalGANPipeline
from mmgen.bundle.pack import pack_encoders, unpack_encoders
from mmgen.bundle.parts import read_parts, whole_series, write_parts
from mmgen.bundle.result import deliver
from mmgen.cli.main import main
from mmgen.datasets import npm
from mmgen.errors import UserError
from mmgen.models.encoders import load_text_encoder, text_tokens

MISSING = ("gradio", "resvg_py", "tensorboard")
"""Packages that are not there."""


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A checkpoint with a memory, made by the whole recipe, beside its data."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "data").mkdir()
    write_shapes(folder / "data")
    write_encoders(folder / "encoders")
    write_autoencoder(folder / "autoencoder")
    words = ["train", "default", "--data", folder / "data", "--encoders", folder / "encoders", "--minutes", 0.02]
    words += ["--autoencoder", folder / "autoencoder", "--output", folder / "out", "--cache", folder / "cache"]
    words += ["--size", 64, "--width", 32, "--depth", 2, "--batch-size", 4, "--log-with", "none"]
    words += ["--captioner-share", 0, "--gan-options", "--image-size 64"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmgen.training.gan.adversarial.PREVIEW_STEPS", 4)  # What it learns is asked elsewhere.
        assert main([str(word) for word in words]) == 0
    return folder


def test_a_bundle_trains_elsewhere_and_comes_home(base, tmp_path, capsys):
    checkpoint = base / "out" / "pipeline"
    words = ["bundle", "--data", base / "data", "--base", checkpoint, "--max-mib", 0.5, "--no-wheels"]
    options = "--size 64 --batch-size 4 --minutes 0.05 --gan-options '--image-size 64 --regression-share 0.4'"
    words += ["--output", tmp_path / "bundle", "--train-options", options]
    assert main([str(word) for word in words]) == 0
    parts = sorted((tmp_path / "bundle").iterdir(), key=lambda path: int(path.name[5:]))
    assert len(parts) > 1 and f"sh part-{len(parts)}/run.sh SECONDS" in capsys.readouterr().out
    assert all(sum(file.stat().st_size for file in part.iterdir()) <= 0.5 * 2**20 for part in parts)

    # Another machine: nothing but the parts, one after the other, and an interpreter without some packages.
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in MISSING:
        (blocked / f"{name}.py").write_text("raise ImportError('not there')")
    there = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    there |= {"PYTHONPATH": str(blocked), "MMGEN_BUNDLE": str(tmp_path / "there"), "OUT": str(tmp_path / "out")}

    def run(part: Path, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["sh", str(part / "run.sh"), *words], cwd=tmp_path, env=there, capture_output=True, text=True, timeout=600
        )

    early = run(parts[-1], "60")
    assert early.returncode == 1 and "Parts are missing" in early.stderr
    for part in parts[:-1]:
        assert run(part).returncode == 0
        shutil.rmtree(part)
    done = run(parts[-1], "550")  # It ends when its minutes are over.
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = sorted((tmp_path / "out").iterdir())
    assert results and all(file.stat().st_size <= 16 * 2**20 for file in results)

    # Home.
    joined = tmp_path / "home" / "joined"
    words = ["unbundle", tmp_path / "out", "--base", checkpoint, "--output", joined]
    assert main([str(word) for word in words]) == 0
    pipe, before = (MultimodalGANPipeline.from_pretrained(folder) for folder in (joined, checkpoint))
    assert pipe.config.styles == ["flat", "round"] and len(pipe.memory) == len(before.memory) == 8
    drawn, other = (np.asarray(one("green circle", seed=1).images[0]) for one in (pipe, before))
    assert drawn.shape == (64, 64, 4) and (drawn != other).any()
    assert (joined / "training.csv").is_file() and (joined / "unseen_pairs.png").is_file()

    # With data its memory is made anew; without, one is needed.
    words = ["unbundle", *results, "--base", checkpoint, "--output", tmp_path / "again", "--data", base / "data"]
    assert main([str(word) for word in (*words, "--cache", base / "cache")]) == 0
    entries = torch.arange(8)
    again = MultimodalGANPipeline.from_pretrained(tmp_path / "again").memory
    assert again.config.texts == before.memory.config.texts  # The autoencoder was rounded to float16 in between.
    assert (again.latents(entries) - before.memory.latents(entries)).abs().mean() < 0.05
    other = shutil.copytree(checkpoint, tmp_path / "other")
    autoencoder = MultimodalGANPipeline.from_pretrained(other).autoencoder
    autoencoder.shift.add_(1.0)
    autoencoder.save_pretrained(other / "autoencoder")
    words = ["unbundle", str(tmp_path / "out"), "--base", str(other), "--output", str(tmp_path / "never")]
    assert main(words) == 1 and "another autoencoder" in capsys.readouterr().err


def test_a_cut_vocabulary_reads_captions_to_the_bit(base, tmp_path):
    captions = ["red circle, flat style", "blue square"]
    pack_encoders(base / "encoders", tmp_path, captions)
    cut = load_file(tmp_path / "text_encoder" / "model.safetensors")["embeddings.word_embeddings.weight"]
    unpack_encoders(tmp_path)
    folders = (base / "encoders", tmp_path)
    (whole, tokenizer), (packed, _) = (load_text_encoder(f / "text_encoder", f / "tokenizer") for f in folders)
    assert len(cut) < len(tokenizer) / 3
    whole.half().float()  # As packed.
    pieces = tokenizer(captions, padding=True, return_tensors="pt")
    expected, got = (text_tokens(one, pieces["input_ids"], pieces["attention_mask"]) for one in (whole, packed))
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-3)  # Its vectors stay in float32.
    stranger = tokenizer(["green dog"], return_tensors="pt")["input_ids"]
    unknown = torch.full_like(stranger[:, 1:-1], tokenizer.unk_token_id)
    same = torch.cat([stranger[:, :1], unknown, stranger[:, -1:]], dim=1)
    assert torch.equal(text_tokens(packed, stranger, stranger > -1), text_tokens(packed, same, same > -1))


def test_parts_are_as_small_as_asked_and_the_newest_whole_series_counts(tmp_path):
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "noise").write_bytes(os.urandom(300_000))
    parts = write_parts(source, tmp_path / "parts", "some", 100_000)
    assert len(parts) == 4 and all(part.stat().st_size <= 100_000 for part in parts)
    read_parts(parts, tmp_path / "back")
    assert (tmp_path / "back" / "inner" / "noise").read_bytes() == (source / "inner" / "noise").read_bytes()
    with pytest.raises(UserError, match="damaged"):
        read_parts(parts[:-1], tmp_path / "cut")
    deliver(source, tmp_path / "out", 1, 100_000)
    deliver(source, tmp_path / "out", 2, 200_000)
    names = ["result-002.1of2", "result-002.2of2"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == names
    (tmp_path / "out" / "result-003.1of2").write_bytes(b"cut off")
    assert [file.name for file in whole_series(list((tmp_path / "out").iterdir()))[-1]] == names


def test_a_reduced_archive_is_taken_as_it_is_and_no_other(tmp_path, monkeypatch):
    import tarfile

    package = npm.NpmPackage("@some/set", "1.0.0", "sha512-of-the-whole")
    (tmp_path / "whole").mkdir()
    for name, content in (("package/en/data.json", b"[]"), ("package/de/data.json", b"[1]")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with tarfile.open(tmp_path / "whole" / package.archive, "w:gz") as tar:
        tar.add(tmp_path / "package", "package")
    npm.reduce(package, tmp_path / "whole", tmp_path / "part", lambda name: name.startswith("en/"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    path = npm.fetch(package, tmp_path / "part")
    assert npm.read(path, "en/data.json") == b"[]" and not npm.read_folder(path, "de")
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match="npm was not found"):
        npm.fetch(package, tmp_path / "part")
