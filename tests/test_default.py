"""The whole recipe in one command: it says what it does, stops, goes on, and ends with a checkpoint that draws."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from training_data import write_autoencoder, write_encoders, write_shapes

from mmgen import MultimodalGANPipeline
from mmgen.cli.main import main
from mmgen.errors import UserError
from mmgen.training.common.config import AutoencoderRunConfig, RunConfig
from mmgen.training.common.run import Run
from mmgen.training.default import DefaultRecipe, make_plan

GAN = "--image-size 64 --regression-share 0.5"
CAPTIONER = "--views 1 --drawings 8 --batch-size 8"


@pytest.fixture(autouse=True)
def brief_preview(monkeypatch):
    """The preview decoder learns for four steps alone; what it learns is asked elsewhere."""
    monkeypatch.setattr("mmgen.training.gan.adversarial.PREVIEW_STEPS", 4)


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    (folder / "data").mkdir()
    write_shapes(folder / "data")
    write_encoders(folder / "encoders")
    write_autoencoder(folder / "autoencoder")
    return folder


def default(parts: Path, output: Path, *more: object) -> int:
    words = ["train", "default", "--data", parts / "data", "--encoders", parts / "encoders", "--output", output]
    words += ["--cache", parts / "cache", "--size", 64, "--width", 32, "--depth", 2, "--batch-size", 4]
    return main(
        [
            str(word)
            for word in (*words, "--log-with", "none", "--gan-options", GAN, "--captioner-options", CAPTIONER, *more)
        ]
    )


def test_all_stages_make_a_checkpoint_that_draws_and_describes(parts, tmp_path, capsys):
    output = tmp_path / "out"
    assert default(parts, output, "--minutes", 0.2) == 0
    said = capsys.readouterr().out
    plan = json.loads((output / "plan.json").read_text())
    assert [stage["name"] for stage in plan["stages"]] == ["autoencoder", "gan", "captioner", "card"]
    assert all(stage["done"] for stage in plan["stages"]) and "1/4 autoencoder" in said and "train gan" in said
    assert sum(stage["minutes"] for stage in plan["stages"]) == pytest.approx(0.2)
    pipe = MultimodalGANPipeline.from_pretrained(output / "pipeline")
    drawn = pipe("green circle, flat style", describe=True)
    assert drawn.images[0].size == (64, 64) and drawn.captions[0] and len(pipe.memory) == 8
    card = (output / "pipeline" / "README.md").read_text()
    assert "| flat | 4 | CC0 | nobody tests |" in card and (output / "pipeline" / "samples.png").is_file()

    # What is there is neither overwritten nor made again.
    assert default(parts, output, "--minutes", 0.2) == 1
    assert "already holds a plan" in capsys.readouterr().err
    assert default(parts, output, "--minutes", 0.2, "--resume") == 0
    assert capsys.readouterr().out.count("done before") == 4


def test_a_stopped_stage_goes_on(parts, tmp_path, monkeypatch, capsys):
    output, stopping = tmp_path / "out", iter([3])
    steps = Run.steps

    def some(run):
        at = next(stopping, None)
        for step in steps(run):
            yield step
            run._stop = at is not None and step >= at

    monkeypatch.setattr(Run, "steps", some)
    options = ("--autoencoder", parts / "autoencoder", "--captioner-share", 0)
    assert default(parts, output, "--minutes", 0.1, *options) == 0
    assert "stopped before its time" in capsys.readouterr().out and not (output / "pipeline").exists()
    assert default(parts, output, "--minutes", 0.1, "--resume", *options) == 0
    said = capsys.readouterr().out
    assert "--resume" in said and "the checkpoint" in said
    assert MultimodalGANPipeline.from_pretrained(output / "pipeline").captioner is None


def test_a_base_brings_its_encoders_and_autoencoder(parts, tiny_checkpoint, tmp_path):
    recipe = DefaultRecipe(8.0, [parts / "data"], tmp_path, base=tiny_checkpoint, encoders=tmp_path / "none")
    stages = make_plan(recipe, torch.device("cpu"))
    assert [(stage.name, stage.minutes) for stage in stages] == [("gan", 7.0), ("captioner", 1.0), ("card", 0.0)]
    command = stages[0].command
    assert command[command.index("--encoders") + 1] == str(tiny_checkpoint)
    assert command[command.index("--autoencoder") + 1] == str(tiny_checkpoint / "autoencoder")
    assert "1024" in make_plan(recipe, torch.device("cuda"))[0].command
    with pytest.raises(UserError, match="leave 0% of the time"):
        make_plan(DefaultRecipe(8.0, [], tmp_path, captioner_share=1.0), torch.device("cpu"))
    with pytest.raises(UserError, match="no generator"):
        make_plan(DefaultRecipe(8.0, [], tmp_path, base=tmp_path), torch.device("cpu"))


def test_by_minutes_the_rate_falls_by_a_share_of_them_and_a_deadline_cuts_them(tmp_path):
    config = AutoencoderRunConfig(str(tmp_path / "run"), None, 1, log_with="none", minutes=1.0, cooldown_share=0.5)
    run = Run(config)
    run.step = 1000
    rates = []
    for seconds in (0, 29, 45, 60):
        run.seconds = seconds
        rates.append(run.learning_rate(1.0))
    assert rates == pytest.approx([1.0, 1.0, 0.52, 0.02])

    config = RunConfig(str(tmp_path / "short"), None, 1, log_with="none", minutes=10.0, deadline=time.time() + 1.0)
    began = time.monotonic()
    for _ in Run(config).steps():
        time.sleep(0.05)
    assert 0.5 < time.monotonic() - began < 5
