"""The emoji data set: the grammar, the split, the drawings, and the whole command."""

from __future__ import annotations

import json
import tarfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgen.cli.main import main
from mmgen.data import npm
from mmgen.data.captions import emoji_captions, phrase
from mmgen.data.emoji import SETS, svg_text
from mmgen.data.folder import load_pairs
from mmgen.data.splits import split_pairs
from mmgen.errors import UserError


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("red apple", "red apple"),
        ("woman firefighter: medium-dark skin tone", "woman firefighter with medium-dark skin"),
        ("man: dark skin tone, white hair", "man with dark skin and white hair"),
        ("man: bald", "man with bald head"),
        ("flag: Bhutan", "flag of Bhutan"),
        ("keycap: 1", "keycap 1"),
        ("kiss: woman, man", "kiss of woman and man"),
    ],
)
def test_labels_are_said_as_a_person_would(label, expected):
    assert phrase(label) == expected


def test_captions_are_varied_and_repeatable():
    captions = emoji_captions("red apple", "noto", ["fruit", "healthy", "apple"], seed="0")
    assert captions == emoji_captions("red apple", "noto", ["fruit", "healthy", "apple"], seed="0")
    assert captions != emoji_captions("red apple", "noto", ["fruit", "healthy", "apple"], seed="1")
    assert captions[:2] == ["red apple", "red apple, noto style"] and len(set(captions)) >= 7
    named = [caption for caption in captions if "noto" in caption]
    assert 3 <= len(named) < len(captions)
    assert any("fruit" in caption or "healthy" in caption for caption in captions)


def test_the_split_holds_out_pairs_and_whole_labels():
    pairs = [(f"label {i}", style) for i in range(200) for style in "abcd"]
    splits = split_pairs(pairs, seed=3)
    assert splits == split_pairs(reversed(pairs), seed=3) != split_pairs(pairs, seed=4)
    counts = Counter(splits.values())
    assert counts == {"train": 680, "unseen_pairs": 80, "unseen_labels": 40}
    of_label = defaultdict(set)
    for (label, _), split in splits.items():
        of_label[label].add(split)
    assert sum(found == {"unseen_labels"} for found in of_label.values()) == 10
    assert all("train" in found for found in of_label.values() if found != {"unseen_labels"})


def test_aliases_are_flipped_and_turned():
    icons = {
        "width": 32,
        "height": 16,
        "icons": {"left": {"body": "<path/>"}},
        "aliases": {"right": {"parent": "left", "hFlip": True}, "up": {"parent": "right", "rotate": 1}},
    }
    assert 'viewBox="0 0 32 16"' in svg_text(icons, "left") and "transform" not in svg_text(icons, "left")
    assert 'transform="translate(32 0) scale(-1 1)"' in svg_text(icons, "right")
    assert 'transform="rotate(90 16.0 8.0) translate(32 0) scale(-1 1)"' in svg_text(icons, "up")


def test_an_archive_with_another_checksum_is_refused(tmp_path, monkeypatch):
    package = npm.NpmPackage("is-number", "7.0.0", "sha512-" + "A" * 86 + "==")
    with pytest.raises(UserError, match="another checksum"):
        npm.fetch(package, tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="Install Node.js"):
        npm.fetch(package, tmp_path)


def test_archives_are_read_without_unpacking(tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        tar.add(tmp_path / "x.txt", "package/assets/x.txt")
        tar.add(tmp_path / "x.txt", "package/assets/deeper/y.txt")
    assert npm.read(tmp_path / "a.tgz", "assets/x.txt") == b"hello"
    assert npm.read_folder(tmp_path / "a.tgz", "assets") == {"x.txt": b"hello"}


@pytest.fixture(scope="module")
def emoji(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("emoji")
    assert main(["data", "emoji", "--output", str(output), "--size", "64"]) == 0
    return output


def test_the_command_makes_the_whole_data_set(emoji):
    rows = [json.loads(line) for line in (emoji / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    styles = Counter(row["style"] for row in rows)
    assert len(rows) >= 13_500
    assert set(styles) == {"fluent 3d", "fluent flat", "noto", "twemoji"}
    published = {"fluent 3d": 3375, "fluent flat": 3139, "noto": 3729, "twemoji": 3988}
    assert all(styles[style] > 0.9 * count for style, count in published.items())
    assert all((emoji / row["file_name"]).is_file() for row in rows)
    card = (emoji / "README.md").read_text(encoding="utf-8")
    assert all(s.licence in card and s.package.name in card for s in SETS)
    splits = Counter(row["split"] for row in rows)
    assert splits["unseen_pairs"] / len(rows) == pytest.approx(0.10, abs=0.02)
    assert splits["unseen_labels"] / len(rows) == pytest.approx(0.05, abs=0.02)
    trained = {row["concept"] for row in rows if row["split"] == "train"}
    assert all((row["concept"] in trained) == (row["split"] != "unseen_labels") for row in rows)


def test_the_data_set_loads_by_the_common_loader(emoji):
    data = load_pairs(emoji)
    assert set(data) == {"train", "unseen_pairs", "unseen_labels"}
    row = data["train"][0]
    assert row["captions"][0] == row["text"] and row["style"] and row["concept"]


def test_the_drawings_are_transparent_around_and_show_their_label(emoji):
    for style in ("noto", "twemoji", "fluent-flat"):
        apple = np.asarray(Image.open(emoji / "pictures" / style / "1F34E.png").convert("RGBA")).astype(int)
        assert apple.shape == (64, 64, 4) and apple[0, 0, 3] == 0 and apple[40, 32, 3] == 255
        solid = apple[apple[..., 3] == 255]
        assert solid[:, 0].mean() > solid[:, 1].mean() + 60, f"the apple in {style} is not red"
