"""Training by its commands, on pictures drawn here: it learns, stops, resumes to the bit, and says what is wrong."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_data import write_autoencoder, write_encoders, write_shapes

from mmgen import MultimodalGANPipeline
from mmgen.cli.main import main
from mmgen.errors import UserError
from mmgen.models.fusion import Fused
from mmgen.models.generator import Generator
from mmgen.models.memory import encoder_fingerprint
from mmgen.training.common.config import RunConfig
from mmgen.training.common.ema import Ema
from mmgen.training.common.muon import Muon
from mmgen.training.common.run import Run
from mmgen.training.gan.batch import Batch
from mmgen.training.gan.calibration import latent_std_ratio, match_latent_std


@pytest.fixture(autouse=True)
def brief_preview(monkeypatch):
    """The preview decoder learns for four steps alone; what it learns is asked elsewhere."""
    monkeypatch.setattr("mmgen.training.gan.adversarial.PREVIEW_STEPS", 4)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """12 pictures: a circle and a square in three colours, flat and round in style."""
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, unseen=None)
    return folder


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    write_encoders(folder)
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
    write_autoencoder(folder)
    return folder


def log_of(output: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((output / "log.csv").read_text().splitlines()))


GAN = ("--width", 32, "--depth", 1, "--regression-steps", 10, "--image-size", 64)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors below a folder, by file and name."""
    return {
        f"{file.relative_to(folder)}:{name}": tensor
        for file in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def assert_same_run(left: Path, right: Path, state: str) -> None:
    """Equal to the bit: the models, the average, the optimizers, the result, and the log but for its clock."""
    ours, theirs = weights(left), weights(right)
    ours, theirs = ({k: v for k, v in w.items() if state in k or "state-" not in k} for w in (ours, theirs))
    assert ours.keys() == theirs.keys() and any("ema" in name for name in ours)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    optimizers = sorted(path.name for path in (left / state).glob("optimizer*.bin"))
    assert optimizers
    for name in optimizers:
        one, other = (torch.load(folder / state / name, weights_only=True) for folder in (left, right))
        torch.testing.assert_close(one["state"], other["state"], rtol=0, atol=0)
    logs = [[row.split(",") for row in (folder / "log.csv").read_text().splitlines()] for folder in (left, right)]
    clock = logs[0][0].index("time")
    assert [row[:clock] + row[clock + 1 :] for row in logs[0]] == [row[:clock] + row[clock + 1 :] for row in logs[1]]


def test_the_gan_resumes_to_the_bit_across_the_start_of_the_adversarial_phase(train, autoencoder, tmp_path):
    options = ("--autoencoder", autoencoder, *GAN)
    assert train("gan", tmp_path / "whole", "--steps", 20, *options) == 0
    assert train("gan", tmp_path / "halves", "--steps", 10, *options) == 0
    assert train("gan", tmp_path / "halves", "--steps", 20, "--resume", *options) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "halves", "state-00000020")
    pipe = MultimodalGANPipeline.from_pretrained(tmp_path / "whole" / "pipeline")
    assert pipe("red circle").images[0].size == (64, 64) and pipe.config.styles == ["flat", "round"]


def test_the_image_decoder_learns_on_what_is_drawn_and_the_encoder_stays(train, autoencoder, tmp_path):
    options = ("--autoencoder", autoencoder, *GAN[:4], "--regression-steps", 2, "--image-size", 64)
    options += ("--decoder-share", 1.0)  # In all of the adversarial part, whose length the first half does not know.
    assert train("gan", tmp_path / "whole", "--steps", 6, *options) == 0
    assert train("gan", tmp_path / "halves", "--steps", 3, *options) == 0
    assert train("gan", tmp_path / "halves", "--steps", 6, "--resume", *options) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "halves", "state-00000006")
    old, new = weights(autoencoder), weights(tmp_path / "whole" / "pipeline" / "autoencoder")
    changed = {name.split(":")[1].split(".")[0] for name in old if not torch.equal(old[name].half(), new[name])}
    assert old.keys() == new.keys() and changed == {"decoder"}
    moved = max((old[name] - new[name]).abs().max().item() for name in old if ":decoder." in name)
    assert 1e-5 < moved < 0.01  # It stays near to what it was.
    pipe = MultimodalGANPipeline.from_pretrained(tmp_path / "whole" / "pipeline")
    assert pipe.memory.config.image_encoder_hash == encoder_fingerprint(pipe.autoencoder)  # Still its memory.

    options = (*options[:-1], 0.0)
    assert train("gan", tmp_path / "frozen", "--steps", 6, *options) == 0
    frozen = weights(tmp_path / "frozen" / "pipeline" / "autoencoder")
    assert all(torch.equal(old[name].half(), frozen[name]) for name in old)


def test_by_the_clock_it_goes_through_both_phases_and_on(train, autoencoder, tmp_path):
    options = ("--autoencoder", autoencoder, *GAN[:4], "--regression-share", 0.3, "--image-size", 64)
    assert train("gan", tmp_path / "run", "--minutes", 0.03, *options) == 0
    first = log_of(tmp_path / "run")
    assert train("gan", tmp_path / "run", "--minutes", 0.1, "--resume", *options) == 0
    rows = log_of(tmp_path / "run")
    assert len(rows) > len(first) > 0 and rows[: len(first)] == first
    assert [int(row["step"]) for row in rows] == list(range(len(rows)))
    assert float(rows[0]["discriminator"]) == 0 != float(rows[-1]["discriminator"])
    clock = json.loads((sorted((tmp_path / "run").glob("state-*"))[-1] / "clock.json").read_text())
    assert 6.0 <= clock["seconds"] < 60
    pipe = MultimodalGANPipeline.from_pretrained(tmp_path / "run" / "pipeline")
    assert len(pipe.memory) == 12 and len(pipe("a red circle").drawn_from[0]) > 0


def test_a_discriminator_that_only_remembers_ends_the_run(train, shapes, autoencoder, tmp_path, monkeypatch, capsys):
    data = shutil.copytree(shapes, tmp_path / "data")
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    rows = [{**row, "split": "train" if number < 8 else "validation"} for number, row in enumerate(rows)]
    (data / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = []

    def score(self, latents: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        asked.append((len(latents), len(condition)))
        return torch.tensor(-99.0)

    options = ("--data", data, "--autoencoder", autoencoder, *GAN[:4], "--regression-steps", 2, *GAN[-2:])
    with monkeypatch.context() as patched:
        patched.setattr("mmgen.training.gan.adversarial.AdversarialStep.held_out_score", score)
        assert train("gan", tmp_path / "run", *options, "--steps", 20) == 0
    assert asked == [(4, 4)] * 3 and "only remembers" in capsys.readouterr().out
    assert (tmp_path / "run" / "state-00000005").is_dir() and (tmp_path / "run" / "pipeline").is_dir()
    assert train("gan", tmp_path / "free", *options, "--steps", 6, "--largest-gap", 0) == 0
    rows = [line.split(",") for line in (tmp_path / "free" / "log.csv").read_text().splitlines()]
    gaps = [float(row[rows[0].index("held_out_gap")]) for row in rows[1:]]
    assert len(gaps) == 6 and gaps[:2] == [0, 0] and all(gap != 0 for gap in gaps[2:])


def test_a_cooldown_in_steps_does_not_go_with_minutes(train, autoencoder, tmp_path, capsys):
    for part, more in (("gan", ("--autoencoder", autoencoder)), ("autoencoder", ("--crop", 32))):
        assert train(part, tmp_path / "run", "--minutes", 0.01, "--cooldown", 5, *more) == 1
        assert "--cooldown is in steps" in capsys.readouterr().err


def test_what_is_exported_draws_latents_that_spread_as_real_ones_do(train, autoencoder, tmp_path):
    class Half(torch.nn.Module):
        def forward(self, z, condition, remembered):
            return z * condition["half"]

    latents, none = torch.randn(70, 8, 2, 2), torch.zeros(70)
    for given, ratio in ((0.8, 1.25), (1.25, 0.8), (0.1, 1.5)):
        condition = {"half": torch.full((70, 1, 1, 1), given)}
        batch = Batch(latents, condition, None, latents, none, none, none, none)
        assert latent_std_ratio(Half(), batch) == pytest.approx(ratio)
    for slots in (0, 4):
        generator = Generator(
            latent_channels=8,
            latent_size=4,
            width=32,
            depth=1,
            noise_channels=8,
            memory_slots=slots,
            head_channels=slots,
        )
        z, fused = torch.randn(2, 8), Fused(torch.randn(2, 3, 32), torch.zeros(2, 3), torch.randn(2, 32))
        torch.testing.assert_close(match_latent_std(generator, 1.2)(z, fused), 1.2 * generator(z, fused))

    assert train("gan", tmp_path / "run", "--steps", 2, "--autoencoder", autoencoder, *GAN) == 0
    file = tmp_path / "run" / "pipeline" / "generator" / "diffusion_pytorch_model.safetensors"
    exported = load_file(file)["output_scale"].float()  # The untrained autoencoder's latents hardly spread.
    torch.testing.assert_close(exported, torch.tensor([1 / 1.5]), rtol=2e-3, atol=1e-5)


def test_the_autoencoder_resumes_to_the_bit(train, tmp_path):
    for name, options in (("whole", [20]), ("halves", [10]), ("halves", [20, "--resume"])):
        assert train("autoencoder", tmp_path / name, "--crop", 32, "--steps", *options) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "halves", "state-00000020")


@pytest.mark.parametrize("loss", ["bce", "relativistic"])
def test_the_other_losses_train(loss, train, autoencoder, tmp_path):
    options = (
        "--autoencoder",
        autoencoder,
        "--width",
        32,
        "--depth",
        1,
        "--regression-steps",
        0,
        "--image-size",
        64,
        "--loss",
        loss,
    )
    assert train("gan", tmp_path / "run", "--steps", 3, *options) == 0
    last = (tmp_path / "run" / "log.csv").read_text().splitlines()[-1].split(",")
    assert all(torch.isfinite(torch.tensor(float(value))) for value in last)


def test_regression_learns_the_colours(train, autoencoder, tmp_path):
    options = ("--autoencoder", autoencoder, *GAN[:4], "--regression-steps", 1000)
    assert train("gan", tmp_path / "run", "--steps", 150, "--learning-rate", 0.002, *options) == 0
    rows = [line.split(",") for line in (tmp_path / "run" / "log.csv").read_text().splitlines()]
    paired = [float(row[rows[0].index("latent_l1")]) for row in rows[1:]]
    assert sum(paired[-20:]) < 0.7 * sum(paired[:20])


def test_an_existing_run_is_neither_overwritten_nor_invented(train, autoencoder, tmp_path, capsys):
    options = ("--autoencoder", autoencoder, *GAN, "--steps", 1)
    assert train("gan", tmp_path / "run", *options, "--resume") == 1
    assert "nothing to resume" in capsys.readouterr().err
    assert train("gan", tmp_path / "run", *options, "--resume", "--autoencoder", "/nowhere") == 1
    assert "nothing to resume" in capsys.readouterr().err  # That comes before anything else.
    assert train("gan", tmp_path / "run", *options) == 0
    before = weights(tmp_path / "run" / "pipeline")
    assert train("gan", tmp_path / "run", *options) == 1
    assert "already holds a run" in capsys.readouterr().err
    after = weights(tmp_path / "run" / "pipeline")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_terminated_run_saves_and_goes_on(train, autoencoder, tmp_path):
    log = tmp_path / "run" / "log.csv"

    def terminate() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (log.exists() and len(log.read_text().splitlines()) > 3):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=terminate, daemon=True)
    watcher.start()
    # Else it would end the tests, if it came too late.
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert train("gan", tmp_path / "run", "--autoencoder", autoencoder, *GAN, "--steps", 100_000) == 0
        watcher.join()
    finally:
        signal.signal(signal.SIGTERM, before)
    states = list((tmp_path / "run").glob("state-*"))
    assert len(states) == 1 and int(states[0].name[6:]) >= 3
    assert (tmp_path / "run" / "pipeline" / "model_index.json").is_file()


def test_only_whole_states_are_kept_and_only_two(tmp_path):
    run = Run(RunConfig(output=str(tmp_path / "run"), steps=9, batch_size=1, save_minutes=0, log_with="none"))
    for _ in run.steps():
        pass
    assert sorted(path.name for path in (tmp_path / "run").glob("state*")) == ["state-00000008", "state-00000009"]


def test_a_diverged_run_says_so_and_keeps_the_last_good_state(tmp_path):
    run = Run(RunConfig(output=str(tmp_path / "run"), steps=9, batch_size=1, save_minutes=0, log_with="none"))
    model = torch.nn.Linear(1, 1)
    run.register_for_checkpointing("ema", model)
    with pytest.raises(UserError, match="diverged before step 4"):
        for step in run.steps():
            if step == 3:
                torch.nn.init.constant_(model.weight, float("nan"))
    assert sorted(path.name for path in (tmp_path / "run").glob("state*")) == ["state-00000002", "state-00000003"]


def test_ema_follows_with_its_half_life():
    model = torch.nn.Linear(1, 1, bias=False)
    ema = Ema(model, half_life=100, ramp=1e9)
    start = ema.model.weight.item()
    with torch.no_grad():
        model.weight += 1.0
    for _ in range(10):
        ema.update(model, 10)
    assert ema.model.weight.item() - start == pytest.approx(0.5, abs=1e-4)


def test_muon_takes_the_steps_of_torchs():
    torch.manual_seed(0)
    shapes = ((32, 32), (96, 32), (32, 96), (32, 32))
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(parameter.detach().clone()) for parameter in ours]
    before = [parameter.detach().clone() for parameter in ours]
    muon = Muon(ours, lr=0.01)
    reference = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        muon.step()
        reference.step()
    for one, other, start in zip(ours, theirs, before, strict=True):
        assert (one - other).norm() < 0.05 * (other - start).norm()  # Theirs rounds to bfloat16.
    with pytest.raises(ValueError, match="matrices alone"):
        Muon([torch.nn.Parameter(torch.randn(3))])


def test_what_differs_on_resume_is_said_and_kept(train, autoencoder, tmp_path, capsys):
    options = ("--autoencoder", autoencoder, *GAN)
    assert train("gan", tmp_path / "run", "--steps", 1, *options) == 0
    assert train("gan", tmp_path / "run", "--steps", 2, "--resume", "--loss", "bce", *options) == 0
    assert "loss was hinge when this run began; it goes on with bce" in capsys.readouterr().out
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["loss"] == "hinge" and config["width"] == 32 and not config["resume"]
    assert config["resumed"][0]["loss"] == "bce" and config["resumed"][0]["steps"] == 2


def test_steps_after_the_last_state_are_not_logged_twice(tmp_path):
    folder = tmp_path / "run"
    for resume, steps in ((False, 5), (True, 8)):
        config = RunConfig(str(folder), steps, 1, log_every=1, log_with="none", resume=resume)
        run = Run(config)
        run.resume()
        if resume:
            assert run.step == 5
        for step in run.steps():
            run.log({"step times two": 2.0 * step})
        if not resume:
            with open(folder / "log.csv", "a") as log:
                log.write("5,5,0,99\n6,6,0,99\n")
    rows = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()[1:]]
    assert [(int(row[0]), float(row[3])) for row in rows] == [(step, 2.0 * step) for step in range(8)]


@pytest.mark.parametrize(
    ("part", "options", "words"),
    [
        ("gan", ("--size", 48), "multiple of 32"),
        ("gan", ("--autoencoder", "/nowhere"), "no autoencoder at /nowhere"),
        ("gan", ("--width", 30), "multiple of 4"),
        ("autoencoder", ("--crop", 96), "larger than the pictures"),
        ("autoencoder", ("--crop", 32, "--encoders", "/nowhere"), "could not be loaded"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence(train, tmp_path, capsys, part, options, words):
    assert train(part, tmp_path / "run", "--steps", 1, *options) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_data_without_a_train_split_is_a_sentence(train, shapes, tmp_path, capsys):
    rows = [json.loads(line) | {"split": "test"} for line in (shapes / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        (tmp_path / row["file_name"]).write_bytes((shapes / row["file_name"]).read_bytes())
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["train", "autoencoder", "--data", tmp_path, "--steps", 1, "--encoders", tmp_path]
    assert main([str(word) for word in arguments]) == 1


def test_a_picture_that_cannot_be_read_is_left_out_and_counted(train, shapes, autoencoder, tmp_path, capsys):
    folder = shutil.copytree(shapes, tmp_path / "shapes")
    damaged = sorted(folder.glob("*.png"))[3]
    damaged.write_bytes(damaged.read_bytes()[:90])
    options = ("--data", folder, "--autoencoder", autoencoder, *GAN)  # Beside the whole one.
    assert train("gan", tmp_path / "run", "--steps", 1, *options) == 0
    said = capsys.readouterr().out
    assert f"{shapes}: 12 pictures taken, 12 with a caption; 1 file of words read; 0 left out" in said
    assert f"{folder}: 11 pictures taken, 11 with a caption; 1 file of words read; 1 left out" in said
    assert f"{folder}: Left out: {damaged.name} could not be read as a picture" in said
    assert len(MultimodalGANPipeline.from_pretrained(tmp_path / "run" / "pipeline").memory) == 23


def test_a_missing_tracker_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("mmgen.training.common.run.find_spec", lambda name: None)
    with pytest.raises(UserError, match="wandb is not installed"):
        Run(RunConfig(output=str(tmp_path / "run"), steps=1, batch_size=1, log_with="wandb"))
