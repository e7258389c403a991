"""Layouts that people bring: no caption is lost, none is another's, and every file is accounted for."""

from __future__ import annotations

import io
import json
import os
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from PIL import Image
from tars import image, write_shard

from mmgen.cli.main import main
from mmgen.data.draft import Draft
from mmgen.data.folder import load_pairs
from mmgen.data.report import Report, changes_since
from mmgen.data.shards import open_image_at
from mmgen.errors import UserError


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("temporary")))


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


def lay(root: Path, files: dict[str, str | bytes | dict | list]) -> Path:
    """Write files: `b""` of a picture's name is a small picture, other text and JSON as it is."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content == b"":
            content = image()
        elif isinstance(content, (dict, list)):
            content = json.dumps(content, ensure_ascii=False)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def read(source: Path, **options) -> tuple[dict[str, list[str]], Report]:
    """The captions by the pictures' names, and the report."""
    report = Report()
    splits = load_pairs(source, need_text=False, report=report, **options)
    rows = [row for split in splits.values() for row in split]
    return {Path(row["image"]["path"]).name: row["captions"] for row in rows}, report


def line(**record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


RED = {"a.png": ["a red cat"]}


@pytest.mark.parametrize(
    ("files", "guess"),
    [
        ({"metadata.jsonl": line(file_name="a.png", caption="a red cat")}, "from its column caption"),
        ({"metadata.jsonl": line(file_name="a.png", prompt="a red cat")}, "from its column prompt"),
        ({"metadata.jsonl": line(image="a.png", description="a red cat")}, "read from image"),
        ({"metadata.csv": "file_name,Text\na.png,a red cat\n"}, ""),
        ({"metadata.csv": "\ufeff File Name , TEXT \na.png,a red cat\n"}, ""),
        ({"metadata.csv": "filename;caption\na.png;a red cat\n"}, "“;” between"),
        ({"captions.csv": "a.png,a red cat\n"}, "does not name its columns"),
        ({"metadata.tsv": "file_name\ttext\na.png\ta red cat\n"}, ""),
        ({"Metadata.JSONL": line(file_name="a.png", text="a red cat")}, "was read as metadata.jsonl"),
        ({"metadata.json": [{"file_name": "a.png", "text": "a red cat"}]}, ""),
        ({"metadata.json": {"a.png": "a red cat"}}, ""),
        ({"meta_cap.json": {"a": {"caption": "a red cat"}}}, "with an ending"),
        (
            {
                "annotations.json": {
                    "images": [{"id": 1, "file_name": "a.png"}],
                    "annotations": [{"image_id": 1, "caption": "a red cat"}],
                }
            },
            "as it names the pictures",
        ),
        ({"metadata.jsonl": line(file_name="A.PNG", text="a red cat")}, "in another case or form"),
        ({"metadata.jsonl": line(file_name="/else/where/a.png", text="a red cat")}, "by its name alone"),
        ({"metadata.jsonl": line(file_name="a.png"), "a.txt": "a red cat"}, ""),
        ({"a.caption": "a red cat"}, ""),
        ({"a.cap": "a red cat"}, ""),
        ({"a.png.txt": "a red cat"}, ""),
        ({"a.json": {"caption": "a red cat"}}, ""),
        ({"A.TXT": "a red cat"}, ""),
        ({"captions/a.txt": "a red cat", "captions/b.txt": "x"}, "Words in captions/"),
        ({"a.txt": "a red cat\u2019s".encode("utf-16")}, "read as UTF-16"),
    ],
)
def test_captions_in_usual_places_are_found_and_guesses_told(root, files, guess):
    found, report = read(lay(root, {"a.png": b"", **files}))
    assert found == RED or found == {"a.png": ["a red cat\u2019s"]}
    assert guess in " ".join(report.guessed) and bool(guess) == bool(report.guessed), report.guessed
    assert read(root)[1].uncaptioned == []


def test_words_of_a_folder_are_offered_as_caption(root):
    found, report = read(lay(root, {"img/10_zorblat creature/a.png": b"", "img/10_zorblat creature/b.png": b""}))
    assert found == {"a.png": ["zorblat creature"], "b.png": ["zorblat creature"]}
    assert report.guessed == [
        "Pictures in 10_zorblat creature without a caption have its words as one: zorblat creature."
    ]


def test_metadata_in_each_folder_names_and_pictures_beside_it(root):
    files = {"x/a.png": b"", "x/metadata.jsonl": line(file_name="a.png", text="x"), "y/b.png": b"", "y/b.txt": "y"}
    found, report = read(lay(root, {**files, "x/c.png": b"", "x/d.png": b"", "x/d.txt": "d"}))
    assert found == {"a.png": ["x"], "b.png": ["y"], "d.png": ["d"]}
    assert report.left_out == {"is not named in x/metadata.jsonl. Add a row for it, or words beside it.": ["x/c.png"]}
    assert "x/metadata.jsonl does not name" in report.guessed[0]


def test_an_absolute_path_inside_is_inside(root):
    found, report = read(lay(root, {"a.png": b"", "metadata.jsonl": line(file_name=str(root / "a.png"), text="t")}))
    assert found == {"a.png": ["t"]} and report.guessed == []


def test_names_in_two_unicode_forms_are_the_same(root):
    nfd, nfc = (unicodedata.normalize(form, "é") for form in ("NFD", "NFC"))
    found, _ = read(lay(root, {f"{nfd}.png": b"", f"{nfc}.txt": "one"}))
    assert list(found.values()) == [["one"]]
    lay(root, {"metadata.jsonl": line(file_name=f"{nfc}.png", text="two")})
    assert list(read(root)[0].values()) == [["two"]]


def test_a_caption_of_another_case_is_not_taken_from_its_picture(root):
    found, _ = read(lay(root, {"a.png": b"", "A.png": b"", "a.txt": "small"}))
    assert found == {"a.png": ["small"], "A.png": [""]}


def test_what_is_no_caption_is_none(root):
    rows = '{"file_name": "a.png", "text": NaN}\n{"file_name": "b.png", "text": "None"}\n'
    rows += '{"file_name": "c.png", "text": 7.0}\n{"file_name": "d.png", "text": null}\n'
    found, report = read(lay(root, {**{f"{name}.png": b"" for name in "abcd"}, "metadata.jsonl": rows}))
    assert found == {"a.png": [""], "b.png": [""], "c.png": ["7"], "d.png": [""]}
    assert report.warnings()[-1].startswith("3 pictures have no caption (a.png, b.png, d.png).")


def test_a_split_of_any_case_is_the_same_split(root):
    rows = "".join(line(file_name="a.png", text="t", split=name) for name in ("Train", "TEST", "val", "Validation"))
    splits = load_pairs(lay(root, {"a.png": b"", "metadata.jsonl": rows}))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 1, "test": 1, "validation": 2}


def test_shards_with_dots_in_their_keys_and_captions_in_json(root):
    members: dict = {}
    for key in ("22.05", "22.06"):
        members |= {f"{key}.png": image(), f"{key}.txt": key}
    members |= {"b.jpg": image(kind="JPEG"), "b.json": {"Caption": "b"}}
    found = load_pairs(write_shard(root / "x.tar", members))["train"]
    assert sorted(found["text"][:]) == ["22.05", "22.06", "b"]


def test_one_bad_thing_costs_itself_alone(root):
    rows = line(file_name="a.png", text="t") + "{oops\n" + line(file_name="gone.png", text="t") + line(text="t")
    files = {"a.png": b"", "metadata.jsonl": rows, "bad.png": b"no picture", "bad.txt": "words"}
    found, report = read(lay(root, files), look=True)
    assert found == {"a.png": ["t"]}
    assert report.count_left_out == 4 and not any("oops" in name for name in report.taken)
    with pytest.raises(UserError, match="line 2 is not JSON"):
        load_pairs(root)


@pytest.mark.parametrize("page", ["utf-8", "cp437", "cp932", "cp1251"])
def test_zips_of_other_code_pages_and_of_windows(root, page):
    name = {"cp932": "赤い猫", "cp1251": "кот в шляпе"}.get(page, "café")
    plain = "n" * len(name.encode(page))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr("folder\\", b"")
        packed.writestr(f"folder\\{plain}.png", image())
        packed.writestr("folder\\metadata.jsonl", line(file_name=f"{name}.png", text="one"))
    (root / "x.zip").write_bytes(content.getvalue().replace(plain.encode(), name.encode(page)))
    found, _ = read(root / "x.zip")
    assert found == {f"{name}.png": ["one"]}


def test_an_encrypted_zip_is_told_so(root):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr("a.png", image())
    data = bytearray(content.getvalue())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (root / "x.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"^x.zip is locked with a password\."):
        load_pairs(root / "x.zip")


def test_archives_in_a_folder_and_compressed_tars(root, tmp_path):
    with zipfile.ZipFile(root / "images.zip", "w") as packed:
        packed.writestr("a.png", image())
    lay(root, {"metadata.jsonl": line(file_name="a.png", text="t")})
    assert read(root)[0] == {"a.png": ["t"]}
    (root / "metadata.jsonl").unlink()
    with tarfile.open(root / "more.tar.gz", "w:gz") as packed:
        packed.add(lay(tmp_path / "m", {"b.png": b""}) / "b.png", "b.png")
        packed.add(lay(tmp_path / "m", {"b.txt": "b"}) / "b.txt", "b.txt")
    write_shard(root / "shard.tar", {"c.png": image(), "c.txt": "c"})
    assert sorted(read(root)[0].values()) == [[""], ["b"], ["c"]]
    draft = Draft(tmp_path / "draft")
    assert draft.add_files([root]).refused == []
    assert sorted((pair.name, pair.text) for pair in draft.pairs) == [("a.png", ""), ("b.png", "b"), ("c.png", "c")]
    again = Draft(tmp_path / "again")
    assert again.add_files([root / "more.tar.gz", root / "shard.tar"]).names == ["b.png", "c.png"]


def test_equal_names_of_two_folders_keep_their_own_captions(root, tmp_path):
    for folder, colour in (("x", "red"), ("y", "blue")):
        lay(root, {f"{folder}/image.png": image(colour), f"{folder}/image.txt": colour})
    for number, order in enumerate(
        ("x/image.png x/image.txt y/image.png y/image.txt", "x/image.png y/image.png y/image.txt x/image.txt")
    ):
        draft = Draft(tmp_path / f"draft{number}")
        assert draft.add_files([root / name for name in order.split()]).refused == []
        for pair in draft.pairs:
            assert Image.open(pair.path).getpixel((0, 0)) == ((255, 0, 0) if pair.text == "red" else (0, 0, 255))
        assert sorted(pair.text for pair in draft.pairs) == ["blue", "red"]
    for number, name in enumerate(("x/image.png", "x/image.txt", "y/image.png", "y/image.txt")):  # as a browser does
        lay(root, {f"{number}/{Path(name).name}": (root / name).read_bytes()})
    draft = Draft(tmp_path / "browser")
    added = draft.add_files([path for number in range(4) for path in (root / str(number)).iterdir()])
    assert [pair.text for pair in draft.pairs] == ["", ""] and "more than one picture" in added.refused[0]


def test_one_odd_caption_refuses_nobody(root, tmp_path):
    lay(
        root,
        {name: b"" for name in ("a.png", "b.png")} | {"a.txt": "thing a", "b.txt": "the cat’s hat".encode("cp1252")},
    )
    for number, given_ in enumerate(([root], sorted(root.iterdir()))):
        draft = Draft(tmp_path / f"draft{number}")
        added = draft.add_files(given_)
        assert [pair.text for pair in draft.pairs] == ["thing a", "the cat’s hat"] and added.refused == []
        assert "read as cp1252" in added.report.warnings()[0]


def test_what_a_run_wrote_is_no_picture_to_learn(root):
    run = {"run/config.json": {}, "run/log.csv": "step\n", "run/samples/00000001.png": b"", "a.png": b"", "a.txt": "a"}
    run |= {"model/model_index.json": {}, "model/samples.png": b""}
    found, report = read(lay(root, run))
    assert found == {"a.png": ["a"]} and sorted(next(iter(report.left_out.values()))) == ["model/", "run/"]
    lay(root, {"config.json": {}, "status.json": {}, "samples/1.png": b""})
    assert read(root)[0] == {"a.png": ["a"]}


def test_pictures_that_come_before_a_resume_are_said(root, tmp_path):
    report = Report(taken=["a.png", "b.png"])
    assert changes_since(tmp_path / "run", report, resumed=False) == []
    assert changes_since(tmp_path / "run", report, resumed=True) == []
    new, gone = changes_since(tmp_path / "run", Report(taken=["a.png", "c.png"]), resumed=True)
    assert new.startswith("c.png is new since") and gone.startswith("b.png is gone since")


def test_data_check_accounts_for_every_file(root, capsys):
    files = {
        "a.png": b"",
        "a.txt": "a",
        "b.png": b"",
        "notes.txt": "n",
        "README.md": "r",
        ".DS_Store": "x",
        "c.mov": "m",
    }
    lay(root, {**files, "bad.png": b"bad", "sub/metadata.csv": "image,caption\nd.png,d\n", "sub/d.png": b""})
    os.symlink("/gone", root / "gone.png")
    main(["data", "check", str(root)])
    said = capsys.readouterr().out
    assert said.startswith(
        "3 pictures taken, 2 with a caption; 2 files of words read; 5 left out; 1 of the system passed over.\n"
    )
    for words in (
        "from its column caption",
        "no caption (b.png)",
        "notes.txt belongs",
        "README.md is",
        "gone.png is a link",
    ):
        assert words in said
    assert "bad.png could not be read" in said and "Splits: train 3" in said
    assert 3 + 2 + 5 + 1 == sum(1 for path in root.rglob("*") if path.is_file() or path.is_symlink())


WORDS = some.text(
    some.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1, max_size=9
)
CAPTIONS = WORDS.filter(
    lambda text: text.strip() == text and text not in ("nan", "NaN", "None", "null", "NULL", "<NA>")
)
NAMES = some.text("abcXYZé猫0189_-", min_size=1, max_size=6)


@some.composite
def data_sets(draw):
    """A layout, and pictures with captions by their names, of which no two differ in case or form alone."""
    fold = lambda name: unicodedata.normalize("NFC", name).casefold()  # noqa: E731
    names = draw(some.lists(NAMES, min_size=1, max_size=4, unique_by=fold))
    pairs = {f"{name}{draw(some.sampled_from(['.png', '.PNG', '.bmp']))}": draw(CAPTIONS) for name in names}
    return draw(some.sampled_from(sorted(LAYOUTS))), pairs, draw(some.sampled_from(["", "sub", "val", "deep/er"]))


def _rows(pairs, image_key="file_name", text_key="text"):
    return [{image_key: name, text_key: text} for name, text in pairs.items()]


def _csv(pairs, head="file_name,text", between=","):
    quoted = ['"' + name + '"' + between + '"' + text.replace('"', '""') + '"' for name, text in pairs.items()]
    return "\n".join([head.replace(",", between), *quoted]) + "\n"


def _lines(rows):
    return "".join(json.dumps(row, ensure_ascii=len(rows) % 2 == 0) + "\n" for row in rows)


LAYOUTS = {
    "jsonl": lambda pairs: {"metadata.jsonl": _lines(_rows(pairs))},
    "jsonl, other columns": lambda pairs: {"Metadata.jsonl": _lines(_rows(pairs, "Image", " Prompt"))},
    "json list": lambda pairs: {"metadata.json": _rows(pairs, "filename", "caption")},
    "json object": lambda pairs: {"captions.json": dict(pairs)},
    "csv": lambda pairs: {"metadata.csv": _csv(pairs)},
    "csv, semicolons": lambda pairs: {"metadata.csv": "\ufeff" + _csv(pairs, "File,Caption", ";")},
    "tsv": lambda pairs: {"captions.tsv": _csv(pairs, between="\t")},
    "txt": lambda pairs: {Path(name).stem + ".txt": text for name, text in pairs.items()},
    "caption": lambda pairs: {Path(name).stem + ".caption": text for name, text in pairs.items()},
    "png.txt": lambda pairs: {name + ".txt": text for name, text in pairs.items()},
    "nfd txt": lambda pairs: {unicodedata.normalize("NFD", Path(n).stem) + ".TXT": text for n, text in pairs.items()},
    "json beside": lambda pairs: {Path(name).stem + ".json": {"caption": text} for name, text in pairs.items()},
}
PIXELS = {suffix: np.full((8, 8, 3), 90, np.uint8) for suffix in (".png", ".bmp")}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data_sets(), some.sampled_from(["folder", "zip", "tar", "tar.gz"]))
def test_what_was_written_is_read_back(tmp_path_factory, one, packing):
    layout, pairs, below = one
    root = tmp_path_factory.mktemp("any") / "set"
    pictures = {name: image(kind="BMP" if name.endswith("bmp") else "PNG") for name in pairs}
    files = {**pictures, **LAYOUTS[layout](pairs)}
    source = lay(root, {f"{below}/{name}" if below else name: content for name, content in files.items()})
    if packing == "zip":
        source = root.with_suffix(".zip")
        with zipfile.ZipFile(source, "w") as packed:
            for path in sorted(root.rglob("*")):
                packed.write(path, path.relative_to(root).as_posix())
    elif packing != "folder":
        source = root.with_suffix("." + packing)
        with tarfile.open(source, "w:gz" if packing == "tar.gz" else "w") as packed:
            packed.add(root, "set")
    report = Report()
    splits = load_pairs(source, report=report)
    rows = [row for split in splits.values() for row in split]
    found = {Path(row["image"]["path"].split("/")[-1]).name: row["captions"] for row in rows}
    assert found == {name: [text] for name, text in pairs.items()}, (layout, packing, report)
    assert not report.left_out and open_image_at(rows[0]["image"]["path"]).size == (8, 6)
