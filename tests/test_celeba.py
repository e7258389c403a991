import random
import re
from pathlib import Path

import pytest
from PIL import Image

from mmgen.data.celeba import ATTRIBUTES, describe, is_celeba, load_celeba
from mmgen.data.columns import FEATURES
from mmgen.data.folder import load_pairs
from mmgen.errors import UserError

WOMAN = {"Young", "Wavy_Hair", "Brown_Hair", "Heavy_Makeup", "Smiling", "No_Beard"}
MAN = {"Male", "Eyeglasses", "Gray_Hair", "Goatee", "Wearing_Hat"}
FACES = {"000001.jpg": WOMAN, "000002.jpg": MAN, "000003.jpg": {"No_Beard", "Blurry"}, "000004.jpg": {"Male", "Bald"}}
SPLIT_OF = {"000001.jpg": 0, "000002.jpg": 0, "000003.jpg": 1, "000004.jpg": 2}


def publish(folder: Path, kind: str = "txt") -> Path:
    """CelebA with four pictures, as its authors publish it ("txt") or as Kaggle does ("csv")."""
    images = folder / "img_align_celeba"
    if kind == "csv":
        images = images / "img_align_celeba"
    images.mkdir(parents=True)
    comma = "," if kind == "csv" else " "
    rows = []
    for name, having in FACES.items():
        Image.new("RGB", (178, 218), "tan").save(images / name)
        rows.append(comma.join([name, *("1" if attribute in having else "-1" for attribute in ATTRIBUTES)]))
    head = [comma.join(["image_id", *ATTRIBUTES])] if kind == "csv" else [str(len(rows)), " ".join(ATTRIBUTES) + " "]
    (folder / f"list_attr_celeba.{kind}").write_text("\n".join([*head, *rows]) + "\n")
    head = ["image_id,partition"] if kind == "csv" else []
    splits = [f"{name}{comma}{split}" for name, split in SPLIT_OF.items()]
    (folder / f"list_eval_partition.{kind}").write_text("\n".join([*head, *splits]) + "\n")
    return folder


@pytest.mark.parametrize("kind", ["txt", "csv"])
def test_both_published_layouts_load_alike(tmp_path, kind):
    folder = publish(tmp_path, kind)
    assert is_celeba(folder)
    data = load_pairs(folder)
    assert {split: len(rows) for split, rows in data.items()} == {"train": 2, "valid": 1, "test": 1}
    assert all(rows.features == FEATURES for rows in data.values())
    woman, man = data["train"][0], data["train"][1]
    assert Image.open(woman["image"]["path"]).size == (178, 218)
    assert (woman["label"], woman["style"], woman["group"]) == ("woman", "photo", "faces")
    assert man["label"] == "man"
    assert woman["tags"] == ["brown hair", "heavy makeup", "no beard", "smiling", "wavy hair", "young"]
    for word in ("young woman", "wavy brown hair", "heavy makeup", "smil"):
        assert word in woman["text"]
    for word in ("an older man", "glasses", "grey hair", "goatee", "a hat"):
        assert word in man["text"]
    assert data["valid"][0]["text"].startswith("a blurry ")
    assert len(set(woman["captions"])) == 4 and woman["captions"][0] == woman["text"]


def test_the_folders_of_the_original_publication(tmp_path):
    publish(tmp_path)
    for name, place in (
        ("img_align_celeba", "Img"),
        ("list_attr_celeba.txt", "Anno"),
        ("list_eval_partition.txt", "Eval"),
    ):
        (tmp_path / place).mkdir()
        (tmp_path / name).rename(tmp_path / place / name)
    assert len(load_pairs(tmp_path)["train"]) == 2


def test_own_metadata_goes_before_the_attributes(tmp_path):
    publish(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "img_align_celeba/000001.jpg", "text": "mine"}')
    assert not is_celeba(tmp_path)
    assert load_pairs(tmp_path)["train"]["text"] == ["mine"]


def test_captions_follow_from_name_and_seed(tmp_path):
    publish(tmp_path)
    captions = [load_celeba(tmp_path, seed)["train"]["captions"][:] for seed in (0, 0, 1)]
    assert captions[0] == captions[1] != captions[2]
    assert len({describe(frozenset(WOMAN), f"{i}.jpg")[1] for i in range(30)}) > 15


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_attribute_can_be_told_from_the_fullest_caption(attribute):
    base = frozenset({"Male"})
    without = {describe(base, f"{i}.jpg")[0] for i in range(40)}
    having = {describe(base ^ {attribute}, f"{i}.jpg")[0] for i in range(40)}
    assert not without & having


EXCLUSIVE = (
    (r"\bbald\b", r"\bhair\b|hairline|bangs|fringe"),
    ("wavy", "straight"),
    ("clean-shaven", "beard|goatee|m(o)?ustache|stubble|shadow|sideburns"),
    ("receding", "bangs|fringe"),
    ("young", "older"),
    (r"\bman\b|\bhis\b", r"\bwoman\b|\bher\b"),
)


def test_no_caption_contradicts_itself_or_the_attributes():
    rng = random.Random(0)
    for i in range(2000):
        having = frozenset(rng.sample(ATTRIBUTES, rng.randint(0, len(ATTRIBUTES))))
        captions = describe(having, f"{i}.jpg")
        assert len(set(captions)) == 4
        for caption in captions:
            assert re.fullmatch(r"[a-z' ,5-]+", caption.replace("o'clock", "oclock")), caption
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  | ,|None|\{", caption), caption
            for one, other in EXCLUSIVE:
                assert not (re.search(one, caption) and re.search(other, caption)), caption
            colours = re.findall(r"black|blond|brown|grey\b(?= hair)", caption)
            assert len(colours) <= 1, caption
            assert bool(re.search(r"\bman\b", caption)) == ("Male" in having)


def spoil(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        load_pairs(folder)
    return str(error.value)


@pytest.mark.parametrize("name", ["list_attr_celeba", "list_eval_partition"])
def test_a_missing_list_is_named(tmp_path, name):
    publish(tmp_path)
    (tmp_path / f"{name}.txt").unlink()
    assert f"{name}.txt is missing" in refused(tmp_path)


def test_pictures_that_were_not_unpacked(tmp_path):
    publish(tmp_path)
    (tmp_path / "img_align_celeba").rename(tmp_path / "elsewhere")
    assert "Unpack img_align_celeba.zip" in refused(tmp_path)


@pytest.mark.parametrize(("kind", "line"), [("txt", 4), ("csv", 3)])
@pytest.mark.parametrize("bad", ["2", "", "1 1"])
def test_a_row_with_wrong_columns_is_named(tmp_path, kind, line, bad):
    publish(tmp_path, kind)
    file = tmp_path / f"list_attr_celeba.{kind}"
    lines = file.read_text().split("\n")
    comma = "," if kind == "csv" else " "
    lines[line - 1] = comma.join([*lines[line - 1].split(comma)[:-1], bad.replace(" ", comma)])
    file.write_text("\n".join(lines))
    assert f"list_attr_celeba.{kind} line {line} " in refused(tmp_path)


def test_a_wrong_head_a_wrong_split_and_a_wrong_name(tmp_path):
    publish(tmp_path / "head")
    spoil(tmp_path / "head", "list_attr_celeba.txt", "Bald", "Balding")
    assert "list_attr_celeba.txt line 2 does not name the 40 attributes" in refused(tmp_path / "head")
    publish(tmp_path / "split")
    spoil(tmp_path / "split", "list_eval_partition.txt", "000002.jpg 0", "000002.jpg 7")
    assert "list_eval_partition.txt line 2" in refused(tmp_path / "split")
    publish(tmp_path / "lacking")
    spoil(tmp_path / "lacking", "list_eval_partition.txt", "000002.jpg 0\n", "")
    assert "000002.jpg" in refused(tmp_path / "lacking")
    publish(tmp_path / "name")
    spoil(tmp_path / "name", "list_attr_celeba.txt", "000001.jpg", "../000001.jpg")
    assert "line 3 names ../000001.jpg" in refused(tmp_path / "name")
    publish(tmp_path / "none")
    (tmp_path / "none" / "list_attr_celeba.txt").write_text("")
    assert "names no pictures" in refused(tmp_path / "none")


def test_missing_pictures_are_noticed(tmp_path):
    publish(tmp_path)
    (tmp_path / "img_align_celeba" / "000003.jpg").unlink()
    assert "000003.jpg" in refused(tmp_path)


def test_pictures_beyond_the_first_hundred_are_counted(tmp_path):
    publish(tmp_path)
    names = [f"{i:06}.jpg" for i in range(5, 121)]
    values = " ".join(["-1"] * 40)
    with (
        open(tmp_path / "list_attr_celeba.txt", "a") as attributes,
        open(tmp_path / "list_eval_partition.txt", "a") as split,
    ):
        for name in names:
            attributes.write(f"{name} {values}\n")
            split.write(f"{name} 0\n")
    for name in names[:-1]:
        (tmp_path / "img_align_celeba" / name).write_bytes(b"")
    assert "has 119 pictures and list_attr_celeba names 120" in refused(tmp_path)
    (tmp_path / "img_align_celeba" / names[-1]).write_bytes(b"")
    assert len(load_pairs(tmp_path)["train"]) == 118
