"""CelebA as published (Liu et al., "Deep Learning Face Attributes in the Wild", 2015), with captions in English.

The 40 attributes of each image become sentences by a written grammar with a seed. Attributes that exclude each other
("bald" and "wavy hair", "no beard" and "goatee") are resolved first, so no caption contradicts itself.
"""

from __future__ import annotations

import csv
import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import datasets

from mmgen.data.columns import IMAGES, METADATA, to_splits
from mmgen.errors import UserError

ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
).split()
SPLITS = ("train", "valid", "test")
CAPTIONS = 4

_IMAGES = "img_align_celeba"
_ATTRIBUTE_LIST = "list_attr_celeba"
_SPLIT_LIST = "list_eval_partition"
_PLACES = ("", "Img", "Anno", "Eval")  # side by side, or in the folders they are published in

_HAIR_COLOURS = {
    frozenset({"Black_Hair"}): "black",
    frozenset({"Blond_Hair"}): "blond",
    frozenset({"Brown_Hair"}): "brown",
    frozenset({"Gray_Hair"}): "grey",
    frozenset({"Black_Hair", "Brown_Hair"}): "dark brown",
    frozenset({"Blond_Hair", "Brown_Hair"}): "light brown",
    frozenset({"Black_Hair", "Gray_Hair"}): "greying black",
    frozenset({"Brown_Hair", "Gray_Hair"}): "greying brown",
    frozenset({"Blond_Hair", "Gray_Hair"}): "greying blond",
}
_COLOURS = frozenset({"Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"})
_FACIAL_HAIR = frozenset({"5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns"})
_HAS = {
    "Oval_Face": ("an oval face",),
    "High_Cheekbones": ("high cheekbones", "prominent cheekbones"),
    "Rosy_Cheeks": ("rosy cheeks", "flushed cheeks"),
    "Pale_Skin": ("pale skin", "a pale complexion"),
    "Double_Chin": ("a double chin",),
    "Bags_Under_Eyes": ("bags under the eyes", "bags under {their} eyes"),
    "Narrow_Eyes": ("narrow eyes",),
    "Big_Lips": ("full lips", "big lips"),
    "Heavy_Makeup": ("heavy makeup",),
}
_WEARS = {
    "Wearing_Hat": ("a hat",),
    "Eyeglasses": ("glasses", "eyeglasses"),
    "Wearing_Earrings": ("earrings",),
    "Wearing_Necklace": ("a necklace",),
    "Wearing_Necktie": ("a necktie", "a tie"),
    "Wearing_Lipstick": ("lipstick",),
}
_FRAMES = ("", "a photo of ", "a portrait of ", "a close-up of ", "a picture of ")
_BLURRY_FRAMES = ("a blurry photo of ", "a blurry portrait of ", "a blurry close-up of ", "a blurry picture of ")


class _Part(NamedTuple):
    """One thing to say: where it stands in the sentence ("is", "has", "wears", "does"), and ways to say it."""

    place: str
    ways: tuple[str, ...]


def is_celeba(folder: str | Path) -> bool:
    """Whether a folder is CelebA: it has its images or its attribute list, and no metadata of its own."""
    folder = Path(folder)
    if any((folder / name).is_file() for name in METADATA):
        return False
    return _find(folder, _IMAGES) is not None or _find_list(folder, _ATTRIBUTE_LIST) is not None


def load_celeba(folder: str | Path, seed: int = 0) -> datasets.DatasetDict:
    """Load CelebA from a folder with `img_align_celeba/`, `list_attr_celeba` and `list_eval_partition` (.txt or .csv).

    Returns:
        the splits train, valid and test (those that have images), with the columns of `mmgen.data.columns.FEATURES`:
        four captions an image, the fullest first and as `text`; `label` "man" or "woman"; `style` "photo"; `tags` the
        attributes that hold, in words; `group` "faces". The same seed gives the same captions.

    Raises:
        UserError: a list or an image is missing, or a list has a wrong line.
    """
    folder = Path(folder)
    images = _find(folder, _IMAGES)
    if images is None:
        raise UserError(f"There is no {_IMAGES} folder in {folder}. Unpack {_IMAGES}.zip there.")
    if (images / _IMAGES).is_dir():  # as unpacked from Kaggle's archive
        images = images / _IMAGES
    attributes = _attributes(folder)
    splits = _splits(folder)
    _check_images(images, list(attributes))
    unplaced = [name for name in attributes if name not in splits]
    if unplaced:
        raise UserError(
            f"{_SPLIT_LIST} lacks {len(unplaced)} of the pictures in {_ATTRIBUTE_LIST}, the first being {unplaced[0]}. "
            "Download both lists again."
        )
    return to_splits(
        {
            "image": os.path.join(images, name),
            "text": (captions := describe(having, name, seed))[0],
            "captions": captions,
            "label": "man" if "Male" in having else "woman",
            "concept": captions[0],
            "style": "photo",
            "tags": [attribute.replace("_", " ").lower() for attribute in ATTRIBUTES if attribute in having],
            "group": "faces",
            "split": splits[name],
        }
        for name, having in attributes.items()
    )


def describe(having: frozenset[str], name: str, seed: int = 0) -> list[str]:
    """Say what a face looks like.

    Args:
        having: those of `ATTRIBUTES` that hold.
        name: the image's file name; with `seed` it decides the wording.

    Returns:
        `CAPTIONS` different captions. The first says all that can be said; the others say some of it.
    """
    rng = random.Random(zlib.crc32(f"{seed}/{name}".encode()))
    parts = _parts(having)
    frames = rng.sample(_BLURRY_FRAMES if "Blurry" in having else _FRAMES, CAPTIONS)
    captions = [_sentence(having, parts, frames[0], rng, True)]
    for frame in frames[1:]:
        some = sorted(rng.sample(range(len(parts)), min(len(parts), rng.randint(1, 4))))
        frame = frame.replace("blurry ", "") if rng.random() < 0.3 else frame
        captions.append(_sentence(having, [parts[i] for i in some], frame, rng, rng.random() < 0.7))
    return captions


def _parts(having: frozenset[str]) -> list[_Part]:
    """All that can be said of a face besides sex and age, without contradictions."""
    man = "Male" in having
    parts = []
    if "Attractive" in having:
        parts.append(_Part("is", ("attractive", "good-looking", "handsome" if man else "beautiful")))
    if "Chubby" in having:
        parts.append(_Part("is", ("chubby", "plump")))
    parts += _facial_hair(having) + _hair(having)
    brows = [word for name, word in (("Bushy_Eyebrows", "bushy"), ("Arched_Eyebrows", "arched")) if name in having]
    if brows:
        parts.append(_Part("has", (f"{' '.join(brows)} eyebrows",)))
    nose = [word for name, word in (("Big_Nose", "big"), ("Pointy_Nose", "pointy")) if name in having]
    if nose:
        parts.append(_Part("has", (f"a {' '.join(nose)} nose",)))
    parts += [_Part("has", ways) for name, ways in _HAS.items() if name in having]
    parts += [_Part("wears", ways) for name, ways in _WEARS.items() if name in having]
    if "Smiling" in having:
        parts.append(_Part("does", ("smiling", "with a smile")))
    if "Mouth_Slightly_Open" in having:
        parts.append(_Part("does", ("with {their} mouth slightly open", "lips slightly parted")))
    return parts


def _hair(having: frozenset[str]) -> list[_Part]:
    if "Bald" in having:
        return [_Part("is", ("bald",))]
    texture = [word for name, word in (("Wavy_Hair", "wavy"), ("Straight_Hair", "straight")) if name in having]
    colour = _HAIR_COLOURS.get(having & _COLOURS)
    words = [*(texture if len(texture) == 1 else []), *([colour] if colour else [])]
    parts = []
    if words:
        parts.append(_Part("has", (f"{' '.join(words)} hair",)))
    if "Bangs" in having:
        parts.append(_Part("has", ("bangs", "a fringe")))
    elif "Receding_Hairline" in having:
        parts.append(_Part("has", ("a receding hairline",)))
    return parts


def _facial_hair(having: frozenset[str]) -> list[_Part]:
    grey = "grey " if {"Bald", "Gray_Hair"} <= having else ""
    parts = []
    bearded = "No_Beard" not in having
    if "Goatee" in having and bearded:
        parts.append(_Part("has", (f"a {grey}goatee",)))
    if "5_o_Clock_Shadow" in having:
        parts.append(_Part("has", ("stubble", "a five o'clock shadow")))
    if bearded and not parts:
        parts.append(_Part("has", (f"a {grey}beard",)))
    if "Mustache" in having:
        parts.append(_Part("has", (f"a {grey}mustache", f"a {grey}moustache")))
    if "Sideburns" in having:
        parts.append(_Part("has", ("sideburns",)))
    if "Male" in having and not having & _FACIAL_HAIR and not bearded:
        parts.append(_Part("is", ("clean-shaven",)))
    return parts


def _sentence(having: frozenset[str], parts: list[_Part], frame: str, rng: random.Random, age: bool) -> str:
    man = "Male" in having
    said: dict[str, list[str]] = {"is": [], "has": [], "wears": [], "does": []}
    for part in parts:
        said[part.place].append(rng.choice(part.ways).replace("{their}", "his" if man else "her"))
    if age:
        said["is"].append("young" if "Young" in having else "older")
    who = " ".join([*said["is"], "man" if man else "woman"])
    sentence = f"{frame}{'an' if who[0] in 'aeiou' else 'a'} {who}"
    if said["has"]:
        sentence += f" with {_join(said['has'])}"
    if said["wears"]:
        sentence += f", wearing {_join(said['wears'])}" if said["has"] else f" wearing {_join(said['wears'])}"
    return ", ".join([sentence, *said["does"]])


def _join(things: list[str]) -> str:
    return f"{', '.join(things[:-1])} and {things[-1]}" if len(things) > 1 else things[0]


def _find(folder: Path, name: str) -> Path | None:
    return next((folder / place / name for place in _PLACES if (folder / place / name).exists()), None)


def _find_list(folder: Path, name: str) -> Path | None:
    return _find(folder, f"{name}.txt") or _find(folder, f"{name}.csv")


def _rows(folder: Path, name: str) -> Iterator[tuple[str, int, list[str]]]:
    """The file's name, the line number and the cells of each line of a list that is not blank."""
    file = _find_list(folder, name)
    if file is None:
        raise UserError(f"{name}.txt is missing from {folder}. Download it from where the pictures came from.")
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            rows = csv.reader(lines) if file.suffix == ".csv" else (line.split() for line in lines)
            for line, cells in enumerate(rows, 1):
                if cells:
                    yield file.name, line, cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file.name} is not a text file. Download it again.") from error


def _attributes(folder: Path) -> dict[str, frozenset[str]]:
    """The attributes that hold for each image, by file name."""
    columns: list[str] = []
    found = {}
    for title, line, cells in _rows(folder, _ATTRIBUTE_LIST):
        if not columns:
            names = cells[1:] if title.endswith(".csv") else cells
            if len(names) == len(ATTRIBUTES) and set(names) == set(ATTRIBUTES):
                columns = names
            elif line > 1 or not cells[0].isdigit():  # the published list begins with a count
                raise UserError(f"{title} line {line} does not name the 40 attributes of CelebA. Download it again.")
            continue
        values = cells[1:]
        if len(values) != len(columns) or not set(values) <= {"1", "-1"}:
            raise UserError(f"{title} line {line} must have a name and 40 values, 1 or -1. Download the list again.")
        if Path(cells[0]).name != cells[0] or "\\" in cells[0]:
            raise UserError(f"{title} line {line} names {cells[0]}, which is not a file name. Download the list again.")
        having = (column for column, value in zip(columns, values, strict=True) if value == "1")
        found[cells[0]] = frozenset(having)
    if not found:
        raise UserError(f"{_ATTRIBUTE_LIST} names no pictures. Download it again.")
    return found


def _splits(folder: Path) -> dict[str, str]:
    """The split of each image, by file name."""
    found = {}
    for title, line, cells in _rows(folder, _SPLIT_LIST):
        if line == 1 and title.endswith(".csv"):
            continue
        if len(cells) != 2 or cells[1] not in ("0", "1", "2"):
            raise UserError(f"{title} line {line} must have a file name and 0, 1 or 2. Download the list again.")
        found[cells[0]] = SPLITS[int(cells[1])]
    return found


def _check_images(images: Path, names: list[str]) -> None:
    """Look for the first hundred images, and count the rest."""
    missing = next((name for name in names[:100] if not (images / name).is_file()), None)
    if missing:
        raise UserError(f"{_ATTRIBUTE_LIST} names {missing}, which is not in {images}. Unpack all pictures there.")
    count = sum(os.path.splitext(entry.name)[1].lower() in IMAGES for entry in os.scandir(images))
    if count < len(names):
        raise UserError(
            f"{images} has {count:,} pictures and {_ATTRIBUTE_LIST} names {len(names):,}. Unpack all of them there, "
            "or remove the rows of those that are missing."
        )
