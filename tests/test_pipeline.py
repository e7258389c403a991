"""The pipeline and the command line at a tiny size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mmgen import MultimodalGANPipeline
from mmgen.cli.main import main
from mmgen.errors import UserError
from mmgen.images import composite, open_image, premultiply, square, to_pil, to_tensor


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint) -> MultimodalGANPipeline:
    return MultimodalGANPipeline.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def apple() -> Image.Image:
    image = Image.new("RGBA", (90, 50))
    image.paste((200, 30, 30, 255), (20, 10, 70, 45))
    return image


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def differ(a: Image.Image, b: Image.Image) -> bool:
    return bool(np.abs(pixels(a) - pixels(b)).max() > 2)


def test_draws_rgba_pictures(pipe):
    result = pipe("a red apple", seed=1, num_images=3, truncation=0.7)
    assert [image.mode for image in result.images] == ["RGBA"] * 3
    assert result.images[0].size == (pipe.image_size,) * 2 == (32, 32)
    assert result.seeds == [1, 2, 3] and result.notes == []
    tensors = pipe("a red apple", seed=1, output_type="pt").images
    assert tensors.shape == (1, 4, 32, 32) and tensors.abs().max() <= 1


def test_a_seed_gives_the_same_picture_whatever_is_in_the_batch(pipe, apple):
    several = pipe(["a blue cat", "a red apple"], references=[apple], seed=7, num_images=3)
    alone = pipe("a red apple", references=[apple], seed=8)
    assert several.seeds == [7, 8, 9] * 2
    assert several.images[4].tobytes() == alone.images[0].tobytes()
    assert differ(several.images[3], several.images[4])


def test_prompt_reference_weights_and_truncation_all_matter(pipe, apple):
    plain = pipe("a red apple", seed=3).images[0]
    assert differ(plain, pipe("a blue cat", seed=3).images[0])
    assert differ(plain, pipe("a red apple", seed=5).images[0])
    assert differ(plain, pipe("a red apple", seed=3, truncation=0.0).images[0])
    with_reference = pipe("a red apple", references=[apple], seed=3).images[0]
    assert differ(plain, with_reference)
    half = pipe("a red apple", references=[apple], reference_weights=[0.5], seed=3).images[0]
    assert differ(with_reference, half)
    zero = pipe("a red apple", references=[apple], reference_weights=[0.0], seed=3).images[0]
    assert zero.tobytes() == plain.tobytes()
    no_words = pipe("a red apple", references=[apple], text_weight=0.0, seed=3).images[0]
    assert no_words.tobytes() == pipe("", references=[apple], seed=3).images[0].tobytes()


def test_truncation_zero_is_one_style_for_all_seeds(pipe):
    first, second = (pipe("a cat", seed=seed, truncation=0.0).images[0] for seed in (1, 2))
    assert first.tobytes() == second.tobytes()


def test_word_order_matters(pipe):
    assert differ(pipe("cat left of dog", seed=1).images[0], pipe("dog left of cat", seed=1).images[0])


def test_forgiving_arguments(pipe, apple):
    one = pipe("a cat", references=apple, reference_weights=1.0, seed=3.0, num_images=1.0)
    assert one.seeds == [3]
    assert one.images[0].tobytes() == pipe("a cat", references=[apple], seed=3).images[0].tobytes()
    assert pipe("a cat", references=None).images[0].tobytes() == pipe("a cat").images[0].tobytes()


def test_seeds_are_uint32_and_wrap(pipe):
    assert pipe("a cat", seed=2**32 - 1, num_images=2).seeds == [2**32 - 1, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"seed": 1.5}, "whole numbers"),
        ({"truncation": 1.2}, "truncation is 1.2"),
        ({"truncation": float("nan")}, "truncation is nan"),
        ({"text_weight": 3}, "text weight is 3"),
        ({"num_images": 0}, "number of images is 0"),
        ({"reference_weights": [1.0]}, "1 reference weights for 0 references"),
        ({"references": [Image.new("RGB", (4, 4))] * 5}, "at most 4"),
        ({"prompt": []}, "at least one"),
        ({"prompt": 7}, "must be a text"),
        ({"output_type": "np"}, "pil or pt"),
        ({"references": [Image.new("RGB", (4, 4))], "reference_weights": [2.5]}, "reference weight is 2.5"),
    ],
)
def test_a_number_out_of_range_is_named(pipe, change, words):
    with pytest.raises(UserError, match=words):
        pipe(**{"prompt": "a cat", **change})


def test_notes_say_what_was_not_read(pipe):
    assert "noise alone" in pipe("   ").notes[0]
    assert "noise alone" in pipe("a cat", text_weight=0.0).notes[0]
    assert "first 62 word pieces" in pipe("red apple " * 1000).notes[0]
    assert "English" in pipe("寿司").notes[0]
    assert pipe("a cat 🐱").notes == []


def test_saving_and_loading_again_changes_nothing(pipe, tiny_checkpoint, tmp_path):
    pipe.save_pretrained(tmp_path / "again")
    again = MultimodalGANPipeline.from_pretrained(tmp_path / "again")
    assert again("a red apple", seed=5).images[0].tobytes() == pipe("a red apple", seed=5).images[0].tobytes()
    assert again.config.styles == ["flat", "round"]
    assert not [path for path in (tmp_path / "again").rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: shutil.rmtree(folder), "no checkpoint at"),
        (lambda folder: (folder / "model_index.json").unlink(), "no model_index.json"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "damaged"),
        (
            lambda folder: (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}'),
            "is a FluxPipeline",
        ),
        (lambda folder: shutil.rmtree(folder / "generator"), "not whole"),
        (lambda folder: (folder / "fusion/diffusion_pytorch_model.safetensors").write_bytes(b"x" * 99), "not whole"),
        (lambda folder: (folder / "text_encoder/model.safetensors").unlink(), "not whole"),
    ],
)
def test_a_missing_foreign_or_broken_checkpoint_is_a_sentence(tiny_checkpoint, tmp_path, spoil, words):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "spoilt")
    spoil(folder)
    with pytest.raises(UserError, match=words):
        MultimodalGANPipeline.from_pretrained(folder)


def test_weights_of_other_names_or_shapes_are_refused(tiny_checkpoint, tmp_path):
    for change in (
        lambda w: {"x" + k: v for k, v in w.items()},
        lambda w: {k: v[:1].clone() if v.ndim else v for k, v in w.items()},
    ):
        for part in ("generator/diffusion_pytorch_model", "text_encoder/model", "image_encoder/model"):
            folder = shutil.copytree(tiny_checkpoint, tmp_path / "spoilt", dirs_exist_ok=True)
            file = folder / f"{part}.safetensors"
            save_file(change(load_file(file)), file, metadata={"format": "pt"})
            with pytest.raises(UserError, match="not whole"):
                MultimodalGANPipeline.from_pretrained(folder)


def generate(checkpoint: Path, *words: object) -> int:
    return main(["generate", *map(str, words), "--checkpoint", str(checkpoint)])


def test_the_command_draws_the_same_bytes_again(tiny_checkpoint, tmp_path, apple):
    apple.save(tmp_path / "x.png")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        options = ("--reference", tmp_path / "x.png", "--seed", seed, "--truncation", 0.7, "--count", 4)
        assert generate(tiny_checkpoint, "a red apple", *options, "--output", tmp_path / f"{name}.png") == 0
    first, again, other = ((tmp_path / f"{name}-4.png").read_bytes() for name in "abc")
    assert first == again != other
    with Image.open(tmp_path / "a-4.png") as image:
        assert image.mode == "RGBA" and image.text["prompt"] == "a red apple" and image.text["seed"] == "4"


def test_the_command_says_in_one_line_what_is_wrong(tiny_checkpoint, tmp_path, capsys):
    (tmp_path / "notes.png").write_text("not a picture")
    for words, expected in (
        (("a", "--reference", tmp_path / "none.png"), "There is no picture"),
        (("a", "--reference", tmp_path / "notes.png"), "could not be read as a picture"),
        (("a", "--seed", -5), "The seed is -5"),
        (("a", "--output", tmp_path / "x.jpg"), "ends in .png"),
        (("a", "--output", tmp_path / "no" / "x.png"), "There is no folder"),
        (("a", "--device", "abacus"), "The device abacus"),
    ):
        assert generate(tiny_checkpoint, *words) == 1
        error = capsys.readouterr().err.strip()
        assert expected in error.splitlines()[-1] and error.splitlines()[-1].startswith("mmgen: ")
    assert generate(tmp_path / "nothing", "a") == 1
    assert "no checkpoint at" in capsys.readouterr().err


def test_help_is_everywhere(capsys):
    for words in (
        [],
        ["generate"],
        ["data", "emoji"],
        ["encoders"],
        ["train", "autoencoder"],
        ["train", "gan"],
        ["sheet"],
    ):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--help"])
        assert stop.value.code == 0 and "usage: python -m mmgen" in capsys.readouterr().out


def test_the_sheet_lays_real_above_generated(tiny_checkpoint, tmp_path, apple, capsys):
    apple.save(tmp_path / "a.png")
    rows = [{"file_name": "a.png", "text": f"apple {i}", "split": "train"} for i in range(3)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    output = tmp_path / "sheet.png"
    assert main(["sheet", "--data", str(tmp_path), "--checkpoint", str(tiny_checkpoint), "--output", str(output)]) == 0
    assert Image.open(output).size == (3 * 132 + 4, 2 * 132 + 4)
    assert main(["sheet", "--data", str(tmp_path), "--checkpoint", str(tiny_checkpoint), "--split", "test"]) == 1
    assert "no split test" in capsys.readouterr().err


def test_an_edge_takes_no_hidden_colour():
    """A transparent pixel that hides white must not lighten the red edge beside it."""
    image = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    image.paste((255, 0, 0, 255), (0, 0, 32, 64))
    small = square(image, 16)
    assert (small[:3].max(0) <= small[3]).all() and small[1:3].max() == 0
    back = pixels(to_pil(to_tensor(image, 16)[None])[0])
    visible = back[..., 3] > 8
    assert back[visible][:, 0].min() > 245 and back[visible][:, 1:3].max() == 0


def test_tensors_and_pictures_are_inverse():
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (32, 32, 4), dtype=np.uint8)
    array[..., 3] = rng.choice([0, 255], (32, 32))
    image = Image.fromarray(array, "RGBA")
    back = pixels(to_pil(to_tensor(image, 32)[None])[0])
    solid = array[..., 3] == 255
    assert (back[solid] == array[solid]).all() and (back[~solid] == 0).all()
    on_white = composite(to_tensor(image, 32)[None])
    assert (on_white[0, :, torch.from_numpy(~solid)] == 1).all()
    assert np.allclose(premultiply(image)[~solid], 0)


def test_pictures_from_outside_are_opened_with_care(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert open_image(tmp_path / "moving.gif").getpixel((0, 0))[:3] == (254, 0, 0) or open_image(
        tmp_path / "moving.gif"
    ).getpixel((0, 0))[:3] == (255, 0, 0)
    Image.new("1", (12_000, 12_000)).save(tmp_path / "bomb.png")
    with pytest.raises(UserError, match="more than 50 megapixels"):
        open_image(tmp_path / "bomb.png")
    whole = tmp_path / "whole.png"
    Image.effect_noise((64, 64), 50).save(whole)
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:900])
    with pytest.raises(UserError, match="half.png could not be read"):
        open_image(tmp_path / "half.png")
