"""The captioner: what it learns, and every way to ask it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import serve
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image, ImageDraw
from test_captioner_model import tiny_captioner
from tiny_memory import with_tiny_memory
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from mmgen.cli.main import main
from mmgen.data.folder import load_pairs
from mmgen.errors import UserError
from mmgen.evaluation.bench import caption_cycle_accuracy
from mmgen.evaluation.captions import label_of, token_f1
from mmgen.evaluation.gallery import Gallery
from mmgen.evaluation.report import table
from mmgen.evaluation.retrieval import Questions
from mmgen.hub.prepare import prepare
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.services.drafts import DraftService
from mmgen.services.inference import InferenceService
from mmgen.training.captioner import data as captioner_data
from mmgen.training.captioner.data import CaptionTokenizer
from mmgen.training.captioner.train import from_gpt2

COLOURS = {"red": (220, 30, 30), "blue": (30, 60, 220), "green": (20, 160, 40)}
SHAPES = ("circle", "square")
STYLES = ("flat", "round")


def draw(colour: str, shape: str, style: str) -> Image.Image:
    image = Image.new("RGBA", (64, 64))
    edge = {"flat": (10, 10, 54, 54), "round": (18, 14, 46, 50)}[style]
    pen = ImageDraw.Draw(image)
    (pen.ellipse if shape == "circle" else pen.rectangle)(edge, fill=COLOURS[colour])
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("captioner")


@pytest.fixture(scope="module")
def shapes(folder) -> Path:
    """Six labels in two styles; one of the twelve is held out."""
    home, rows = folder / "shapes", []
    home.mkdir()
    for colour in COLOURS:
        for shape in SHAPES:
            for style in STYLES:
                name, file = f"{colour} {shape}", f"{colour}-{shape}-{style}.png"
                draw(colour, shape, style).save(home / file)
                split = "unseen_pairs" if (colour, shape, style) == ("green", "square", "round") else "train"
                row = {"file_name": file, "text": name, "captions": [name, f"{name}, {style} style"], "split": split}
                rows.append({**row, "label": name, "concept": name, "style": style})
    (home / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home


@pytest.fixture(scope="module")
def trained(tiny_checkpoint, shapes, folder) -> Path:
    """The tiny checkpoint with a captioner that knows the shapes, trained in two sittings."""
    command = ["train", "captioner", "--data", str(shapes), "--base", str(tiny_checkpoint), "--log-with", "none"]
    command += ["--output", str(folder / "run"), "--cache", str(folder / "cache"), "--drawings", "0", "--views", "0"]
    command += ["--batch-size", "16", "--sample-every", "160", "--ema-images", "50"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(captioner_data, "KINDS", (0.6, 0.3, 0.1))  # Few steps: words have to come often.
        assert main([*command, "--steps", "100", "--learning-rate", "1e-3"]) == 0
        assert main([*command, "--steps", "320", "--resume", "--learning-rate", "1e-3"]) == 0
    return folder / "run" / "pipeline"


@pytest.fixture(scope="module")
def pipe(trained) -> MultimodalGANPipeline:
    return MultimodalGANPipeline.from_pretrained(trained)


def test_it_names_what_it_was_shown(pipe, trained):
    for colour in COLOURS:
        for shape in SHAPES:
            best = pipe.describe(draw(colour, shape, "flat"))[0][0]
            assert best.text == f"{colour} {shape}, flat style" and 0.3 < best.probability <= 1
    assert not (trained / "captioner" / "config.json").read_text().count("_name_or_path")
    sheets = sorted((trained.parent / "samples").iterdir())
    assert [sheet.name for sheet in sheets] == ["00000100.png", "00000160.png", "00000320.png"]


@torch.no_grad()
def test_it_says_words_back(pipe):
    none = torch.zeros(1, 0, 16, 80)
    for words, right in (("red circle, round style", "red circle, round style"), ("blue square", "blue square")):
        fused = pipe.fuse(words, none[0], [])
        assert pipe.captioner.describe(fused, none, torch.zeros(1, 0))[0][0].text == right


def test_pipeline_describes_what_it_draws(pipe):
    result = pipe("a red circle", seed=3, num_images=2, describe=True)
    assert len(result.captions) == 2 and result.captions == pipe.describe(result.images)
    assert pipe("a red circle").captions is None


def test_any_number_and_kind_of_pictures(pipe, tmp_path):
    images = [draw(colour, shape, "flat") for colour in COLOURS for shape in SHAPES]
    alone = [pipe.describe(image, num_captions=1)[0][0].text for image in images]
    many = pipe.describe(images * 7, num_captions=1)  # more than are read together
    assert [captions[0].text for captions in many] == alone * 7
    clear = Image.new("RGBA", (50, 50), (255, 0, 0, 0))
    mixed = pipe.describe([images[0], clear, images[1]], num_captions=1)
    assert mixed[1] == [] and [mixed[0][0].text, mixed[2][0].text] == alone[:2]
    assert pipe.describe(clear) == [[]]
    moving = tmp_path / "moving.gif"
    on_white = [Image.alpha_composite(Image.new("RGBA", one.size, "white"), one).convert("RGB") for one in images]
    on_white[0].save(moving, save_all=True, append_images=on_white[1:])
    assert pipe.describe([moving], num_captions=1)[0][0].text == alone[0]
    assert pipe.describe([moving.read_bytes()]) == pipe.describe(str(moving))
    assert len(pipe.describe(images[0], num_captions=16)[0]) > 5


def test_the_captions_that_are_missing_are_written(pipe, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("MMGEN_HOME", str(tmp_path / "home"))
    drafts, service, told = DraftService(), InferenceService(pipe), []
    draft_id = drafts.new_draft("local")
    draft = drafts.draft("local", draft_id)
    files = []
    for colour in COLOURS:
        for shape in SHAPES:
            files.append(tmp_path / f"{colour} {shape}.png")
            draw(colour, shape, "flat").save(files[-1])
    Image.new("RGBA", (20, 20)).save(tmp_path / "clear.png")
    draft.add_images([*files, tmp_path / "clear.png"])
    typed, gone, broken = "red circle.png", "red square.png", "blue circle.png"
    draft.set_caption(typed, "mine")
    draft.pair(broken).path.write_bytes(b"no picture any more")

    def tell(share, words):
        told.append(words)
        draft.remove([gone])  # While the model is at it.

    assert drafts.caption_rest("local", draft_id, service, tell) == (3, 2)
    said = {pair.name: (pair.text, pair.machine_written) for pair in drafts.draft("local", draft_id).pairs}
    assert said[typed] == ("mine", False) and gone not in said
    assert said["green square.png"] == ("green square, flat style", True)
    assert said[broken] == said["clear.png"] == ("", False) and told == ["0 of 6 pictures read"]
    assert drafts.caption_rest("local", draft_id, service, tell) == (0, 2)
    with pytest.raises(UserError, match="cannot describe"):
        drafts.caption_rest(
            "local", draft_id, InferenceService(MultimodalGANPipeline.from_pretrained(tiny_checkpoint)), tell
        )


@pytest.mark.parametrize("how", ["finetune", "train gan"])
def test_it_reads_on_as_it_has_learned_when_the_fusion_learns_more(how, trained, shapes, tmp_path):
    command = [*how.split(), "--data", str(shapes), "--base", str(trained), "--steps", "3", "--batch-size", "8"]
    if how == "train gan":
        command += ["--encoders", str(trained), "--autoencoder", str(trained / "autoencoder"), "--size", "32"]
        command += ["--cache", str(tmp_path / "cache"), "--log-with", "none", "--regression-steps", "0"]
    assert main([*command, "--output", str(tmp_path / "run")]) == 0
    tuned = MultimodalGANPipeline.from_pretrained(tmp_path / "run" / "pipeline")
    base = MultimodalGANPipeline.from_pretrained(trained)
    assert not torch.equal(tuned.fusion.summary, base.fusion.summary)
    assert (tmp_path / "run" / "pipeline" / "training.csv").is_file()
    image = draw("green", "circle", "round")
    assert tuned.describe(image) == base.describe(image)


def test_a_memory_is_drawn_from_and_kept(tiny_checkpoint, shapes, tmp_path):
    base = tmp_path / "base"
    with_tiny_memory(MultimodalGANPipeline.from_pretrained(tiny_checkpoint)).save_pretrained(base)
    command = ["train", "captioner", "--data", str(shapes), "--base", str(base), "--log-with", "none", "--views", "0"]
    command += ["--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "run"), "--batch-size", "4"]
    assert main([*command, "--drawings", "3", "--steps", "2"]) == 0
    old = MultimodalGANPipeline.from_pretrained(base)
    new = MultimodalGANPipeline.from_pretrained(tmp_path / "run" / "pipeline")
    assert old.captioner is None and len(new.describe(draw("red", "circle", "flat"))) == 1
    assert new.memory.config.texts == old.memory.config.texts and torch.equal(new.memory.codes, old.memory.codes)
    one, other = (pipe("a red cat", seed=1, output_type="pt") for pipe in (old, new))
    assert [share.entry for share in one.drawn_from[0]] == [share.entry for share in other.drawn_from[0]] != []
    torch.testing.assert_close(one.images, other.images, atol=0.02, rtol=0)
    assert len(list((tmp_path / "cache").glob("drawings-*.npy"))) == 1
    old.memory.codes.fill_(0)  # What is drawn from another memory is not the same, and is drawn anew.
    old.save_pretrained(base)
    assert main([*command, "--drawings", "3", "--steps", "3", "--resume"]) == 0
    assert len(list((tmp_path / "cache").glob("drawings-*.npy"))) == 2


def test_bad_pictures_give_a_sentence(pipe, tiny_checkpoint, tmp_path):
    with pytest.raises(UserError, match="no picture to describe"):
        pipe.describe([])
    for count in (0, 17, 2.5):
        with pytest.raises(UserError, match="whole number from 1 to 16"):
            pipe.describe(draw("red", "circle", "flat"), num_captions=count)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(UserError, match="damaged.png could not be read"):
        pipe.describe([damaged])
    cut = tmp_path / "cut.png"
    draw("red", "circle", "flat").resize((300, 300)).save(cut)
    cut.write_bytes(cut.read_bytes()[:-300])
    with pytest.raises(UserError, match="The picture could not be read"):
        pipe.describe(Image.open(cut))
    huge = tmp_path / "huge.png"
    Image.new("1", (12_000, 12_000)).save(huge)
    with pytest.raises(UserError, match="50 megapixels"):
        pipe.describe(huge)
    mute = MultimodalGANPipeline.from_pretrained(tiny_checkpoint)
    assert mute.captioner is None
    for asked in (lambda: mute.describe([damaged]), lambda: mute("x", describe=True)):
        with pytest.raises(UserError, match="This model cannot describe pictures.*mmgen train captioner"):
            asked()


def test_command_line(trained, tiny_checkpoint, tmp_path, capsys):
    files = [tmp_path / "red.png", tmp_path / "clear.png", tmp_path / "text.png"]
    draw("red", "circle", "round").save(files[0])
    Image.new("RGBA", (9, 9)).save(files[1])
    files[2].write_text("no picture")
    asked = ["describe", *map(str, files), "--checkpoint", str(trained), "--captions", "2"]
    assert main(asked) == 1
    told = capsys.readouterr()
    assert "red circle, round style" in told.out and "transparent all over" in told.out
    assert "text.png could not be read" in told.out and "1 of 3 pictures" in told.err
    assert main(["describe", str(files[0]), "--checkpoint", str(trained)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(files[0]) and lines[1].split(maxsplit=1)[1] == "red circle, round style"
    assert 0 < float(lines[1].split()[0]) <= 1
    assert main(["describe", str(files[0]), "--checkpoint", str(tiny_checkpoint)]) == 1
    assert "cannot describe pictures" in capsys.readouterr().err


def test_scores_of_pictures_that_were_held_out(trained, shapes, folder, capsys):
    file = folder / "scores.json"
    asked = ["evaluate-captioner", "--checkpoint", str(trained), "--data", str(shapes), "--json", str(file)]
    assert main([*asked, "--cache", str(folder / "cache"), "--split", "train"]) == 0
    scores = json.loads(file.read_text())
    assert scores["exact_label"] == scores["token_f1"] == scores["nearest_exact_label"] == 1.0
    assert scores["label_in_top_5"] == 1.0 and scores["exact_style"] == 1.0 and scores["pictures"] == 11
    said = capsys.readouterr()
    assert "| exact label | 1.000 | 1.000 |" in said.out
    assert f"{shapes}: 12 pictures taken, 12 with a caption" in said.err
    assert main([*asked, "--cache", str(folder / "cache")]) == 0
    assert json.loads(file.read_text())["pictures"] == 1
    assert label_of("Red circle,  flat style", STYLES) == "red circle"
    assert token_f1("red circle", "circle of red") == pytest.approx(0.8) and token_f1("red", "blue") == 0


def test_the_loop_is_counted(pipe, tiny_checkpoint, shapes):
    train = load_pairs(shapes)["train"]
    files, names = [one["path"] for one in train["image"]], [texts[0] for texts in train["captions"]]
    columns = {name: np.array(names, dtype=object) for name in ("labels", "styles", "splits", "prompts", "names")}
    none = np.zeros((len(files), 1))
    real = Gallery(paths=np.array(files, dtype=object), **columns, raw=none, seen=none, mean=none[0], spread=none[0])
    asked = Questions(np.array([0, 3, 5, 0]), np.arange(4))
    right, wrong = (Image.open(files[row]) for row in (0, 3))
    found = caption_cycle_accuracy(pipe, real, asked, [right, right, wrong, right], lambda things, what: things)
    assert found == {"named": 0.5, "named_real": 1.0}
    mute = MultimodalGANPipeline.from_pretrained(tiny_checkpoint)
    assert caption_cycle_accuracy(mute, real, asked, [], lambda things, what: things) == {}


def test_reports_from_before_there_was_a_decoder_still_print():
    old = {"prompts": 10, "retrieval_at_1": 0.5}
    report = {"splits": {"train": old}, "references": dict.fromkeys(("followed", "reference_alone", "chance"), 0.1)}
    report["reconstruction"] = {}
    assert "named by the decoder" not in table(report)
    old.update(named=0.25, named_real=0.5)
    assert "| named by the decoder (the first 200) | 0.250 |" in table(report)


@pytest.mark.slow
def test_endpoint(trained, tmp_path):
    red, clear, text = tmp_path / "red.png", tmp_path / "clear.png", tmp_path / "text.png"
    draw("red", "circle", "flat").save(red)
    Image.new("RGBA", (9, 9)).save(clear)
    text.write_text("no picture")
    with serve(trained, tmp_path) as url:
        client = Client(url, verbose=False, analytics_enabled=False)
        found = client.predict([handle_file(red), handle_file(clear)], 2, api_name="/describe")
        assert found[0][0]["text"] == "red circle, flat style" and 0.3 < found[0][0]["probability"] <= 1
        assert len(found[0]) == 2 and found[1] == []
        for images, sentence in (
            ([handle_file(text)], "text.png could not be read"),
            ([], "no picture to describe"),
            ([{"path": "/etc/hostname"}], "must be an uploaded file"),
            ([handle_file(red)] * 201, "at most 200"),
        ):
            with pytest.raises(AppError, match=sentence):
                client.predict(images, api_name="/describe")


@pytest.mark.slow
def test_published_it_describes_with_and_without_mmgen(trained, pipe, folder):
    home = folder / "published"
    home.mkdir()
    prepare(trained, home, "ann/shapes")
    image = folder / "red.png"
    draw("red", "circle", "flat").save(image)
    right = [[c.text, c.probability] for c in pipe.describe(image)[0]]
    again = MultimodalGANPipeline.from_pretrained(home).describe(image)[0]
    assert [[c.text, c.probability] for c in again] == right
    code = (
        "import json, sys, diffusers\n"
        f"pipe = diffusers.DiffusionPipeline.from_pretrained({str(home)!r}, trust_remote_code=True)\n"
        "assert not any(name == 'mmgen' or name.startswith('mmgen.') and sys.modules[name].__file__.startswith("
        f"{str(Path(__file__).parent.parent)!r}) for name in sys.modules)\n"
        f"print(json.dumps([[c.text, c.probability] for c in pipe.describe({str(image)!r})[0]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=home.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == right


def test_a_decoder_that_does_not_fit_is_refused(trained, folder):
    pipe = MultimodalGANPipeline.from_pretrained(trained, captioner=None)
    assert pipe.captioner is None
    with pytest.raises(UserError, match="fusion gives 32 channels and captioner takes 48"):
        MultimodalGANPipeline.from_pretrained(trained, captioner=tiny_captioner(fused_channels=48))


def test_a_gpt2_of_ones_own(shapes, tiny_checkpoint, folder):
    captions = [text for row in load_pairs(shapes)["train"]["captions"] for text in row]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([" " + text for text in captions], vocab_size=300, special_tokens=["<|endoftext|>"])
    end = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, **end)
    home = folder / "gpt2"
    tokenizer.save_pretrained(home)
    torch.manual_seed(5)
    teacher = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_positions=128, n_embd=32, n_layer=2, n_head=2)
    ).eval()
    teacher.save_pretrained(home)
    pieces = CaptionTokenizer(tokenizer, captions)
    assert all("".join(pieces.vocabulary[place] for place in pieces.encode(t)) == " " + t for t in captions)
    captioner = from_gpt2(teacher, tokenizer, pieces, 40, fused_channels=32, reference_channels=80).eval()
    tokens = torch.tensor([tokenizer(" red circle")["input_ids"]])
    ours = torch.tensor([pieces.encode("red circle")])
    kept = [tokenizer(piece)["input_ids"][0] for piece in pieces.vocabulary[2:]]
    with torch.no_grad():
        theirs = teacher(tokens).logits[..., kept]
        torch.testing.assert_close(captioner.gpt2(ours).logits[..., 2:], theirs, rtol=1e-4, atol=1e-5)
    command = ["train", "captioner", "--data", str(shapes), "--base", str(tiny_checkpoint), "--log-with", "none"]
    command += [
        "--cache",
        str(folder / "cache"),
        "--drawings",
        "3",
        "--views",
        "0",
        "--batch-size",
        "4",
        "--steps",
        "2",
    ]
    assert main([*command, "--output", str(folder / "run-gpt2"), "--gpt2", str(home)]) == 0
    made = MultimodalGANPipeline.from_pretrained(folder / "run-gpt2" / "pipeline")
    assert made.captioner.config.width == 32 and len(made.describe(draw("red", "circle", "flat"))) == 1
    assert main([*command, "--output", str(folder / "run-none"), "--decoder", str(shapes)]) == 1
