"""Fine-tuning: the real command on the tiny pipeline."""

from __future__ import annotations

import csv
import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from creatures import NAMES, caption, write_creatures
from safetensors.torch import load_file
from tiny_memory import LABELS, with_tiny_memory

from mmgen.checkpoints import load_pipeline
from mmgen.cli.main import main
from mmgen.parts import read_captions
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.training.common.augment import vary_copy
from mmgen.training.common.control import send, status
from mmgen.training.finetune.presets import PRESETS, choose
from mmgen.training.finetune.prior import PriorSampler
from mmgen.training.finetune.variants import variants_each
from mmgen.training.gan.train import ConditionalGenerator

KNOWN = [f"a {colour} {thing}" for colour in ("red", "blue", "green") for thing in ("cat", "dog", "star", "apple")]


@pytest.fixture(autouse=True)
def brief_prior(monkeypatch):
    """The base shows a few of its pictures and drawings alone: it is tiny, and knows no more."""
    monkeypatch.setattr("mmgen.training.finetune.prior.REFERENCES", 12)
    monkeypatch.setattr("mmgen.training.finetune.projection.DRAWS", 128)


@pytest.fixture(scope="module")
def base(tiny_checkpoint, tmp_path_factory) -> Path:
    """The tiny checkpoint with captions that it knows."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("base") / "checkpoint")
    (folder / "captions.txt").write_text("".join(f"{line}\n" for line in KNOWN))
    return folder


@pytest.fixture(scope="module")
def remembering(tiny_checkpoint, tmp_path_factory) -> Path:
    """The same with a memory, and a generator that looks at it."""
    folder = tmp_path_factory.mktemp("remembering") / "checkpoint"
    with_tiny_memory(load_pipeline(tiny_checkpoint)).save_pretrained(folder)
    (folder / "captions.txt").write_text("".join(f"{line}\n" for line in KNOWN))
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    return write_creatures(tmp_path_factory.mktemp("pairs"), NAMES[:6], size=48)


def run(base: Path, pairs: Path, output: Path, *more: str) -> int:
    command = ["finetune", "--data", str(pairs), "--base", str(base), "--output", str(output), "--batch-size", "8"]
    return main([*command, *more])


def losses(output: Path) -> list[float]:
    with open(output / "log.csv", newline="") as file:
        return [float(row["paired"]) for row in csv.DictReader(file)]


def weights(folder: Path, part: str) -> dict[str, torch.Tensor]:
    return load_file(folder / part / "diffusion_pytorch_model.safetensors")


def generator(folder: Path) -> dict[str, torch.Tensor]:
    return weights(folder, "generator")


def test_it_learns_and_leaves_a_whole_checkpoint(base, pairs, tmp_path):
    assert run(base, pairs, tmp_path / "run", "--steps", "60", "--no-tune-autoencoder") == 0
    fell = losses(tmp_path / "run")
    assert np.mean(fell[-5:]) < 0.9 * np.mean(fell[:5])
    result = tmp_path / "run" / "pipeline"
    old = generator(base)
    changed = {name for name, new in generator(result).items() if not torch.equal(new.half(), old[name].half())}
    assert any(".feed_forward." in name for name in changed) and any(".self_attention." in name for name in changed)
    assert not any(".cross_attention." in name or name.endswith(".bias") for name in changed)
    assert load_pipeline(result)("a red cat", seed=1).images[0].size == (32, 32)
    assert read_captions(result) == [[caption(name) for name in NAMES[:6]], KNOWN]
    facts = json.loads((result / "training.json").read_text())
    assert (facts["pictures"], facts["steps"], facts["images"]) == (6, 60, 480)
    assert (result / "training.csv").read_text().startswith("step,")
    said = status(tmp_path / "run")
    assert said["state"] == "done" and said["step"] == 60 and said["error"] is None
    sheets = sorted(path.stem for path in (tmp_path / "run" / "samples").glob("*.png"))
    assert sheets[0] == "00000000" and sheets[-1] == "00000060"


def test_with_a_memory_it_learns_and_the_pairs_become_entries(remembering, pairs, tmp_path):
    """Only what draws learns; the rest, the reader and what was remembered before stay as they were."""
    assert run(remembering, pairs, tmp_path / "run", "--steps", "60", "--no-tune-autoencoder") == 0
    fell = losses(tmp_path / "run")
    assert np.mean(fell[-5:]) < 0.9 * np.mean(fell[:5])
    result = tmp_path / "run" / "pipeline"
    old = generator(remembering)
    changed = {name for name, new in generator(result).items() if not torch.equal(new.half(), old[name].half())}
    assert any(".feed_forward." in name for name in changed) and any(".self_attention." in name for name in changed)
    assert not any("memory_reader" in name or name.startswith("head.") for name in changed)
    before, after = load_pipeline(remembering), load_pipeline(result)
    memory = after.memory
    assert len(before.memory) == 24 and len(memory) == 30
    assert torch.equal(memory.codes[:24], before.memory.codes)
    assert [memory.config.texts[n] for n in memory.text.tolist()[24:]] == [caption(name) for name in NAMES[:6]]
    assert memory.config.image_encoder_hash == before.memory.config.image_encoder_hash
    # Its own pairs are drawn from each other and from what the base knew; never from itself.
    leaned_on = {share.entry for seed in range(8) for share in after(caption(NAMES[0]), seed=seed).drawn_from[0]}
    assert leaned_on & set(range(25, 30))
    blind = after(caption(NAMES[0]), seed=1, output_type="pt", memory_weight=0).images
    assert (blind - after(caption(NAMES[0]), seed=1, output_type="pt").images).abs().mean() > 1e-3


@pytest.mark.parametrize("preset", ["style", "concept", "set"])
def test_with_a_memory_the_other_presets_train_too(remembering, pairs, tmp_path, preset):
    options = ("--preset", preset, "--steps", "40", "--no-tune-autoencoder")
    assert run(remembering, pairs, tmp_path / "run", *options) == 0
    fell = losses(tmp_path / "run")
    assert np.mean(fell[-5:]) < np.mean(fell[:5])
    old, new = generator(remembering), generator(tmp_path / "run" / "pipeline")
    changed = {name for name in old if not torch.equal(new[name].half(), old[name].half())}
    assert ("memory_reader.gate.weight" in changed) == ("head.2.weight" in changed) == (preset != "concept")
    assert ("memory_reader.to_query.weight" in changed) == (preset != "style")
    for name in ("memory_reader.patch_in.weight", "memory_reader.aligned"):
        assert (name in changed) == (preset == "set")


def test_a_reader_without_a_memory_begins_one_with_the_pairs(remembering, pairs, tmp_path):
    base = tmp_path / "base"
    parts = {**load_pipeline(remembering).components, "memory": None}
    MultimodalGANPipeline(**parts).save_pretrained(base)
    (base / "captions.txt").write_text("".join(f"{line}\n" for line in KNOWN))
    assert run(base, pairs, tmp_path / "run", "--steps", "4", "--no-tune-autoencoder") == 0
    assert len(load_pipeline(tmp_path / "run" / "pipeline").memory) == 6
    mute = shutil.copytree(pairs, tmp_path / "mute")
    (mute / "metadata.jsonl").write_text(
        "".join(json.dumps({"file_name": f"{name}.png", "text": ""}) + "\n" for name in NAMES[:6])
    )
    assert run(base, mute, tmp_path / "run2", "--steps", "4", "--no-tune-autoencoder") == 0
    assert len(load_pipeline(tmp_path / "run2" / "pipeline").memory) == 0


def test_the_prior_keeps_what_the_base_draws_from_its_memory(remembering, pairs, tmp_path):
    """In pictures that lean on the memory, too, the model stays nearer to the base than trained without the prior."""
    pipe = load_pipeline(remembering)
    before = torch.stack([pipe(prompt, seed=4, output_type="pt").images[0] for prompt in LABELS])
    drift = {}
    for share in ("0", "0.75"):
        options = ["--preset", "concept", "--steps", "40", "--prior", share, "--no-tune-autoencoder"]
        assert run(remembering, pairs, tmp_path / share, *options) == 0
        after = load_pipeline(tmp_path / share / "pipeline")
        after.register_modules(memory=pipe.memory)  # So that the same is found.
        drawn = torch.stack([after(prompt, seed=4, output_type="pt").images[0] for prompt in LABELS])
        drift[share] = (drawn - before).abs().mean().item()
    assert drift["0.75"] < 0.8 * drift["0"]


@pytest.mark.parametrize("tunes", [True, False])
def test_the_decoder_learns_only_when_asked_and_the_encoder_never(base, pairs, tmp_path, tunes):
    option = "--tune-autoencoder" if tunes else "--no-tune-autoencoder"
    assert run(base, pairs, tmp_path / "run", "--steps", "20", option) == 0
    old, new = (
        load_file(folder / "autoencoder" / "diffusion_pytorch_model.safetensors")
        for folder in (base, tmp_path / "run" / "pipeline")
    )
    changed = {name.split(".")[0] for name in old if not torch.equal(old[name].half(), new[name].half())}
    assert changed == ({"decoder"} if tunes else set())


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_changes_its_own_weights_and_no_others(remembering, preset):
    pipe = load_pipeline(remembering)
    model = ConditionalGenerator(pipe.fusion, pipe.generator)
    count = choose(model, preset)
    learning = {name for name, value in model.named_parameters() if value.requires_grad}
    assert count == sum(value.numel() for value in model.parameters() if value.requires_grad) > 0
    by_words = preset in ("concept", "everything")
    assert any(name.startswith("fusion.") for name in learning) == by_words
    assert any(".cross_attention." in name for name in learning) == by_words
    read = {name.split(".")[2] for name in learning if name.startswith("generator.memory_reader.")}
    looks = {"key_in", "aligned_key", "blocks", "to_query", "to_key"}
    assert read == {"style": {"gate"}, "concept": looks}.get(preset, read) and (looks | {"gate"} <= read) == (
        preset in ("everything", "set")
    )
    assert (len(learning) == len(list(model.parameters()))) == (preset == "everything")


def test_the_prior_is_what_the_base_draws(base):
    pipe = load_pipeline(base)
    prior = PriorSampler(pipe, [KNOWN], seed=0)
    words, *_ = recalled = [prior.draw(4, np.random.default_rng(1), kinds) for kinds in np.eye(4)]
    row = 2
    chosen = np.random.default_rng(1).choice(len(KNOWN), 4, p=prior.chances)
    fused = pipe.fuse(KNOWN[chosen[row]], pipe.encode_references(()), [])
    with torch.inference_mode():
        alone = pipe.generator(words.z[row : row + 1], fused)
    torch.testing.assert_close(words.latents[row], alone[0].float(), atol=0.05, rtol=0.05)
    conditions = [one.condition for one in recalled]
    given = [(bool(one["text_weight"][0]), bool(one["reference_weights"][0, 0])) for one in conditions]
    assert given == [(True, False), (True, True), (False, True), (False, False)]
    assert not torch.equal(recalled[1].latents, recalled[2].latents)


def test_the_prior_remembers_a_small_group_among_a_large_one(base):
    chances = PriorSampler(
        load_pipeline(base), [["zorp"], [f"a cat {number}" for number in range(100)]], seed=0
    ).chances
    assert chances[0] == pytest.approx(10 * chances[1]) and chances.sum() == pytest.approx(1)


def test_the_prior_keeps_what_the_base_knows(base, pairs, tmp_path):
    """Trained with the prior the model stays nearer to what it drew than trained without."""
    pipe = load_pipeline(base)
    before = torch.stack([pipe(prompt, seed=4, output_type="pt").images[0] for prompt in KNOWN])
    drift = {}
    for share in ("0", "0.75"):
        output = tmp_path / share
        options = ["--preset", "concept", "--steps", "40", "--prior", share, "--no-tune-autoencoder"]
        assert run(base, pairs, output, *options) == 0
        after = load_pipeline(output / "pipeline")
        drawn = torch.stack([after(prompt, seed=4, output_type="pt").images[0] for prompt in KNOWN])
        drift[share] = (drawn - before).abs().mean().item()
    assert drift["0.75"] < 0.8 * drift["0"]


@pytest.mark.parametrize("kind", ["base", "remembering"])
def test_resumed_it_is_the_same_to_the_bit(kind, pairs, tmp_path, request):
    base = request.getfixturevalue(kind)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert run(base, pairs, whole, "--steps", "60", "--no-tune-autoencoder") == 0
    stopper = threading.Thread(target=pause_at, args=(halves, 3))
    stopper.start()
    assert run(base, pairs, halves, "--steps", "60", "--no-tune-autoencoder") == 0
    stopper.join()
    assert status(halves)["state"] == "paused" and status(halves)["step"] < 60
    load_pipeline(halves / "pipeline")  # What there is can be used meanwhile.
    assert run(base, pairs, halves, "--steps", "60", "--no-tune-autoencoder", "--resume") == 0
    assert status(halves)["state"] == "done"
    for part in ("generator", "memory") if kind == "remembering" else ("generator",):
        ours, theirs = weights(whole / "pipeline", part), weights(halves / "pipeline", part)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def pause_at(output: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (status(output).get("step") or 0) >= step:
        time.sleep(0.01)
    send(output, "pause")


def test_stopped_it_keeps_what_there_is(base, pairs, tmp_path):
    output = tmp_path / "run"

    def stop() -> None:
        while status(output).get("state") != "running":
            time.sleep(0.02)
        send(output, "stop")

    stopper = threading.Thread(target=stop, daemon=True)
    stopper.start()
    assert run(base, pairs, output, "--minutes", "30", "--no-tune-autoencoder") == 0
    assert status(output)["state"] == "stopped"
    load_pipeline(output / "pipeline")


@pytest.mark.parametrize(("command", "state"), [("pause", "paused"), ("stop", "stopped")])
def test_told_to_end_before_the_first_step_it_does(base, pairs, tmp_path, command, state):
    output = tmp_path / "run"
    output.mkdir()
    send(output, command)
    assert run(base, pairs, output, "--steps", "30") == 0
    assert status(output)["state"] == state and not (output / "pipeline").exists()
    assert run(base, pairs, output, "--steps", "3", "--no-tune-autoencoder", "--resume") == 0
    assert status(output)["state"] == "done"


def test_done_it_gives_back_the_disk_and_cannot_go_on(base, pairs, tmp_path, capsys):
    output = tmp_path / "run"
    assert run(base, pairs, output, "--steps", "3", "--no-tune-autoencoder") == 0
    assert not (output / "cache").exists() and not list(output.glob("state-*"))
    assert run(base, pairs, output, "--steps", "6", "--resume") == 1
    assert "is done" in capsys.readouterr().err
    load_pipeline(output / "pipeline")


def test_a_base_without_captions_is_told_to_forget(tiny_checkpoint, pairs, tmp_path, capsys):
    bare = shutil.copytree(tiny_checkpoint, tmp_path / "bare")
    (bare / "captions.txt").unlink(missing_ok=True)
    assert run(bare, pairs, tmp_path / "run", "--steps", "2", "--no-tune-autoencoder") == 0
    assert "forgetting" in capsys.readouterr().out


def test_pictures_without_captions_are_learned_from_the_picture_alone(base, tmp_path):
    folder = write_creatures(tmp_path / "pairs", NAMES[:4], size=48)
    rows = [{"file_name": f"{name}.png", "text": ""} for name in NAMES[:4]]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(base, folder, tmp_path / "run", "--steps", "30", "--no-tune-autoencoder") == 0
    fell = losses(tmp_path / "run")
    assert np.mean(fell[-5:]) < np.mean(fell[:5])


def test_a_second_process_in_the_same_folder_is_refused(base, pairs, tmp_path, capsys):
    from mmgen.training.common.control import Control

    with Control(tmp_path / "run"):
        assert run(base, pairs, tmp_path / "run", "--steps", "4") == 1
    assert "Another process trains" in capsys.readouterr().err


def test_one_pair_and_a_long_chinese_caption_train(base, tmp_path):
    folder = write_creatures(tmp_path / "pairs", NAMES[:1], size=48)
    row = {"file_name": f"{NAMES[0]}.png", "text": "一只红色的猫" * 800}
    (folder / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    assert run(base, folder, tmp_path / "run", "--steps", "4") == 0


def test_a_base_that_is_gone_is_told(pairs, tmp_path, capsys):
    assert run(tmp_path / "nothing", pairs, tmp_path / "run", "--steps", "4") == 1
    assert "no checkpoint" in capsys.readouterr().err


def test_few_pictures_are_varied_and_many_are_not():
    assert variants_each(1) == variants_each(20) == 8 and variants_each(100) == 4 and variants_each(10_000) == 1
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(4, 32, 32) * 2 - 1
    image[:3] = torch.minimum(image[:3], image[3:])
    varied = vary_copy(image, generator)
    assert not torch.equal(varied, image) and varied.shape == image.shape
    assert bool((varied[:3] <= varied[3:] + 1e-5).all()) and varied.abs().max() <= 1
