"""A checkpoint of before, when the captioner was called the decoder, loads, draws and describes as it did."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgen.cli.main import build_parser
from mmgen.errors import UserError
from mmgen.hub.prepare import prepare
from mmgen.parts import PARTS
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.training.common.checkpoint import save_checkpoint

DATA = Path(__file__).parent / "data"
REFERENCE = Image.new("RGBA", (20, 20), (200, 30, 60, 255))


@pytest.fixture(scope="module")
def pipe() -> MultimodalGANPipeline:
    return MultimodalGANPipeline.from_pretrained(DATA / "old_layout")


def check_drawings(pipe: MultimodalGANPipeline) -> None:
    """The drawings that lie beside the checkpoint, up to one of 255: other processors round otherwise."""
    for name, drawn in (
        ("words", pipe("a red apple", seed=1)),
        ("reference", pipe("a blue cat", references=[REFERENCE], seed=2)),
    ):
        then = np.asarray(Image.open(DATA / f"old_layout_{name}.png")).astype(int)
        now = np.asarray(drawn.images[0]).astype(int)
        assert now.shape == then.shape == (32, 32, 4) and abs(now - then).max() <= 1


def check_captions(pipe: MultimodalGANPipeline) -> None:
    then = json.loads((DATA / "old_layout_captions.json").read_text())
    now = pipe.describe(REFERENCE)[0]
    assert [caption.text for caption in now] == [caption["text"] for caption in then]
    for caption, known in zip(now, then, strict=True):
        assert caption.probability == pytest.approx(known["probability"], rel=0.02)


def test_it_draws_the_same_bytes(pipe):
    check_drawings(pipe)


def test_it_says_the_same_words(pipe):
    check_captions(pipe)


def test_saved_again_it_has_the_names_of_now(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "saved")
    save_checkpoint(tmp_path / "written", pipe, [])
    for folder in (tmp_path / "saved", tmp_path / "written"):
        index = json.loads((folder / "model_index.json").read_text())
        assert {"captioner", "captioner_fusion"} < index.keys() and not {"decoder", "decoder_fusion"} & index.keys()
        assert (folder / "captioner_fusion").is_dir() and not list(folder.glob("decoder*"))
        again = MultimodalGANPipeline.from_pretrained(folder)
        check_drawings(again)
        check_captions(again)


def test_it_is_published_in_the_layout_of_now(tmp_path):
    text = prepare(DATA / "old_layout", tmp_path, "ann/old")
    assert "| `captioner` | CaptionDecoder |" in text and "`decoder`" not in text
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["captioner"] == ["mmgen.models.decoder", "CaptionDecoder"] and "decoder" not in index
    assert {"config.json", "diffusion_pytorch_model.safetensors", "mmgen.models.decoder.py"} == {
        file.name for file in (tmp_path / "captioner").iterdir()
    }
    assert not list(tmp_path.glob("decoder*"))
    check_captions(MultimodalGANPipeline.from_pretrained(tmp_path))


def test_a_part_under_both_its_names_is_refused(tmp_path):
    shutil.copytree(DATA / "old_layout", tmp_path / "both")
    file = tmp_path / "both" / "model_index.json"
    index = json.loads(file.read_text())
    file.write_text(json.dumps({**index, "captioner": index["decoder"]}))
    with pytest.raises(UserError, match="which no checkpoint of mmgen does"):
        MultimodalGANPipeline.from_pretrained(tmp_path / "both")


def test_what_is_optional_and_what_is_a_part_is_the_same_everywhere():
    taken = inspect.signature(MultimodalGANPipeline.__init__).parameters.keys() - {"self", "styles"}
    assert taken == PARTS.keys()
    assert MultimodalGANPipeline._optional_components == [part.name for part in PARTS.values() if part.is_optional]


@pytest.mark.parametrize(
    "now, before",
    [
        (["train", "captioner", "--data", "x", "--gpt2", "y"], ["train", "decoder", "--data", "x", "--decoder", "y"]),
        (["evaluate-captioner", "--pictures", "3"], ["evaluate-decoder", "--pictures", "3"]),
        (
            ["train", "gan", "--data", "x", "--steps", "1", "--image-decoder-share", ".3"],
            ["train", "gan", "--data", "x", "--steps", "1", "--decoder-share", ".3"],
        ),
        (["finetune", "--data", "x"], ["finetune", "--data", "x", "--decoder-learning-rate", "3e-4"]),
    ],
)
def test_commands_of_before_mean_the_same_and_are_not_shown(now, before, capsys):
    parser = build_parser()
    known, former = vars(parser.parse_args(now)), vars(parser.parse_args(before))
    named = {"command", "part", "output"} if "decoder" in before else {"command"}
    assert {k: v for k, v in known.items() if k not in named} == {k: v for k, v in former.items() if k not in named}
    for words in (["-h"], [*now[:1], "-h"], [*now[:2], "-h"]):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
    shown = capsys.readouterr().out
    assert "evaluate-decoder" not in shown
    assert " decoder " not in shown.replace("image decoder ", "").replace("picture decoder ", "")
    assert "--decoder" not in shown
