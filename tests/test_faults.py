"""What goes wrong around a studio: hostile pictures, damaged states, replaced checkpoints, full disks, Ctrl-C."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from safetensors.torch import save_file
from tiny import tiny_pipeline

from mmgen.data.draft import Draft
from mmgen.errors import UserError, shown
from mmgen.images import image_pixels, open_image, to_pil
from mmgen.services import folder_watch, image_reader
from mmgen.services.image_reader import ImageReader
from mmgen.services.inference import GenerationRequest, InferenceService
from mmgen.space import without_paths
from mmgen.training.common.config import RunConfig
from mmgen.training.common.run import Run, saved_states
from mmgen.training.common.states import damage
from mmgen.training.finetune.settings import FinetuneSettings
from mmgen.ui.web import edge

PROGRESS = gr.Progress()


def noisy(path: Path, side: int, **options) -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path, **options)
    return path


# Pictures


def test_a_picture_named_twenty_times_is_decoded_once(tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr(
        image_reader, "open_image", lambda image, **given: decoded.append(image) or open_image(image, **given)
    )
    one, other = noisy(tmp_path / "one.png", 64), noisy(tmp_path / "other.png", 48)
    again = shutil.copy(one, tmp_path / "again.png")
    reader = ImageReader(32)
    found = reader.read([str(one)] * 20 + [str(other), str(again)])
    assert [path for path in decoded if isinstance(path, str)] == [str(one), str(other)]
    assert found[0].shape == (4, 32, 32) and all(torch.equal(pixels, found[0]) for pixels in found[:20] + found[21:])
    assert not torch.equal(found[20], found[0])


def test_nobody_waits_for_a_picture_that_is_being_decoded(tmp_path, monkeypatch):
    """A description's pictures are decoded before the drawing lock is taken."""
    service = InferenceService(tiny_pipeline(tmp_path))
    service.pipe.check_captioner = lambda: None
    service.pipe.describe_pixels = lambda pixels, count: [[] for _ in pixels]
    begun, go_on = threading.Event(), threading.Event()

    def slowly(image, **given):
        begun.set()
        assert go_on.wait(30)
        return open_image(image, **given)

    monkeypatch.setattr(image_reader, "open_image", slowly)
    work = threading.Thread(target=service.describe, args=([str(noisy(tmp_path / "a.png", 64))] * 20,))
    work.start()
    assert begun.wait(30)
    drawn = service.draw(GenerationRequest("a red apple"))  # While the other still decodes.
    assert len(drawn.images) == 1 and work.is_alive()
    go_on.set()
    work.join(30)
    assert not work.is_alive()


def test_a_request_has_a_limit_of_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(image_reader, "MAX_TOGETHER", 3 * 64 * 64)
    paths = [str(noisy(tmp_path / f"{number}.png", 64)) for number in range(4)]
    assert len(ImageReader(8).read(paths[:3] * 5)) == 15
    with pytest.raises(UserError, match="megapixels together; send at most"):
        ImageReader(8).read(paths)
    for number in range(4):
        noisy(tmp_path / f"{number}.jpg", 64, format="JPEG")
    assert len(ImageReader(4).read([str(tmp_path / f"{number}.jpg") for number in range(4)])) == 4  # 16 of 64 pixels.


def test_a_large_jpeg_is_decoded_as_small_as_it_is_needed(tmp_path):
    path = noisy(tmp_path / "large.jpg", 800)
    assert image_pixels(path) == 800 * 800 and image_pixels(path, 200) == 200 * 200 == image_pixels(path, 150)
    assert open_image(path).size == (800, 800) and open_image(path, side=200).size == (200, 200)
    assert image_pixels(noisy(tmp_path / "a.png", 80), 10) == 6400 and image_pixels(tmp_path / "nothing.png") == 0


def test_a_reference_is_seen_as_before(tmp_path):
    """Read beforehand or by the pipeline, a reference gives the same picture to the bit."""
    service = InferenceService(tiny_pipeline(tmp_path))
    path = str(noisy(tmp_path / "a.png", 90))
    drawn = service.draw(GenerationRequest("a red apple", references=(path,), reference_weights=(1.0,)))
    direct = service.pipe("a red apple", references=[path])
    assert np.array_equal(np.asarray(drawn.images[0]), np.asarray(direct.images[0]))
    noisy(tmp_path / "a.png", 70)
    changed = service.draw(GenerationRequest("a red apple", references=(path,), reference_weights=(1.0,)))
    assert not np.array_equal(np.asarray(drawn.images[0]), np.asarray(changed.images[0]))


HOSTILE = {
    "empty.png": b"",
    "head.png": b"\x89PNG\r\n\x1a\n",
    "bomb.png": None,
    "entity.svg": b'<!DOCTYPE svg [<!ENTITY a "b">]><svg xmlns="http://www.w3.org/2000/svg">&a;</svg>',
    "cut.svg": b'<svg xmlns="http://www.w3.org/2000/svg">' + b"<g>" * 50_000,
    "deep.svg": b'<svg xmlns="http://www.w3.org/2000/svg">' + b"<g>" * 50_000 + b"</g>" * 50_000 + b"</svg>",
    "chain.svg": b'<svg xmlns="http://www.w3.org/2000/svg">'
    + b"".join(b'<mask id="m%d"><rect mask="url(#m%d)"/></mask>' % (n, n + 1) for n in range(9000))
    + b'<rect width="9" height="9" mask="url(#m0)"/></svg>',
    "text.jpg": b"\xff\xd8\xff\xe0" + b"\0" * 100,
    "zeros.webp": b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(200),
    "huge.gif": b"GIF89a\xff\xff\xff\xff\xf7\0\0" + bytes(900),
    "jxl.jxl": b"\xff\x0a" + b"\xff" * 40,
    "heif.heic": b"\0\0\0\x18ftypheic" + bytes(100),
    "tiff.tif": b"II*\0" + b"\xff" * 64,
    "program.ps": b"%!PS\n/quit",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_a_sentence(tmp_path, name):
    content = HOSTILE[name]
    if content is None:
        stored = io.BytesIO()
        Image.new("1", (20_000, 20_000)).save(stored, "PNG")
        content = stored.getvalue()
    (tmp_path / name).write_bytes(content)
    image_pixels(tmp_path / name)
    with pytest.raises(UserError, match=name.replace(".", r"\.")) as told:
        ImageReader(32).read([str(tmp_path / name)])
    assert str(tmp_path) not in str(told.value)


def test_a_caption_of_brackets_loses_no_picture(tmp_path):
    for name in ("good.png", "bad.png"):
        noisy(tmp_path / name, 64)
    rows = [{"file_name": "good.png", "text": "a dot"}, {"file_name": "bad.png", "text": "x", "tags": "[" * 10_000}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "good.json").write_text('{"text": ' + "[" * 10_000)
    for captions in ("[" * 10_000, '["' * 5_000):
        (tmp_path / "bad.txt").write_text(captions)
        draft = Draft(tmp_path / f"draft{len(captions)}{captions[1]}")
        added = draft.add_folder(str(tmp_path)) if captions[1] == "[" else draft.add_files([*tmp_path.glob("*.*")])
        assert "good.png" in added.names, added.refused


# Numbers and kinds


def test_numbers_that_nobody_reads_are_not_written_out():
    assert shown(10**399) == shown(10**400 - 1) == "a number of 400 digits" and shown(-(10**5000)).endswith(
        " 5001 digits"
    )
    assert shown(7) == "7" and shown(1.5) == "1.5" and shown("a" * 99) == "a" * 40
    odd = (10**399, -(10**399), 10**30, float("inf"), float("nan"), True, "1", None, [], 2**32)
    for name in ("seed", "steps", "minutes", "prior"):
        for value in odd:
            if (name, value) in (("steps", None), ("prior", True), ("minutes", 2**32)):
                continue
            given = {"minutes": None, "steps": 1, name: value} if name != "minutes" else {"minutes": value}
            with pytest.raises(UserError) as told:
                FinetuneSettings(**given).check()
            assert len(str(told.value)) < 120, told.value
    FinetuneSettings(seed=2**32 - 1, steps=10**9).check()


def test_what_a_page_sends_is_checked_by_what_a_function_declares():
    def event(request: gr.Request, text: str, number: float, view: dict, anything: object, progress=PROGRESS):
        raise AssertionError

    assert edge.checked(event, ["a", 2, {}, object]) == ["a", 2, {}, object]
    assert edge.checked(event, [None, None, None, None]) == ["", None, {}, None]
    for values in ([1, 2, {}, 0], ["a", "b", {}, 0], ["a", True, {}, 0], ["a", 1, [], 0]):
        with pytest.raises(gr.Error, match="Reload it"):
            edge.checked(event, values)


def test_errors_are_sentences(monkeypatch, capsys):
    assert "disk of the studio is full" in str(edge.explained(OSError(errno.ENOSPC, "No space left on device")))
    assert "memory is full" in str(edge.explained(torch.OutOfMemoryError("CUDA out of memory")))
    assert "Reload" in str(edge.explained(KeyError("index"))) and "Traceback" not in capsys.readouterr().err
    try:
        to_pil("no tensor")
    except AttributeError as error:
        assert "in its log" in str(edge.explained(error)) and "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("SPACE_ID", "ann/studio")
    told = str(
        edge.explained(UserError("There is no checkpoint at /home/user/app/checkpoints/x. Choose another (/a/b)."))
    )
    assert told.strip("'\"") == "There is no checkpoint at x. Choose another (b)."
    assert without_paths("https://huggingface.co/a/b and 3/4 and/or") == "https://huggingface.co/a/b and 3/4 and/or"


# A training's states


def states(folder: Path, count: int) -> list[Path]:
    made = []
    for number in range(count):
        state = folder / f"state-{number:08d}"
        state.mkdir(parents=True)
        save_file({"a": torch.ones(1000)}, state / "model.safetensors")
        torch.save({"a": torch.ones(1000)}, state / "optimizer.bin")
        (state / "clock.json").write_text("{}")
        made.append(state)
    return made


@pytest.mark.parametrize("name", ["optimizer.bin", "model.safetensors", "clock.json"])
def test_a_state_that_was_cut_short_is_known(tmp_path, name):
    (state,) = states(tmp_path, 1)
    assert damage(state, ["model.safetensors"]) is None
    content = (state / name).read_bytes()
    for left in (0, 1, len(content) // 2, len(content) - 1):
        (state / name).write_bytes(content[:left])
        assert damage(state) == f"{name} is damaged"
    (state / name).unlink()
    assert damage(state, [name]) == f"{name} is missing"


def sit(folder: Path, steps: int, resume: bool = False) -> tuple[int, torch.Tensor]:
    """Train a line for so many steps, a state each; the step it began with, and its weights."""
    config = RunConfig(str(folder), steps, 1, log_every=1, log_with="none", resume=resume, save_minutes=0)
    run = Run(config)
    torch.manual_seed(0)
    line = torch.nn.Linear(2, 2)
    model, optimizer = run.accelerator.prepare(line, torch.optim.AdamW(line.parameters(), 0.1))
    run.resume()
    begun = run.step
    for _ in run.steps():
        run.accelerator.backward(model(torch.ones(1, 2)).square().sum())
        optimizer.step()
        optimizer.zero_grad()
    return begun, line.weight.detach().clone()


def test_a_training_goes_on_from_the_newest_whole_state(tmp_path, capsys):
    run = tmp_path / "run"
    _, whole = sit(tmp_path / "other", 8)
    sit(run, 5)
    newest = run / "state-00000005" / "optimizer.bin"
    newest.write_bytes(newest.read_bytes()[:-100])
    begun, weights = sit(run, 8, resume=True)
    assert begun == 4 and torch.equal(weights, whole)
    said = "state-00000005 is put aside, as its optimizer.bin is damaged: the training goes on from state-00000004."
    assert said in capsys.readouterr().out and (run / "damaged-state-00000005").is_dir()
    assert saved_states(run)[-1].name == "state-00000008"
    for state in saved_states(run):
        (state / "optimizer.bin").unlink()
    with pytest.raises(UserError, match="No saved state .* is whole"):
        sit(run, 9, resume=True)


# A checkpoint that is replaced while people draw


def test_a_checkpoint_that_is_replaced_is_drawn_with(tmp_path, monkeypatch, capsys):
    from mmgen.services.models import Models

    monkeypatch.setattr(folder_watch, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(folder_watch, "_AT_REST_SECONDS", 0.2)
    pipe = tiny_pipeline(tmp_path / "parts")
    pipe.save_pretrained(tmp_path / "model")
    pipe = type(pipe).from_pretrained(tmp_path / "model")
    models = Models(pipe)
    first = models.default
    assert models.default is first
    with torch.no_grad():
        pipe.generator.place.add_(1.0)
    pipe.save_pretrained(tmp_path / "new")
    shutil.rmtree(tmp_path / "model")
    assert models.default is first  # There is none for a moment.
    os.rename(tmp_path / "new", tmp_path / "model")
    assert models.default is first  # It may still be being copied.
    time.sleep(0.3)
    second = models.default
    assert second is not first and models.default is second and "was replaced" in capsys.readouterr().err
    assert torch.equal(second.pipe.generator.place, pipe.generator.place)

    (tmp_path / "model" / "generator" / "diffusion_pytorch_model.safetensors").write_bytes(b"cut short")
    assert models.default is second
    time.sleep(0.3)
    assert models.default is second and "cannot be loaded" in capsys.readouterr().err
    assert models.default is second and not capsys.readouterr().err  # It is said once.


@pytest.mark.parametrize("command", [["app.py"], ["-m", "mmgen", "generate", "x"]])
def test_ctrl_c_while_everything_is_imported_says_nothing(tmp_path, command):
    (tmp_path / "argparse.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    started = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert started.stdout.readline() == b"importing\n"
    started.send_signal(signal.SIGINT)
    said, _ = started.communicate(timeout=30)
    assert said == b"" and started.returncode == 130
