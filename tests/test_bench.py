"""The bench: the judge's numbers rank real pictures above blurred ones above somebody else's."""

from __future__ import annotations

import json

import numpy as np
import pytest
from creatures import NAMES, caption, draw_creature
from PIL import ImageFilter

from mmgen.cli.main import main
from mmgen.data.folder import load_pairs
from mmgen.evaluation import bench
from mmgen.evaluation.distances import frechet, kernel, precision_recall
from mmgen.evaluation.judge import load_judge
from mmgen.evaluation.report import table

STYLES = ("plain", "pale", "squat")


def in_style(name: str, style: str):
    picture = draw_creature(name)
    if style == "pale":
        return picture.point(lambda value: min(255, value + 25))
    return picture.resize((256, 200)) if style == "squat" else picture


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("bench-cache")


@pytest.fixture(scope="module")
def judge(cache):
    return load_judge(cache)


@pytest.fixture(scope="module")
def creatures(tmp_path_factory):
    """Sixty creatures in three styles, with the three splits."""
    folder = tmp_path_factory.mktemp("creatures")
    rows = []
    for index, name in enumerate(NAMES):
        for number, style in enumerate(STYLES):
            in_style(name, style).save(folder / f"{name}-{style}.png")
            split = "unseen_labels" if index > 16 else "unseen_pairs" if (index + number) % 7 == 0 else "train"
            texts = [caption(name), f"{caption(name)}, {style} style"]
            row = {"file_name": f"{name}-{style}.png", "text": texts[0], "captions": texts, "label": name}
            rows.append({**row, "concept": name, "style": style, "split": split})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def gallery(creatures, judge, cache):
    return bench.gallery(load_pairs(creatures), judge, cache, lambda things, what: things)


def test_retrieval_ranks_real_above_blurred_above_shuffled(gallery, judge):
    pictures = [in_style(label, style) for label, style in zip(gallery.labels, gallery.styles, strict=True)]
    blurred = [picture.filter(ImageFilter.GaussianBlur(14)) for picture in pictures]
    real = gallery.compare(judge.look(pictures))
    vague = gallery.compare(judge.look(blurred))
    shuffled = np.roll(real, 7 * len(STYLES), axis=0)
    scores = [
        bench.retrieval(gallery, vectors, gallery.labels, seed=1, without_style=gallery.styles).at(1)
        for vectors in (real, vague, shuffled)
    ]
    assert scores[0] > scores[1] > scores[2]
    assert scores[0] > 0.7 and scores[2] < 0.2


def test_distances_grow_with_blur(gallery, judge):
    some, others = gallery.raw[::2], gallery.raw[1::2]
    pictures = [in_style(label, style) for label, style in zip(gallery.labels[::2], gallery.styles[::2], strict=True)]
    clouds = [some]
    for radius in (4, 14):
        clouds.append(judge.look(picture.filter(ImageFilter.GaussianBlur(radius)) for picture in pictures))
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


def test_a_copy_counts_as_one_and_another_drawing_does_not(gallery):
    gallery = bench.Gallery(**{**vars(gallery), "kinship": 0.2})
    asked = bench.questions(gallery, "unseen_labels", 9)
    train = np.flatnonzero(gallery.splits == "train")[:9]
    assert bench.copies(gallery, asked, gallery.raw[train])["copies"] == 1
    assert bench.copies(gallery, asked, gallery.raw[asked.rows])["copies"] == 0


def test_a_split_with_few_pictures_is_asked_again_with_other_seeds(gallery):
    asked = bench.questions(gallery, "unseen_labels", 20)
    pairs = set(zip(asked.rows.tolist(), asked.seeds.tolist(), strict=True))
    assert len(asked.rows) == len(pairs) == 20 and set(gallery.splits[asked.rows]) == {"unseen_labels"}


def test_the_command_prints_and_writes_all_splits(tiny_checkpoint, creatures, cache, judge, tmp_path, capsys):
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
    assert found["reconstruction"][creatures.name]["pictures"] == 6
    printed = capsys.readouterr().out
    assert "retrieval@1 of 100 |" in printed and "Style of a reference followed" in printed
    assert table(found).strip() == printed.strip()  # What is no number is null in the file.
    assert main([*command, "--json", str(tmp_path / "gone" / "report.json")]) == 1
    assert "There is no folder" in capsys.readouterr().err
    assert main([*command, "--photographs", str(creatures), "--prompts", "12"]) == 1
    assert "has no split test" in capsys.readouterr().err


def test_an_unknown_split_is_told(capsys):
    assert main(["evaluate", "--split", "nonsense"]) == 1
    assert "no split nonsense" in capsys.readouterr().err
