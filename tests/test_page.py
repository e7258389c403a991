"""The studio's endpoints, called through gradio_client, and its command line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from mmgen.services.inference import GenerationRequest, png_name
from mmgen.ui.generate.examples import EXAMPLES, smiling_sun

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def client(page_url, tmp_path_factory) -> Client:
    return Client(page_url, verbose=False, analytics_enabled=False, download_files=str(tmp_path_factory.mktemp("got")))


@pytest.fixture(scope="module")
def sun(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("references") / "sun.png"
    smiling_sun().save(path)
    return str(path)


def preview(client: Client, **values) -> tuple[bytes, dict]:
    path, facts = client.predict(**values, api_name="/preview")
    return Path(path).read_bytes(), facts


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"), dtype=int)


def test_only_the_named_endpoints_show(client):
    described = client.view_api(return_format="dict", print_info=False)
    assert {"/generate", "/preview", "/models"} <= set(described["named_endpoints"])
    assert not described["unnamed_endpoints"]
    assert not [name for name in described["named_endpoints"] if name[-1].isdigit()]  # Two of one name.
    names = [one["parameter_name"] for one in described["named_endpoints"]["/generate"]["parameters"]]
    assert names == [
        "prompt", "style", "references", "reference_weights", "text_weight", "seed", "truncation", "count", "model",
        "memory_weight", "memory_dropped", "memory_pinned",
    ]  # fmt: skip


def test_generate_draws_a_set_of_transparent_pngs(client, sun):
    files, facts = client.predict(
        prompt="a red apple", style="flat", references=[handle_file(sun)], seed=7, count=3, api_name="/generate"
    )
    assert facts["seeds"] == [7, 8, 9] and facts["notes"] == [] and facts["milliseconds"] >= 0
    assert [Path(path).name for path in files] == [f"mmgen-a-red-apple-seed{seed}.png" for seed in (7, 8, 9)]
    for path, seed in zip(files, facts["seeds"], strict=True):
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("PNG", "RGBA")
            told = {key: str(value) for key, value in image.text.items()}
        assert told["prompt"] == "a red apple" and told["style"] == "flat" and told["seed"] == str(seed)
        assert told["truncation"] == "1.0" and told["reference_weights"] == "[1.0]"
    first, _ = preview(client, prompt="a red apple", style="flat", references=[handle_file(sun)], seed=7)
    assert first == Path(files[0]).read_bytes()


def test_a_seed_gives_its_picture_again_and_another_seed_another(client):
    first, _ = preview(client, prompt="a red apple", seed=1)
    again, _ = preview(client, prompt="a red apple", seed=1)
    other, _ = preview(client, prompt="a red apple", seed=2)
    assert first == again
    assert (pixels(first) != pixels(other)).any()


def test_everything_asked_for_changes_the_picture(client, sun):
    values = {"prompt": "a red apple", "references": [handle_file(sun)], "seed": 3}
    base = pixels(preview(client, **values)[0])
    for change in (
        {"prompt": "a blue cat"},
        {"style": "flat"},
        {"references": []},
        {"reference_weights": [0.25]},
        {"text_weight": 0.25},
        {"truncation": 0.25},
    ):
        assert (pixels(preview(client, **{**values, **change})[0]) != base).any(), change


def test_a_style_is_words(client):
    picked = preview(client, prompt="a cat", style="round")[0]
    written = preview(client, prompt="a cat, round style")[0]
    assert (pixels(picked) == pixels(written)).all()
    assert GenerationRequest("a cat, round style", "round").words == "a cat, round style"
    assert GenerationRequest("", "round").words == "round style"


def test_notes(client):
    assert "noise alone" in preview(client, prompt=" ")[1]["notes"][0]
    assert "only its first" in preview(client, prompt="a red cat " * 1000)[1]["notes"][0]
    assert "English" in preview(client, prompt="\N{RED APPLE}\N{CAT}")[1]["notes"][0]
    assert preview(client, prompt="\x00 кошка a cat")[1]["seeds"] == [0]
    assert GenerationRequest("\ud800 a  cat").words == "? a cat"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"seed": -1}, "The seed is -1"),
        ({"seed": 2**32}, "The seed is 4294967296"),
        ({"seed": 1.5}, "The seed is 1.5"),
        ({"seed": None}, "The seed is empty"),
        ({"text_weight": 2.5}, "The text weight is 2.5"),
        ({"truncation": "much"}, "The truncation is much"),
        ({"count": 17}, "The number of pictures is 17; give a whole number from 1 to 16"),
        ({"style": "baroque"}, "There is no style 'baroque'; choose one of: Any, flat, round"),
        ({"prompt": 3}, "The prompt must be a text"),
        ({"model": "mine"}, "There is no model 'mine' here"),
        ({"model": "../checkpoints"}, "There is no model '../checkpoints' here"),
        ({"model": 3}, "There is no model '3' here"),
        ({"references": 3}, "The references must be a list"),
        ({"references": ["/etc/hostname"]}, "must be an uploaded picture"),
        ({"references": [{"path": "/etc/hostname"}]}, "must be an uploaded picture"),
        ({"reference_weights": [1.0]}, "1 reference weights for 0 references"),
    ],
)
def test_bad_values_give_a_sentence(client, values, sentence):
    with pytest.raises(AppError, match=sentence):
        client.predict(**values, api_name="/generate")


def test_bad_references_give_a_sentence(client, sun, tmp_path):
    text = tmp_path / "renamed.png"
    text.write_text("I am no picture.")
    with pytest.raises(AppError, match="renamed.png could not be read as a picture"):
        preview(client, references=[handle_file(text)])
    cut = tmp_path / "cut.png"
    cut.write_bytes(Path(sun).read_bytes()[:900])
    with pytest.raises(AppError, match="cut.png could not be read as a picture"):
        preview(client, references=[handle_file(cut)])
    huge = tmp_path / "huge.png"
    Image.new("1", (12_000, 12_000)).save(huge)
    with pytest.raises(AppError, match="huge.png has more than 50 megapixels"):
        preview(client, references=[handle_file(huge)])
    with pytest.raises(AppError, match="There are 5 references; use at most 4"):
        preview(client, references=[handle_file(sun)] * 5)
    with pytest.raises(AppError, match="A reference weight is 3"):
        preview(client, references=[handle_file(sun)], reference_weights=[3])


def test_an_animation_counts_as_its_first_frame(client, tmp_path):
    red, blue = (Image.new("RGB", (40, 40), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "still.gif")
    red.save(tmp_path / "moving.gif", save_all=True, append_images=[blue])
    still, moving = (
        preview(client, references=[handle_file(tmp_path / f"{name}.gif")])[0] for name in ("still", "moving")
    )
    assert (pixels(still) == pixels(moving)).all()


def test_file_names():
    assert png_name("A red apple!", 1) == "mmgen-a-red-apple-seed1.png"
    assert png_name("../\N{CAT}", 4294967295) == "mmgen-seed4294967295.png"
    assert len(png_name("long " * 100, 1)) < 80


def test_there_is_an_example_with_a_reference():
    sun = [one.reference() for one in EXAMPLES if one.reference][0]
    assert sun.mode == "RGBA" and sun.getpixel((0, 0))[3] == 0 and sun.getpixel((128, 110))[3] == 255


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(["--help"], 0, "--checkpoint"), (["--checkpoint", "nowhere"], 1, "mmgen: There is no")],
)
def test_command_line(arguments, code, words, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    try:
        ended = app.main(arguments)
    except SystemExit as error:  # As argparse ends.
        ended = error.code
    told = capsys.readouterr()
    assert ended == code
    assert words in told.out + told.err
    if code:
        assert len(told.err.strip().splitlines()) == 1
