"""The emoji data set: the grammar, the split, the drawings, and the whole command."""

from __future__ import annotations

import json
import re
import tarfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgen.cli.main import main
from mmgen.data.folder import load_pairs
from mmgen.data.splits import split_pairs
from mmgen.datasets import emoji as emoji_module
from mmgen.datasets import npm
from mmgen.datasets.captions import emoji_captions, phrase
from mmgen.datasets.emoji import data_card, list_emoji, svg_text
from mmgen.datasets.emoji_names import slug
from mmgen.datasets.emoji_sets import SETS
from mmgen.datasets.synthetic_styles import without_synthetic
from mmgen.errors import UserError
from mmgen.models.memory import without_style


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


@pytest.mark.parametrize("seed", range(20))
def test_captions_are_varied_and_repeatable(seed):
    tags = ["fruit", "healthy", "apple"]
    captions = emoji_captions("red apple", "noto", tags, seed=str(seed))
    assert captions == emoji_captions("red apple", "noto", tags, seed=str(seed))
    assert captions != emoji_captions("red apple", "noto", tags, seed=str(seed + 1))
    assert captions[:2] == ["red apple", "red apple, noto style"]
    assert 8 <= len(captions) == len(set(captions)) <= 10
    named = [caption for caption in captions if "noto" in caption]
    assert 4 <= len(named) < len(captions) - 3
    assert {without_style(caption, ["noto"])[0].rsplit(" ", 1)[-1] for caption in named} & {"in", "of", "the"} == set()
    assert any("fruit" in caption or "healthy" in caption for caption in captions)
    plain = [caption for caption in captions if set(re.findall(r"\w+", caption)) <= {*tags}]
    assert plain, "no caption gives the tags alone"


def test_captions_ask_turn_the_words_and_have_articles():
    labels = ["woman firefighter: dark skin tone", "clapping hands", "flag: Bhutan", "octopus"]
    said = {
        label: [c for s in range(60) for c in emoji_captions(label, "noto", ["x"], seed=str(s))] for label in labels
    }
    assert any(caption.startswith("draw ") for caption in said["octopus"])
    assert "an octopus" in said["octopus"] and "the octopus" in said["octopus"]
    assert "an image of some clapping hands" in said["clapping hands"]
    assert not any(re.search(r"\ba clapping", caption) for caption in said["clapping hands"])
    assert "dark-skinned woman firefighter" in said["woman firefighter: dark skin tone"]
    assert "Bhutan flag" in said["flag: Bhutan"]


def test_icons_are_called_icons_and_a_style_need_not_be_named():
    said = [c for s in range(30) for c in emoji_captions("swimming ring", "icon park", [], seed=str(s), kind="icon")]
    assert "swimming ring icon" in said and not any("emoji" in caption for caption in said)
    silent = [c for s in range(30) for c in emoji_captions("cat", "synthetic 01", ["pet"], seed=str(s), naming=False)]
    assert not any("synthetic" in caption for caption in silent) and len(set(silent)) > 12
    assert all(emoji_captions("cat", "synthetic 01", [], seed=str(s), naming=False)[0] == "cat" for s in range(9))


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
def packages(tmp_path_factory) -> Path:
    """Where the packages are fetched to, once for all of these tests."""
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="module")
def listed(packages) -> tuple[list[dict], list[str | bytes], dict[str, int]]:
    """The whole data set, nothing rendered."""
    return list_emoji(packages)


def test_the_whole_data_set_is_listed(listed):
    rows, contents, published = listed
    styles = Counter(row["style"] for row in rows)
    expected = {
        "fluent 3d": 3372,
        "fluent flat": 3139,
        "noto": 3708,
        "twemoji": 3970,
        "blob": 2160,
        "emojione": 1823,
        "fxemoji": 890,
        "streamline": 780,
        "icon park": 296,
        "flat color icon": 36,
        "fluent color icon": 48,
        "openmoji": 3970,
    }
    assert styles == expected
    shares = {style: round(100 * styles[style] / published[style]) for style in styles}
    assert shares["blob"] == 100 and shares["emojione"] == 99 and shares["streamline"] == 99 and shares["fxemoji"] == 86
    assert len({row["file_name"] for row in rows}) == len(rows) == len(contents)
    terms = {(s.style, s.source, s.licence, s.author) for s in SETS}
    assert {(row["style"], row["source"], row["licence"], row["author"]) for row in rows} == terms
    assert all(row["source"] and row["licence"] and row["author"] for row in rows)


def test_what_is_held_out_is_held_out_everywhere(listed):
    rows = listed[0]
    of_style, of_concept = defaultdict(set), defaultdict(set)
    for row in rows:
        of_style[row["style"]].add(row["split"])
        of_concept[row["concept"]].add(row["split"])
    assert {style for style, splits in of_style.items() if "unseen_style" in splits} == {"openmoji"}
    assert of_style["openmoji"] == {"unseen_style"}
    unseen = {concept for concept, splits in of_concept.items() if "unseen_labels" in splits}
    assert unseen and all(of_concept[concept] <= {"unseen_labels", "unseen_style"} for concept in unseen)
    held = {(row["concept"], row["style"]) for row in rows if row["split"] == "unseen_pairs"}
    blob = {concept for concept, style in held if style == "blob"}
    assert blob and blob == {c for c, s in held if s == "noto"} & {r["concept"] for r in rows if r["style"] == "blob"}
    assert {style for _, style in held} == {"fluent 3d", "fluent flat", "noto", "twemoji", "blob"}
    first = [row for row in rows if row["style"] in ("fluent 3d", "fluent flat", "noto", "twemoji")]
    splits = split_pairs((row["concept"], row["style"]) for row in first)
    assert all(row["split"] == splits[row["concept"], row["style"]] for row in first)


def test_drawings_are_named_as_they_look(listed):
    named = {(row["style"], row["name"]): row["label"] for row in listed[0]}
    for style, name, label in (
        ("fxemoji", "aubergine", "eggplant"),
        ("fxemoji", "blackheartsuit", "heart suit"),
        ("fxemoji", "banknotedollar", "dollar banknote"),
        ("fxemoji", "hampster", "hamster"),
        ("fxemoji", "icecream", "ice cream"),
        ("fxemoji", "cat", "cat face"),
        ("fxemoji", "catside", "cat"),
        ("fxemoji", "clock7oclock", "seven o’clock"),
        ("fxemoji", "russianflag", "flag: Russia"),
        ("emojione", "flag-for-turkey", "flag: Türkiye"),
        ("emojione", "turkey", "turkey"),
        ("emojione", "blond-haired-person-dark-skin-tone", "person: dark skin tone, blond hair"),
        ("streamline", "school-backpack", "backpack"),
        ("streamline", "exclamation-mark", "red exclamation mark"),
        ("streamline", "turkey", "flag: Türkiye"),
        ("streamline", "man-artist-2", "man artist: light skin tone"),
        ("streamline", "boy-3", "boy: medium-dark skin tone"),
        ("streamline", "hamburger-3", "hamburger"),
        ("blob", "keycap-asterisk", "keycap: *"),
        ("icon park", "swimming ring", "swimming ring"),
    ):
        assert named.get((style, name)) == label, (style, name)
    assert ("fxemoji", "foxcrying") not in named and ("icon park", "death star") not in named
    words = {word for row in listed[0] if row["group"] != "icons" for word in _words(row["label"], *row["tags"])}
    icons = [row for row in listed[0] if row["group"] == "icons"]
    assert all(_words(row["label"]) <= words for row in icons)


def _words(*texts: str) -> set[str]:
    return {word for text in texts for word in slug(text).split("-")}


def test_the_data_card_tells_terms_and_shares(listed):
    rows, _, published = listed
    card = data_card(rows, published)
    for s in SETS:
        line = next(line for line in card.splitlines() if line.startswith(f"| {s.style} |"))
        assert s.licence in line and s.package.name in line and s.author in line and s.source in line and "%" in line
    attributions = card.partition("### Attribution")[2].partition("### For measuring only")
    for style in ("twemoji", "emojione", "streamline"):
        assert re.search(rf"- {style}: .*https://github.com.*CC-BY-4.0", attributions[0])
    assert "EmojiTwo" in attributions[0] and "openmoji" not in attributions[0]
    assert re.search("openmoji.*CC-BY-SA-4.0 and for measuring only", attributions[2])


@pytest.fixture(scope="module")
def emoji(packages, tmp_path_factory) -> Path:
    """A part of the data set as the command writes it: some of each of four sets, and two synthetic styles."""
    output = tmp_path_factory.mktemp("emoji")
    (output / "packages").symlink_to(packages)
    few = tuple(s for s in SETS if s.key in ("fluent-flat", "streamline-emojis", "fluent-color", "openmoji"))

    def some(*arguments):
        rows, contents, published = list_emoji(*arguments)
        some = [place for place, row in enumerate(rows) if place % 12 == 0 or row["label"] == "red apple"]
        return [rows[place] for place in some], [contents[place] for place in some], published

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emoji_module, "list_emoji", some)
        patch.setattr(emoji_module.build_emoji, "__defaults__", (256, 0, few, 0))
        command = ["data", "emoji", "--output", str(output), "--size", "64", "--synthetic-styles", "2"]
        assert main(command) == 0
    return output


def test_the_command_writes_pictures_rows_and_card(emoji, capsys):
    rows = [json.loads(line) for line in (emoji / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["style"] for row in rows} >= {"fluent flat", "streamline", "fluent color icon", "synthetic 01"}
    assert all((emoji / row["file_name"]).is_file() for row in rows)
    assert any(row["group"] == "recoloured" for row in rows)
    assert "| fluent flat |" in (emoji / "README.md").read_text(encoding="utf-8")
    assert main(["data", "emoji", "--output", str(emoji), "--synthetic-styles", "-1"]) != 0
    assert "from 0 to 999" in capsys.readouterr().err


def test_synthetic_styles_are_of_training_pictures_and_tell_their_base(emoji):
    rows = [json.loads(line) for line in (emoji / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    made = [row for row in rows if row["group"] == "synthetic"]
    real = {(row["style"], row["label"]): row for row in rows if row["group"] not in ("synthetic", "recoloured")}
    assert {row["style"] for row in made} == {"synthetic 01", "synthetic 02"}
    for row in made:
        base = real[row["base_style"], row["label"]]
        assert base["split"] == row["split"] == "train" and row["tones"] == [] and base["group"] != "icons"
        assert all(row[name] == base[name] for name in ("concept", "source", "licence", "author"))
        assert not any("synthetic" in caption or row["base_style"] in caption for caption in row["captions"])


def test_the_data_set_loads_by_the_common_loader(emoji):
    data = load_pairs(emoji)
    assert set(data) == {"train", "unseen_pairs", "unseen_labels", "unseen_style"}
    row = data["train"][0]
    assert row["captions"][0] == row["text"] and row["style"] and row["concept"]
    assert row["source"] and row["licence"] and row["author"] and row["base_style"] == ""
    assert set(data["train"]["base_style"]) > {""}
    assert "synthetic 01" not in without_synthetic(data["train"])["style"]


def test_the_drawings_are_transparent_around_and_show_their_label(emoji):
    for style in ("fluent-flat", "streamline-emojis", "openmoji"):
        apple = np.asarray(Image.open(emoji / "pictures" / style / "1F34E.png").convert("RGBA")).astype(int)
        assert apple.shape == (64, 64, 4) and apple[0, 0, 3] == 0 and apple[40, 32, 3] == 255
        solid = apple[apple[..., 3] == 255]
        assert solid[:, 0].mean() > solid[:, 1].mean() + 60, f"the apple in {style} is not red"
