import json
import stat
import time
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from mmgen.data import archives as module
from mmgen.data.columns import FEATURES
from mmgen.data.folder import load_pairs
from mmgen.errors import UserError


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Zip files are unpacked below the test's own folder."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


def draw(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), "teal").save(root / name)


def write(file: Path, *records: dict) -> None:
    file.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")


def refused(source: Path) -> str:
    with pytest.raises(UserError) as error:
        load_pairs(source)
    return str(error.value)


def pack(root: Path, file: Path, below: str = "") -> Path:
    with zipfile.ZipFile(file, "w") as packed:
        for path in sorted(root.rglob("*")):
            packed.write(path, below + path.relative_to(root).as_posix())
    return file


def names(rows) -> list[str]:
    return [Path(image["path"]).name for image in rows["image"]]


def test_one_folder_with_a_split_column(root):
    draw(root, "pictures/noto/1F34E.png", "pictures/noto/1F34F.png", "pictures/flat/1F34E.png")
    apple = {"text": "red apple", "captions": ["red apple", "an apple, noto style"], "label": "apple"}
    apple |= {"style": "noto", "tags": ["fruit", "red"], "group": "food", "concept": "apple"}
    terms = {"source": "https://example.org/apples", "licence": "CC-BY-4.0", "author": "Ada"}
    write(
        root / "metadata.jsonl",
        {"file_name": "pictures/noto/1F34E.png", "split": "unseen_pairs", **apple, **terms},
        {"file_name": "pictures/noto/1F34F.png", "text": "green apple", "split": "unseen_labels"},
        {"file_name": "pictures/flat/1F34E.png", "text": "red apple", "captions": ["flat apple"], "split": "train"},
    )
    data = load_pairs(root)
    assert list(data) == ["train", "unseen_pairs", "unseen_labels"]
    assert all(rows.features == FEATURES for rows in data.values())
    image = {"path": str(root / "pictures/noto/1F34E.png"), "bytes": None}
    assert data["unseen_pairs"][0] == {"image": image, **apple, **terms, "base_style": ""}
    plain = data["unseen_labels"][0]
    assert (plain["label"], plain["style"], plain["tags"], plain["group"]) == ("green apple", "", [], "")
    assert plain["captions"] == ["green apple"]
    assert [plain[name] for name in ("source", "licence", "author", "base_style")] == [""] * 4
    assert data["train"][0]["captions"] == ["red apple", "flat apple"]


def test_csv_with_lists_quotes_and_a_byte_order_mark(root):
    draw(root, "a.png", "b.png")
    (root / "metadata.csv").write_text(
        'file_name,text,captions,tags,label\na.png,"a cat, asleep","[""one"", ""two""]","pet, cat",\n'
        "b.png,,[a dog,,7\n",
        encoding="utf-8-sig",
    )
    cat, dog = load_pairs(root)["train"]
    assert (cat["captions"], cat["tags"], cat["label"]) == (
        ["a cat, asleep", "one", "two"],
        ["pet", "cat"],
        "a cat, asleep",
    )
    assert (dog["text"], dog["label"]) == ("[a dog", "7")


def test_metadata_in_each_split_folder_and_jsonl_before_csv(root):
    draw(root, "train/a.png", "val/b.png", "test/c.png")
    write(root / "train/metadata.jsonl", {"file_name": "a.png", "text": "one"})
    (root / "train/metadata.csv").write_text("file_name,text\nnone.png,wrong\n")
    (root / "val/metadata.csv").write_text("file_name,text\nb.png,two\n")
    (root / "test/c.txt").write_text("three")
    data = load_pairs(root)
    texts = {split: rows["text"][:] for split, rows in data.items()}
    assert texts == {"train": ["one"], "test": ["three"], "validation": ["two"]}


def test_metadata_in_the_root_with_split_folders(root):
    draw(root, "train/a.png", "test/b.png", "c.png")
    write(root / "metadata.jsonl", *({"file_name": f"{name}.png", "text": "x"} for name in ("train/a", "test/b", "c")))
    data = load_pairs(root)
    assert names(data["train"]) == ["a.png", "c.png"] and names(data["test"]) == ["b.png"]


def test_captions_beside_the_pictures(root):
    draw(root, "a.png", "deep/B.JPG", "test/c.webp", ".hidden.png", "__MACOSX/d.png")
    (root / "a.txt").write_text("an apple\n\n  a fruit \nan apple\n", encoding="utf-8")
    (root / "deep/B.txt").write_text("un garçon", encoding="utf-8")
    (root / "test/c.TXT").write_text("sea")
    (root / "README.md").write_text("not a picture")
    data = load_pairs(root)
    assert data["train"]["captions"][:] == [["an apple", "a fruit"], ["un garçon"]]
    assert data["test"]["text"][:] == ["sea"]


def test_pictures_alone_where_no_words_are_needed(root):
    draw(root, "a.png", "b.png")
    row = load_pairs(root, need_text=False)["train"][1]
    assert (row["text"], row["captions"], row["label"]) == ("", [""], "")
    write(root / "metadata.jsonl", {"file_name": "a.png"})
    assert names(load_pairs(root, need_text=False)["train"]) == ["a.png"]


def test_links_to_folders_are_followed_once(root, tmp_path):
    draw(tmp_path / "other", "a.png")
    (tmp_path / "other/a.txt").write_text("far")
    (root / "link").symlink_to(tmp_path / "other")
    (root / "loop").symlink_to(root)
    assert load_pairs(root)["train"]["text"][:] == ["far"]


def test_nothing_is_written_into_the_folder(root):
    draw(root, "a.png")
    (root / "a.txt").write_text("a")
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    load_pairs(root)
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before


def test_fourteen_thousand_rows_are_quick(root):
    draw(root, *(f"{i}.png" for i in range(100)))
    records = [{"file_name": f"{i % 100}.png", "text": f"thing {i}", "captions": ["x", "y"] * 3} for i in range(14_000)]
    write(root / "metadata.jsonl", *records)
    start = time.process_time()
    assert len(load_pairs(root)["train"]) == 14_000
    assert time.process_time() - start < 5


@pytest.mark.parametrize("below", ["", "my pictures/"])
def test_zip_files_load_as_their_folder_does_and_are_unpacked_once(root, tmp_path, below):
    draw(root, "pictures/a.png", "pictures/b.png")
    write(root / "metadata.jsonl", *({"file_name": f"pictures/{name}.png", "text": name} for name in "ab"))
    file = pack(root, tmp_path / "set.zip", below)
    first = load_pairs(file)["train"]
    assert first["text"][:] == ["a", "b"]
    path = Path(first[0]["image"]["path"])
    assert path.is_relative_to(tmp_path / "temporary") and Image.open(path).size == (8, 6)
    kept = path.stat().st_ino
    assert load_pairs(file)["train"][0]["image"]["path"] == str(path) and path.stat().st_ino == kept
    path.unlink()
    load_pairs(file)
    assert path.is_file()
    assert len(list((tmp_path / "temporary").glob("*/*"))) == 1


@pytest.mark.parametrize(
    "name", ["../evil.png", "/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png", "C:evil"]
)
def test_zip_names_that_lead_outside_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as packed:
        packed.writestr("a.png", b"x")
        packed.writestr(name, b"x")
    assert "path outside" in refused(tmp_path / "bad.zip")
    assert not list(tmp_path.rglob("*evil*")) and not list(tmp_path.glob("temporary/*/*"))


def test_zip_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("a.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
    assert "a link" in refused(tmp_path / "bad.zip")


def test_zip_bombs_are_refused(tmp_path, monkeypatch):
    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.png", bytes(8_000_000))
        packed.writestr("b.png", bytes(8_000_000))
    assert "over 200 times its size" in refused(file)
    monkeypatch.setattr(module, "MAX_UNPACKED", 11_000_000)
    assert "GB unpacked" in refused(file)
    monkeypatch.setattr(module, "MAX_ENTRIES", 1)
    assert "more than 1 entries" in refused(file)


def test_one_bomb_among_honest_pictures_is_refused(tmp_path):
    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("honest.png", bytes(1_000_000))
        packed.writestr("bomb.png", bytes(11_000_000), zipfile.ZIP_DEFLATED)
    assert "over 200 times its size" in refused(file)


def test_damaged_and_doubled_zip_files(root, tmp_path):
    draw(root, "a.png")
    (root / "a.txt").write_text("word " * 50)
    file = pack(root, tmp_path / "set.zip")
    file.write_bytes(file.read_bytes().replace(b"word word", b"worm worm", 1))
    assert "set.zip could not be unpacked" in refused(file)
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as packed:
        packed.writestr("a", b"x")
        packed.writestr("a/b.png", b"x")
    assert "twice.zip could not be unpacked" in refused(tmp_path / "twice.zip")
    assert not list(tmp_path.glob("temporary/*/*"))


def test_sources_that_hold_nothing(root, tmp_path):
    assert f"There is no folder or zip file at {tmp_path / 'gone'}" in refused(tmp_path / "gone")
    assert "There are no pictures in" in refused(root)
    (root / "notes.txt").write_text("hello")
    assert "neither a folder nor a zip file" in refused(root / "notes.txt")
    (root / "metadata.jsonl").write_text("\n")
    assert "There are no pictures in" in refused(root)
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    assert "There are no pictures in" in refused(tmp_path / "empty.zip")


GOOD = '{"file_name": "a.png", "text": "one"}\n'


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (GOOD + "\n{oops}\n", "metadata.jsonl line 3 is not JSON"),
        (GOOD + '["a.png", "one"]\n', "metadata.jsonl line 2 is not a JSON object"),
        (GOOD + '{"text": "one"}\n', "metadata.jsonl line 2 has no file_name"),
        (GOOD + '{"file_name": "../b.png", "text": "one"}\n', "metadata.jsonl line 2 names ../b.png, which is outside"),
        (GOOD + '{"file_name": "/etc/b.png", "text": "one"}\n', "line 2 names /etc/b.png, which is outside"),
        (GOOD + '{"file_name": "C:\\\\b.png", "text": "one"}\n', "line 2 names C:\\b.png, which is outside"),
        (GOOD + '{"file_name": ".", "text": "one"}\n', ". (metadata.jsonl line 2) is not there"),
        (GOOD + '{"file_name": "a.png", "text": " "}\n', "a.png (metadata.jsonl line 2) has no caption"),
        (GOOD + '{"file_name": "a.png", "text": {"x": 1}}\n', "(metadata.jsonl line 2) has a text that is not text"),
        (GOOD + '{"file_name": "a.png", "text": "x", "tags": [1]}\n', "(metadata.jsonl line 2) has tags that are not"),
        (
            GOOD + '{"file_name": "a.png", "text": "x", "split": "a b"}\n',
            "(metadata.jsonl line 2) is in the split 'a b'",
        ),
    ],
)
def test_wrong_json_rows_are_named(root, lines, says):
    draw(root, "a.png")
    draw(root.parent, "b.png")
    (root / "metadata.jsonl").write_text(lines)
    assert says in refused(root)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("one;two\nb.png;one\n", "metadata.csv has no column file_name"),
        ("file_name,text\na.png,one, two\n", "metadata.csv line 2 has too many cells"),
        ("file_name,text\na.png,one\n,two\n", "metadata.csv line 3 has no file_name"),
        ("file_name,text\na.png,one\na.png\n", "a.png (metadata.csv line 3) has no caption"),
        ("file_name,text\na.png," + "x" * 200_000, "metadata.csv line 2 is not CSV"),
    ],
)
def test_wrong_csv_rows_are_named(root, lines, says):
    draw(root, "a.png")
    (root / "metadata.csv").write_text(lines)
    assert says in refused(root)


def test_missing_pictures_and_captions_are_counted(root):
    draw(root, "a.png", "b.png", "c.png")
    write(root / "metadata.jsonl", *({"file_name": f"{name}.png", "text": "x"} for name in "axyz"))
    assert "x.png (metadata.jsonl line 2) is not there; the same goes for 2 more." in refused(root)
    (root / "metadata.jsonl").unlink()
    (root / "a.txt").write_text("a")
    assert "b.png has no caption; the same goes for 1 more." in refused(root)


def test_text_that_is_not_utf8_is_named_and_half_characters_are_dropped(root):
    draw(root, "a.png")
    (root / "a.txt").write_bytes(b"\x00\xff\x00\xfe")
    assert "a.txt is not text in UTF-8" in refused(root)
    (root / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "cat \\ud83d"}')
    assert load_pairs(root)["train"]["text"][:] == ["cat"]
    (root / "metadata.jsonl").unlink()
    (root / "a.txt").unlink()
    (root / "a.png").rename(root / "caf\udce9.png")
    assert "caf.png has a name" in refused(root)
