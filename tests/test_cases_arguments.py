"""What people give the pipeline, the publisher and the Hub: taken where it means something, else told in a sentence."""

from __future__ import annotations

import time
import warnings
from decimal import Decimal

import numpy as np
import pytest
import requests
import torch
from PIL import Image

from mmgen import MultimodalGANPipeline
from mmgen.cli.generate import _words
from mmgen.errors import UserError
from mmgen.hub.card import _brought, with_metadata
from mmgen.loading import fetch as module
from mmgen.loading.fetch import fetch, split_name
from mmgen.training.common.control import explain


@pytest.fixture(scope="module")
def tiny_pipeline(tiny_checkpoint):
    return MultimodalGANPipeline.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    file = tmp_path_factory.mktemp("pictures") / "x.png"
    Image.new("RGB", (64, 64), "red").save(file)
    return file


def pixels(output) -> np.ndarray:
    return np.asarray(output.images[0])


def test_references_of_every_usual_type_are_the_same(tiny_pipeline, picture):
    image = Image.open(picture).convert("RGB")
    array = np.asarray(image)
    wanted = pixels(tiny_pipeline("a cat", references=[image]))
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1) / 255
    for given in (
        str(picture),
        picture,
        picture.read_bytes(),
        array,
        array[None],
        tensor,
        tensor[None],
        [str(picture)],
    ):
        assert np.array_equal(pixels(tiny_pipeline("a cat", references=given)), wanted)
    for given, says in (
        ("https://example.org/a.png", "is not fetched"),
        (["gone.png"], "There is no picture at gone.png"),
        (7, "is given as int"),
        (np.zeros((5, 5, 7)), "shape"),
    ):
        with pytest.raises(UserError, match=says):
            tiny_pipeline("a cat", references=given)


def test_numbers_of_every_usual_type(tiny_pipeline, picture):
    wanted = pixels(tiny_pipeline("a cat", picture, 0.5, seed=3))
    for weight in (np.float32(0.5), torch.tensor(0.5), Decimal("0.5"), np.array([0.5]), [torch.tensor(0.5)]):
        for seed in (np.int64(3), torch.tensor(3), 3.0):
            assert np.array_equal(pixels(tiny_pipeline("a cat", picture, weight, seed=seed)), wanted)
    with pytest.raises(UserError, match="The seed is '1'; give a number"):
        tiny_pipeline("a cat", seed="1")


def test_what_other_pipelines_take(tiny_pipeline):
    wanted = pixels(tiny_pipeline("a cat", seed=5))
    generator = torch.Generator().manual_seed(5)
    assert np.array_equal(pixels(tiny_pipeline("a cat", generator=generator, negative_prompt="")), wanted)
    assert len(tiny_pipeline("a cat", num_images_per_prompt=2).images) == 2
    for given in ({"negative_prompt": "a dog"}, {"guidance_scale": 7.5}, {"generator": [generator] * 2}):
        with pytest.raises(UserError, match="negative_prompt|guidance_scale|one torch.Generator"):
            tiny_pipeline("a cat", **given)


def test_half_a_character_in_a_prompt_and_prompts_in_other_encodings(tiny_pipeline):
    assert np.array_equal(pixels(tiny_pipeline("a \ud83d cat")), pixels(tiny_pipeline("a  cat")))
    assert _words("gar\udce7on") == "garçon" and _words("猫") == "猫"


def test_half_precision_is_told_and_draws(tiny_pipeline):
    wanted = pixels(tiny_pipeline("a cat"))
    with pytest.warns(UserWarning, match="stay in float32"):
        same = tiny_pipeline.to(torch.bfloat16)
    assert np.array_equal(pixels(same("a cat")), wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tiny_pipeline.to(torch.float32) is tiny_pipeline


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf---\nlicense: mit\ntags: [zorblat]\n---\n# caf\xc3\xa9\n",
        b"---\r\nlicense: mit\r\ntags: [zorblat]\r\n---\r\n# caf\xe9\r\n",
        b"--- \t\nlicense: mit\ntags: [zorblat]\n--- \n# caf\xc3\xa9",
    ],
)
def test_cards_of_other_editors_keep_licence_tags_and_text(tmp_path, content):
    (tmp_path / "README.md").write_bytes(content)
    assert _brought(tmp_path / "README.md") == ({"license": "mit", "tags": ["zorblat"]}, "# café")


@pytest.mark.parametrize("head", ["license: [mit", "- mit", "1: mit"])
def test_the_head_of_a_card_that_cannot_be_read_is_told(tmp_path, head):
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n# mine\n")
    with pytest.raises(UserError, match="head of .* is damaged"):
        _brought(tmp_path / "README.md")


def test_what_the_head_of_a_card_holds_beside_is_written_again_as_it_was(tmp_path):
    results = [
        {"name": "x", "results": [{"metrics": [{"type": "fid", "value": 1.5}]}]}
    ]  # Too few for the Hub's client.
    metadata = {"license": ["mit", "cc0-1.0"], "model-index": results, "widget": [{"text": "é"}], "tags": ["a", "a"]}
    (tmp_path / "README.md").write_text(with_metadata(metadata, "# mine\n\n---\n\nmore"), encoding="utf-8")
    assert _brought(tmp_path / "README.md") == (metadata, "# mine\n\n---\n\nmore")
    (tmp_path / "README.md").write_text("# mine, without a head\n")
    assert _brought(tmp_path / "README.md") == ({}, "# mine, without a head")


def test_names_are_judged_as_the_hubs_client_does():
    assert split_name("you/_mine") == ("you/_mine", None) and split_name("you/a@v1.0") == ("you/a", "v1.0")
    for name in ("mine", "a/b/c", "you/a--b", "you/a.git", "you/.", "you/" + "a" * 97, "you/a@", "you/é"):
        assert split_name(name) is None, name


def test_a_hub_that_cannot_be_reached_is_told_in_seconds(tmp_path, monkeypatch):
    asked = []

    class Unreachable:
        def __init__(self, **options):
            pass

        def model_info(self, name, **options):
            asked.append(options["timeout"])
            raise requests.ConnectionError("no route")

    monkeypatch.setattr(module, "HfApi", Unreachable)
    start = time.monotonic()
    with pytest.raises(UserError, match="could not be reached for you/mine"):
        fetch("you/mine", cache_dir=tmp_path)
    assert time.monotonic() - start < 5 and asked == [5, 5]


def test_a_full_disk_promises_no_state_that_is_not_there(tmp_path):
    full = OSError(28, "No space left on device")
    assert "nothing had been saved yet" in explain(full, tmp_path)
    (tmp_path / "state-00000002").mkdir()
    assert "The last saved state is kept" in explain(full, tmp_path)
