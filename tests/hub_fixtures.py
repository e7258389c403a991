"""A tiny checkpoint with all its descriptions, a small Hub, and `python -m mmgen` signed in there."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer
from long_lived import LongLived
from tiny import tiny_pipeline

from mmgen.training.common.checkpoint import save_checkpoint

PARTS = ("fusion", "generator", "autoencoder", "text_encoder", "image_encoder", "tokenizer", "image_processor")
WEIGHTS = ("fusion/diffusion_pytorch_model", "text_encoder/model", "image_encoder/model")
CAPTIONS = ["a red apple", "a *blue* <cat> | dog", "circle in flat style", "a green star", "square"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def checkpoint(folder) -> Path:
    """A tiny fine-tuned checkpoint with all its descriptions, and with files that must not leave it."""
    made = folder / "tiny"
    save_checkpoint(
        made, tiny_pipeline(folder / "parts"), [CAPTIONS], {"base": "mmgen-emoji", "pictures": 5, "steps": 12}
    )
    rows = [["step", "time", "loss"], *([step, 1e9 + step, 1 / (1 + step)] for step in range(0, 100, 5))]
    with (made / "training.csv").open("w", newline="") as log:
        csv.writer(log).writerows(rows)
    (made / "evaluation.json").write_text(json.dumps(REPORT))
    config = json.loads((made / "fusion/config.json").read_text())
    (made / "fusion/config.json").write_text(json.dumps({**config, "_name_or_path": "/home/ann/private"}))
    for name in ("fusion/diffusion_pytorch_model.bin", "optimizer.pt", "generator/model.ckpt"):
        (made / name).write_bytes(pickle.dumps({"x": 1}))
    (made / "diary.txt").write_text("dear diary")
    (made / "fusion/helper.py").write_text("raise SystemExit('never run')")
    return made


SCORES = "retrieval_at_1 retrieval_at_1_ceiling retrieval_at_1_floor retrieval_at_5 retrieval_at_5_ceiling".split()
SCORES += "retrieval_at_5_floor frechet frechet_real kernel kernel_real precision precision_real recall".split()
SCORES += "recall_real diversity copies copies_real".split()
REPORT = {
    "splits": {"train": {**dict.fromkeys(SCORES, 0.123), "prompts": 10}},
    "references": {"followed": 0.5, "reference_alone": 0.6, "chance": 0.25},
    "reconstruction": {"tiny": {"psnr": 31.5, "judge": 0.1, "pictures": 3}},
    "judge": "a judge",
    "checkpoint": "/home/ann/private",
}


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture
def hub(server) -> HubServer:
    server.heal()
    return server


@pytest.fixture(scope="module")
def mmgen(server, folder) -> Iterator[LongLived]:
    """`python -m mmgen`, signed in as ann."""
    with LongLived(server.environment(folder / "home", server.token("ann"))) as process:
        yield process


@pytest.fixture(scope="module")
def published(server, mmgen, checkpoint) -> dict[str, bytes]:
    """What lies in ann/tiny after it was published: path -> content."""
    status, told = mmgen("publish", checkpoint, "ann/tiny")
    assert status == 0, told
    assert f"{server.url}/ann/tiny" in told
    return server.repositories["ann/tiny"].files()


def draw(mmgen: LongLived, checkpoint: object, folder: Path, *options: object, **environment: str) -> tuple[int, str]:
    words = ("generate", "a red apple", "--checkpoint", checkpoint, "--output", folder / "out.png")
    return mmgen(*words, *options, **environment)


def one_sentence(told: str) -> bool:
    """Whether the last line is the error, in a line, without a trace of Python."""
    last = told.strip().splitlines()[-1]
    return last.startswith("mmgen: ") and last.endswith(".") and "Traceback" not in told and told.count("mmgen: ") == 1
