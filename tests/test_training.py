"""Training by its commands, on pictures drawn here: it learns, stops, resumes to the bit, and says what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from tiny import tiny_encoders

from mmgen import MultimodalGANPipeline
from mmgen.cli.main import main
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.training.ema import Ema
from mmgen.training.run import Run, RunConfig, allocator_environment

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 220)}


@pytest.fixture(autouse=True)
def allocator(monkeypatch):
    """As if the process had been started with them, so that the commands do not start it again."""
    for name, value in allocator_environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """12 pictures: a circle and a square in three colours, flat and round in style."""
    folder = tmp_path_factory.mktemp("shapes")
    rows = []
    for colour, value in COLOURS.items():
        for shape in ("circle", "square"):
            for style in ("flat", "round"):
                image = Image.new("RGBA", (64, 64))
                draw = ImageDraw.Draw(image)
                draw_shape = draw.ellipse if shape == "circle" else draw.rectangle
                draw_shape((8, 8, 55, 55), fill=value, outline=(0, 0, 0) if style == "round" else None, width=5)
                name = f"{colour}-{shape}-{style}.png"
                image.save(folder / name)
                text = f"{colour} {shape}"
                captions = [text, f"{text}, {style} style"]
                row = {"file_name": name, "text": text, "captions": captions, "label": text, "style": style}
                rows.append(row)
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    bert, tokenizer, cnn, processor = tiny_encoders(folder / "parts")
    bert.save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    cnn.save_pretrained(folder / "image_encoder")
    processor.save_pretrained(folder / "image_processor")
    return folder


@pytest.fixture(scope="module")
def train(shapes, encoders, tmp_path_factory):
    """Run `mmgen train` on the shapes and return its exit status."""
    cache = tmp_path_factory.mktemp("cache")

    def run(part: str, output: Path, *options: object) -> int:
        shared = ["--data", shapes, "--encoders", encoders, "--output", output, "--cache", cache, "--size", 64]
        shared += ["--batch-size", 4, "--log-every", 1, "--log-with", "none", "--sample-every", 0]
        return main([str(word) for word in ("train", part, *shared, *options)])

    return run


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory) -> Path:
    """A small one, untrained: what it makes of a picture is enough to learn from."""
    folder = tmp_path_factory.mktemp("autoencoder")
    torch.manual_seed(0)
    ImageAutoencoder(widths=(16, 16, 16), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)).save_pretrained(folder)
    return folder


GAN = ("--width", 32, "--depth", 1, "--regression-steps", 10)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors below a folder, by file and name."""
    return {
        f"{file.relative_to(folder)}:{name}": tensor
        for file in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def assert_equal(left: Path, right: Path) -> None:
    ours, theirs = weights(left), weights(right)
    assert ours.keys() == theirs.keys() and ours
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_the_gan_resumes_to_the_bit_across_the_start_of_the_adversarial_phase(train, autoencoder, tmp_path):
    options = ("--autoencoder", autoencoder, *GAN)
    assert train("gan", tmp_path / "whole", "--steps", 20, *options) == 0
    assert train("gan", tmp_path / "halves", "--steps", 10, *options) == 0
    assert train("gan", tmp_path / "halves", "--steps", 20, "--resume", *options) == 0
    assert_equal(tmp_path / "whole" / "pipeline", tmp_path / "halves" / "pipeline")
    rows = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("whole", "halves")]
    assert len(rows[0]) == len(rows[1]) == 21
    pipe = MultimodalGANPipeline.from_pretrained(tmp_path / "whole" / "pipeline")
    assert pipe("red circle").images[0].size == (64, 64) and pipe.config.styles == ["flat", "round"]


def test_the_autoencoder_resumes_to_the_bit(train, tmp_path):
    for name, options in (("whole", [20]), ("halves", [10]), ("halves", [20, "--resume"])):
        assert train("autoencoder", tmp_path / name, "--crop", 32, "--steps", *options) == 0
    assert_equal(tmp_path / "whole" / "autoencoder", tmp_path / "halves" / "autoencoder")


@pytest.mark.parametrize("loss", ["bce", "relativistic"])
def test_the_other_losses_train(loss, train, autoencoder, tmp_path):
    options = ("--autoencoder", autoencoder, "--width", 32, "--depth", 1, "--regression-steps", 0, "--loss", loss)
    assert train("gan", tmp_path / "run", "--steps", 3, *options) == 0
    last = (tmp_path / "run" / "log.csv").read_text().splitlines()[-1].split(",")
    assert all(torch.isfinite(torch.tensor(float(value))) for value in last)


def test_regression_learns_the_colours(train, autoencoder, tmp_path):
    options = ("--autoencoder", autoencoder, *GAN[:4], "--regression-steps", 1000)
    assert train("gan", tmp_path / "run", "--steps", 150, "--learning-rate", 0.002, *options) == 0
    rows = [line.split(",") for line in (tmp_path / "run" / "log.csv").read_text().splitlines()]
    paired = [float(row[rows[0].index("paired")]) for row in rows[1:]]
    assert sum(paired[-20:]) < 0.7 * sum(paired[:20])


def test_an_existing_run_is_neither_overwritten_nor_invented(train, autoencoder, tmp_path, capsys):
    options = ("--autoencoder", autoencoder, *GAN, "--steps", 1)
    assert train("gan", tmp_path / "run", *options, "--resume") == 1
    assert "nothing to resume" in capsys.readouterr().err
    assert train("gan", tmp_path / "run", *options) == 0
    before = weights(tmp_path / "run" / "pipeline")
    assert train("gan", tmp_path / "run", *options) == 1
    assert "already holds a run" in capsys.readouterr().err
    after = weights(tmp_path / "run" / "pipeline")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_terminated_run_saves_and_goes_on(shapes, encoders, autoencoder, tmp_path):
    command = [sys.executable, "-m", "mmgen", "train", "gan", "--data", shapes, "--encoders", encoders]
    command += ["--autoencoder", autoencoder, "--output", tmp_path / "run", "--cache", tmp_path, "--size", 64]
    command += [*GAN, "--batch-size", 4, "--steps", 100_000, "--log-every", 1, "--log-with", "none"]
    environment = {**os.environ, **allocator_environment()}
    process = subprocess.Popen(list(map(str, command)), env=environment, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "log.csv"
    while not (log.exists() and len(log.read_text().splitlines()) > 3):
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    states = list((tmp_path / "run").glob("state-*"))
    assert len(states) == 1 and int(states[0].name[6:]) >= 3
    assert (tmp_path / "run" / "pipeline" / "model_index.json").is_file()


def test_only_whole_states_are_kept_and_only_two(tmp_path):
    run = Run(RunConfig(output=str(tmp_path / "run"), steps=9, batch_size=1, save_minutes=0, log_with="none"))
    for _ in run.steps():
        pass
    assert sorted(path.name for path in (tmp_path / "run").glob("state*")) == ["state-00000008", "state-00000009"]


def test_ema_follows_with_its_half_life():
    model = torch.nn.Linear(1, 1, bias=False)
    ema = Ema(model, half_life=100, ramp=1e9)
    start = ema.model.weight.item()
    with torch.no_grad():
        model.weight += 1.0
    for _ in range(10):
        ema.update(model, 10)
    assert ema.model.weight.item() - start == pytest.approx(0.5, abs=1e-4)


def test_a_missing_tracker_is_named(tmp_path, capsys):
    try:
        import trackio  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match="trackio"):
            Run(RunConfig(output=str(tmp_path / "run"), steps=1, batch_size=1, log_with="trackio"))
    else:
        pytest.fail("trackio is installed here; choose another tracker for this test")
