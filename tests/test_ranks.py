"""Several processes train as one, started by torchrun: on one machine, and as two that share no cache."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file
from tars import image, write_shard
from tiny import tiny_encoders

from mmgen import MultimodalGANPipeline
from mmgen.cli.main import main
from mmgen.models.autoencoder import ImageAutoencoder

pytestmark = pytest.mark.slow

TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
TWO_HERE = (*TORCHRUN, "--standalone", "--nproc_per_node", 2)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
WAIT = 240


def start(*words: object) -> subprocess.Popen:
    command = [str(word) for word in words]
    return subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def start_two_machines(first: list[object], second: list[object]) -> list[subprocess.Popen]:
    """One process on each of two machines, which are this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = ("--nnodes", 2, "--nproc_per_node", 1, "--master_addr", "127.0.0.1", "--master_port", port)
    words = ((*TORCHRUN, *meeting, "--node_rank", i, "-m", "mmgen", *own) for i, own in enumerate((first, second)))
    return [start(*command) for command in words]


def run(*words: object) -> str:
    """Run a command to its good end and return what it said."""
    process = start(*words)
    try:
        said, _ = process.communicate(timeout=WAIT)
    finally:
        process.kill()
    assert process.returncode == 0, said
    return said


def rows(folder: Path) -> list[dict[str, str]]:
    log = folder / "log.csv"
    return list(csv.DictReader(log.read_text().splitlines())) if log.exists() else []


@pytest.fixture(scope="module")
def common(tmp_path_factory) -> list[object]:
    """What the commands share: 24 pictures in two shards, and tiny encoders."""
    folder = tmp_path_factory.mktemp("common")
    for shard in range(2):
        members: dict[str, bytes | dict] = {}
        for colour in ("red", "green", "blue", "black", "white", "yellow"):
            for style in ("flat", "round"):
                text = f"{colour} apple {shard}"
                members[f"{colour}-{style}.png"] = image(colour)
                members[f"{colour}-{style}.json"] = {"text": text, "captions": [f"{text}, {style}"], "style": style}
        write_shard(folder / f"shards/apples-{shard}.tar", members)
    bert, tokenizer, cnn, processor = tiny_encoders(folder / "parts")
    bert.save_pretrained(folder / "encoders/text_encoder")
    tokenizer.save_pretrained(folder / "encoders/tokenizer")
    cnn.save_pretrained(folder / "encoders/image_encoder")
    processor.save_pretrained(folder / "encoders/image_processor")
    shared = ["--data", folder / "shards/apples-{0..1}.tar", "--encoders", folder / "encoders", "--size", 64]
    return [*shared, "--batch-size", 4, "--log-every", 1, "--log-with", "none", "--sample-every", 0]


def test_two_ranks_learn_as_one_from_different_pictures(tmp_path):
    for ranks, batch in ((1, 6), (2, 3)):
        (tmp_path / str(ranks)).mkdir()
        starter = TWO_HERE if ranks == 2 else (sys.executable,)
        run(*starter, "tests/ranks.py", tmp_path / str(ranks), batch)
    ours, theirs = (load_file(tmp_path / f"2/rank{rank}.safetensors") for rank in range(2))
    assert {"average.generator.mapping.mean", "generator.mapping.mean"} <= ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == ["drawn"]
    assert not (ours["drawn"] == theirs["drawn"]).all(1).any()

    one, two = (rows(tmp_path / f"{ranks}/run") for ranks in (1, 2))
    assert [row["images"] for row in one] == [row["images"] for row in two] == [str(6 * step) for step in range(8)]
    assert float(two[-1]["discriminator"]) != 0 and len(list((tmp_path / "2/run/samples").iterdir())) == 2
    states = [tmp_path / f"{ranks}/run/state-00000008" for ranks in (1, 2)]
    assert {path.name for path in states[0].iterdir()} == {path.name for path in states[1].iterdir()}
    for name in ("ema", "model", "model_1"):
        alone, together = (load_file(state / f"{name}.safetensors") for state in states)
        assert alone.keys() == together.keys()
        assert name != "ema" or alone["images"] == together["images"] == 48


def test_two_machines_stop_as_one_and_any_number_of_processes_goes_on(common, tmp_path):
    torch.manual_seed(0)
    autoencoder = ImageAutoencoder(widths=(16, 16, 16), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1))
    autoencoder.save_pretrained(tmp_path / "autoencoder")
    output = tmp_path / "run"
    gan = ["train", "gan", *common, "--autoencoder", tmp_path / "autoencoder", "--output", output, "--width", 32]
    gan += ["--depth", 1, "--regression-steps", 2, "--image-size", 64]
    machines = start_two_machines(*([*gan, "--cache", tmp_path / f"cache{i}", "--steps", 100_000] for i in range(2)))
    try:
        deadline = time.monotonic() + WAIT
        while len(rows(output)) < 4:
            assert all(machine.poll() is None for machine in machines), [m.communicate()[0] for m in machines]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        for machine in machines:
            machine.send_signal(signal.SIGTERM)
        said = [machine.communicate(timeout=WAIT)[0] for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
    [state] = output.glob("state-*")
    steps = int(state.name[6:])
    assert steps >= 4, said
    assert sorted(int(row["step"]) for row in rows(output)) == list(range(steps))
    assert (output / "pipeline/model_index.json").is_file()
    caches = [{path.name: path.stat().st_ino for path in (tmp_path / f"cache{rank}").iterdir()} for rank in range(2)]
    assert caches[0].keys() == caches[1].keys() and len(caches[0]) == 5
    assert all(words.count("latents: 100%") == 1 for words in said)

    on = [*gan, "--cache", tmp_path / "cache0", "--resume", "--steps"]
    assert "latents" not in run(*TWO_HERE, "-m", "mmgen", *on, steps + 2)
    assert main([str(word) for word in [*on, steps + 3]]) == 0
    assert {path.name: path.stat().st_ino for path in (tmp_path / "cache0").iterdir()} == caches[0]
    assert [int(row["step"]) for row in rows(output)] == list(range(steps + 3))
    assert MultimodalGANPipeline.from_pretrained(output / "pipeline")("red apple").images[0].size == (64, 64)


def test_machines_with_different_states_are_told_so(common, tmp_path):
    train = ["train", "autoencoder", *common, "--cache", tmp_path / "cache", "--crop", 32]
    for name, steps in (("first", 1), ("second", 2)):
        assert main([str(word) for word in [*train, "--output", tmp_path / name, "--steps", steps]]) == 0
    on = ([*train, "--output", tmp_path / name, "--steps", 3, "--resume"] for name in ("first", "second"))
    machines = start_two_machines(*on)
    try:
        said = [machine.communicate(timeout=WAIT)[0] for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
    assert all(machine.returncode for machine in machines)
    assert any("The machines hold different states" in words for words in said), said


def test_two_ranks_train_the_autoencoder_on_one_cache(common, tmp_path):
    output = tmp_path / "run"
    options = [*common, "--cache", tmp_path / "cache", "--output", output, "--crop", 32, "--steps", 3]
    said = run(*TWO_HERE, "-m", "mmgen", "train", "autoencoder", *options)
    assert said.count("reading pictures: 100%") == 1 and len(list((tmp_path / "cache").iterdir())) == 1
    assert [row["images"] for row in rows(output)] == ["0", "8", "16"]
    ImageAutoencoder.from_pretrained(output / "autoencoder")
    state = load_file(output / "state-00000003/ema.safetensors")
    assert state["images"] == 24 and not list(output.rglob("*_1.pkl"))


def test_what_is_wrong_ends_all_ranks_with_a_sentence(common, tmp_path):
    options = [*common, "--cache", tmp_path / "cache", "--output", tmp_path / "run", "--crop", 32, "--steps", 3]
    options[1] = write_shard(tmp_path / "bad.tar", {"a.png": image()[:40]})
    process = start(*TWO_HERE, "-m", "mmgen", "train", "autoencoder", *options)
    said, _ = process.communicate(timeout=WAIT)
    assert process.returncode != 0 and "mmgen: a.png in bad.tar could not be read as a picture" in said
