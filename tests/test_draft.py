"""A person's pairs: what is taken in, what is refused in a sentence, and what is never lost."""

import errno
import io
import json
import os
import struct
import threading
import zipfile
import zlib
from pathlib import Path

import datasets
import pytest
from PIL import Image

from mmgen.data import draft as module
from mmgen.data import intake, pair_folder
from mmgen.data.draft import Draft
from mmgen.data.folder import load_pairs
from mmgen.errors import UserError

WORDS = ["a red apple", "", "一只红色的苹果", 'comma, "quote" and\nline \u2028 end', "word " * 1000 + "end", "🍎\u0000"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def draft(tmp_path) -> Draft:
    return Draft(tmp_path / "draft")


def draw(file: Path, color: str = "teal", size: tuple[int, int] = (80, 60), mode: str = "RGB") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(file)
    return file


def many(folder: Path, count: int) -> list[Path]:
    return [draw(folder / f"{i}.png", color=f"#{i * 40:06x}") for i in range(count)]


def pack(file: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as packed:
        for name, data in entries.items():
            packed.writestr(name, data)
    return file


def png(color: str = "teal", size: tuple[int, int] = (8, 6)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


def huge_png() -> bytes:
    """A PNG that says it has 400 megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def told(draft: Draft) -> list[tuple[str, str]]:
    return [(pair.name, pair.text) for pair in draft.pairs]


def lines(*rows: dict) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def whole(draft: Draft) -> bool:
    """Whether the folder holds the pairs' pictures and nothing that was left behind."""
    inside = {path.name for path in draft.folder.iterdir()} - {"thumbnails"}
    images = {path.name for path in (draft.folder / "pictures").iterdir()}
    return inside == {"pictures", "metadata.jsonl"} and images == {pair.name for pair in draft.pairs}


def test_pictures_keep_names_bytes_and_captions(draft, tmp_path):
    files = many(tmp_path, len(WORDS))
    seen = []
    added = draft.add_images(files, WORDS, on_progress=lambda share, words: seen.append(share))
    assert added.refused == [] and added.names == [file.name for file in files] and seen[-1] == 1.0
    assert [pair.text for pair in draft.pairs] == WORDS
    assert [pair.path.read_bytes() for pair in draft.pairs] == [file.read_bytes() for file in files]
    assert [pair.text for pair in Draft(draft.folder).pairs] == WORDS
    rows = load_pairs(draft.folder, need_text=False)["train"]
    assert rows["text"][:] == WORDS and whole(draft)


def test_bad_pictures_are_told_one_sentence_each_and_the_others_are_taken(draft, tmp_path):
    (tmp_path / "words.png").write_text("hello")
    (tmp_path / "huge.png").write_bytes(huge_png())
    (tmp_path / "torn.jpg").write_bytes(draw(tmp_path / "t.jpg", size=(300, 300)).read_bytes()[:900])
    good = draw(tmp_path / "good.png")
    names = ["words.png", "huge.png", "torn.jpg", "gone.png"]
    added = draft.add_images([*(tmp_path / name for name in names[:2]), good, *(tmp_path / name for name in names[2:])])
    assert added.names == ["good.png"] and added.report.count_left_out == 4
    assert all(name in " ".join(added.refused) for name in names)
    assert "huge.png has more than 50 megapixels" in added.refused[1] and whole(draft)


def test_names_are_made_safe_and_unique(draft, tmp_path):
    files = [draw(tmp_path / folder / name) for folder in "abc" for name in ("x.png", "été 1.png")]
    files += [draw(tmp_path / "d" / name) for name in ("X.png", "con.png", "a:b<苹>🍎.png", "n" * 150 + ".png")]
    names = draft.add_images(files).names
    assert names[:5] == ["x.png", "été 1.png", "x-2.png", "été 1-2.png", "x-3.png"]
    assert names[6:9] == ["X-4.png", "_con.png", "a_b_苹__.png"] and len(names[9]) == 104
    assert draft.add_images(files[-1:]).names[0] == "n" * 100 + "-2.png"
    assert [pair.name for pair in Draft(draft.folder).pairs] == [pair.name for pair in draft.pairs] and whole(draft)
    assert intake.safe_name("..\\..\\evil.png") == "evil.png" and intake.safe_name("../..") == "picture"


def test_large_and_odd_pictures_are_saved_again(draft, tmp_path):
    files = [draw(tmp_path / "wide.png", size=(3000, 30)), draw(tmp_path / "odd.ppm"), draw(tmp_path / "jpeg.bin.jpg")]
    files.append(files[2].rename(tmp_path / "photo"))
    files[2] = draw(tmp_path / "clear.png", color="#ff000080", size=(30, 2048), mode="RGBA")
    assert draft.add_images(files).names == ["wide.jpg", "odd.ppm.jpg", "clear.png", "photo.jpg"]
    wide, odd, clear, photo = draft.pairs
    assert (wide.scaled_from, Image.open(wide.path).size) == ((3000, 30), (1024, 10))
    assert Image.open(clear.path).getpixel((1, 1)) == (255, 0, 0, 128)
    assert odd.scaled_from is None and photo.path.read_bytes() == files[3].read_bytes()
    assert Draft(draft.folder).pairs == draft.pairs


def test_captions_must_be_as_many_as_pictures(draft, tmp_path):
    with pytest.raises(UserError, match="1 captions for 2 pictures"):
        draft.add_images(many(tmp_path, 2), ["x"])


def test_a_zip_with_metadata_keeps_what_is_good(draft, tmp_path):
    rows = [{"file_name": f"p/{name}.png", "text": name} for name in ("good", "bad", "gone", "huge")]
    rows += [{"file_name": "p/good.png", "text": "another"}, {"file_name": "p/odd.png", "text": {"x": 1}}]
    images = {
        "p/good.png": png(),
        "p/bad.png": b"text",
        "p/huge.png": huge_png(),
        "p/odd.png": png(),
        "p/un.png": png(),
    }
    added = draft.add_archive(pack(tmp_path / "set.zip", {"metadata.jsonl": lines(*rows), **images}))
    assert told(draft) == [("good.png", "good")] and draft.pairs[0].others == ("another",)
    assert load_pairs(draft.folder)["train"]["captions"][:] == [["good", "another"]]
    assert added.report.count_left_out == 5 and whole(draft)
    for words in (
        "p/gone.png (metadata.jsonl line 3) is not there",
        "text that is not text",
        "p/odd.png (metadata.jsonl line 6)",
        "p/un.png is not named in metadata.jsonl",
        "bad",
    ):
        assert any(words in sentence for sentence in added.refused), words


def test_a_zip_with_captions_beside_its_pictures(draft, tmp_path):
    entries = {"set/a.png": png(), "set/a.txt": b"one\ntwo", "set/b.jpg": png(), "__MACOSX/a.png": b"x"}
    assert draft.add_archive(pack(tmp_path / "set.zip", entries)).refused == []
    assert told(draft) == [("a.png", "one"), ("b.jpg", "")] and draft.pairs[0].others == ("two",)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"../evil.png": png()}, "path outside"),
        ({"a.png": png(), "metadata.jsonl": b"{oops"}, "metadata.jsonl line 1 is not JSON"),
        (
            {"a.png": png(), "metadata.jsonl": lines({"file_name": "x.png", "text": "x"})},
            "x.png (metadata.jsonl line 1)",
        ),
        ({"a.png": png(), "metadata.csv": b"one;text\nb.png;x"}, "no column file_name"),
        ({"notes.pdf": b"x"}, "There are no pictures in set.zip"),
        ({}, "There are no pictures in set.zip"),
    ],
)
def test_wrong_zips_are_refused_and_the_draft_stays(draft, tmp_path, entries, says):
    draft.add_images(many(tmp_path, 1), ["kept"])
    with pytest.raises(UserError) as error:
        draft.add_archive(pack(tmp_path / "set.zip", entries))
    assert says in str(error.value) and told(draft) == [("0.png", "kept")] and whole(draft)


def test_zip_bombs_and_files_that_are_no_zip_are_refused(draft, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.png", bytes(20_000_000))
    with pytest.raises(UserError, match="over 200 times its size"):
        draft.add_archive(tmp_path / "bomb.zip")
    (tmp_path / "no.zip").write_text("hello")
    for name in ("no.zip", "gone.zip"):
        with pytest.raises(UserError, match=f"{name} is not a zip file"):
            draft.add_archive(tmp_path / name)
    assert whole(draft)


def test_a_folder_is_copied_and_left_as_it_was(draft, tmp_path):
    files = many(tmp_path / "set", 2)
    (tmp_path / "set/0.txt").write_text("zero")
    assert draft.add_folder(tmp_path / "set").names == ["0.png", "1.png"] and told(draft)[0] == ("0.png", "zero")
    files[0].write_bytes(b"overwritten")
    assert draft.pairs[0].path.read_bytes() != b"overwritten"
    with pytest.raises(UserError, match="no folder"):
        draft.add_folder(tmp_path / "gone")


def test_whatever_is_dropped_at_once_is_sorted_out(draft, tmp_path):
    files = many(tmp_path / "loose", 2)
    for name, words in (("0.txt", "zero"), ("notes.txt", "mine"), ("no.zip", "x"), ("x.heic", "x")):
        files.append(tmp_path / "loose" / name)
        files[-1].write_text(words)
    files += [pack(tmp_path / "set.zip", {"z.png": png(), "z.txt": b"zip"}), draw(tmp_path / "set/f.png").parent]
    added = draft.add_files(files)
    assert sorted(told(draft)) == [("0.png", "zero"), ("1.png", ""), ("f.png", ""), ("z.png", "zip")] and whole(draft)
    assert len(added.refused) == 3
    for name in ("notes.txt", "no.zip", "x.heic"):
        assert any(name in sentence for sentence in added.refused)


def test_dropped_metadata_finds_pictures_dropped_without_their_folder(draft, tmp_path):
    files = many(tmp_path, 2) + [tmp_path / "metadata.jsonl"]
    files[2].write_bytes(lines(*({"file_name": f"pictures/{i}.png", "text": f"no {i}"} for i in range(2))))
    assert draft.add_files(files).refused == []
    assert told(draft) == [("0.png", "no 0"), ("1.png", "no 1")]
    alone = draft.add_files(files[2:])
    assert alone.names == [] and "is not there; the same goes for 1 more" in alone.refused[0]


def test_captions_change_and_pairs_go(draft, tmp_path):
    draft.add_images(many(tmp_path, 4), ["one"] * 4)
    draft.set_caption("1.png", "  苹果 \ud83d ", machine_written=True)
    draft.set_captions({"2.png": "x", "gone.png": "y"})
    draft.thumbnail("0.png")
    draft.remove(["0.png", "gone.png"])
    assert told(Draft(draft.folder)) == [("1.png", "苹果"), ("2.png", "x"), ("3.png", "one")] and whole(draft)
    assert [pair.machine_written for pair in draft.pairs] == [True, False, False]
    assert not list(draft.folder.glob("thumbnails/*/0.png.webp"))
    for call in (lambda: draft.set_caption("0.png", "x"), lambda: draft.thumbnail("../metadata.jsonl")):
        with pytest.raises(UserError, match="not among the pairs"):
            call()
    draft.clear()
    assert len(draft) == 0 and whole(draft)


def test_export_reads_back_equal_to_the_byte(draft, tmp_path):
    draft.add_images([*many(tmp_path, len(WORDS)), draw(tmp_path / "wide.png", size=(1500, 20))], [*WORDS, "wide"])
    draft.set_caption("0.png", "written", machine_written=True)
    draft.merge({"2.png": "0.png"})
    again = Draft(tmp_path / "again")
    assert again.add_archive(draft.export(tmp_path / "out.zip")).refused == []
    ours, theirs = draft.pairs, again.pairs
    for pair, same in zip(ours, theirs, strict=True):
        assert pair.path.read_bytes() == same.path.read_bytes()
        assert (pair.name, pair.text, pair.machine_written, pair.others, pair.scaled_from) == (
            (same.name, same.text, same.machine_written, same.others, same.scaled_from)
        )
    with pytest.raises(UserError, match="no pairs to export"):
        Draft(tmp_path / "empty").export(tmp_path / "none.zip")


def test_ten_thousand_equal_captions_are_no_bomb(draft, tmp_path):
    draft.add_images(many(tmp_path, 1))
    draft.set_caption("0.png", "the same words " * 1_000_000)
    assert Draft(tmp_path / "again").add_archive(draft.export(tmp_path / "out.zip")).names == ["0.png"]


def test_a_frozen_draft_is_not_altered_by_later_edits(draft, tmp_path):
    draft.add_images(many(tmp_path, 2), ["one", "two"])
    pixels = draft.pairs[0].path.read_bytes()
    frozen = draft.freeze(tmp_path / "job/pairs")
    draft.set_caption("1.png", "changed")
    draft.remove(["0.png"])
    draft.add_images([draw(tmp_path / "new/0.png", color="red")])
    assert load_pairs(frozen)["train"]["text"][:] == ["one", "two"]
    assert (frozen / "pictures/0.png").read_bytes() == pixels
    with pytest.raises(UserError, match="no pairs to train on"):
        Draft(tmp_path / "empty").freeze(tmp_path / "none")


def test_thumbnails_are_small_and_made_anew_for_a_new_picture(draft, tmp_path):
    draft.add_images([draw(tmp_path / "a.png", color="red", size=(300, 150))])
    file = draft.thumbnail("a.png", 64)
    made = file.stat().st_ino
    assert Image.open(file).size == (64, 32) and draft.thumbnail("a.png", 64).stat().st_ino == made
    draft.remove(["a.png"])
    draft.add_images([draw(tmp_path / "b/a.png", color="blue")])
    assert Image.open(draft.thumbnail("a.png", 64)).convert("RGB").getpixel((5, 5))[2] > 200


def test_what_a_crash_left_goes_with_the_next_addition(draft, tmp_path):
    draft.add_images(many(tmp_path, 1))
    draw(draft.folder / "pictures/orphan.png")
    draw(draft.folder / "incoming-x/ready/0.png")
    again = Draft(draft.folder)
    assert told(again) == [("0.png", "")]
    again.add_images([draw(tmp_path / "orphan.png")])
    assert told(again) == [("0.png", ""), ("orphan.png", "")] and whole(again)


def test_a_full_disk_changes_nothing(draft, tmp_path, monkeypatch):
    draft.add_images(many(tmp_path, 1), ["kept"])

    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(intake.shutil, "copyfile", full)
        with pytest.raises(UserError, match="The disk is full"):
            draft.add_images([draw(tmp_path / "new.png")])
    assert told(draft) == [("0.png", "kept")] and whole(draft)
    with monkeypatch.context() as patch:
        patch.setattr(pair_folder.Path, "write_text", full)
        for change in (
            lambda: draft.add_images([tmp_path / "new.png"]),
            lambda: draft.set_caption("0.png", "lost"),
            lambda: draft.freeze(tmp_path / "job"),
        ):
            with pytest.raises(UserError, match="The disk is full"):
                change()
    assert told(Draft(draft.folder)) == told(draft) == [("0.png", "kept")] and whole(draft)
    assert not list(tmp_path.glob("job*"))


def test_a_draft_has_room_for_so_many(draft, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_PAIRS", 3)
    added = draft.add_images(many(tmp_path, 5))
    assert len(draft) == 3 and "room for 3 pairs: those from 3.png on" in added.refused[0]


def test_many_pairs_take_one_write_a_change(draft, tmp_path, monkeypatch):
    source = draw(tmp_path / "x.png", size=(4, 4))
    draft.add_images([source] * 300, [f"thing {i}" for i in range(300)])
    rows = [json.loads(line) for line in (draft.folder / "metadata.jsonl").read_text().splitlines()]
    for i in range(300, 10_000):
        rows.append({"file_name": f"pictures/y{i}.png", "text": f"thing {i}"})
        os.link(source, draft.folder / f"pictures/y{i}.png")
    (draft.folder / "metadata.jsonl").write_bytes(lines(*rows))
    writes = []
    real = draft._save
    monkeypatch.setattr(draft, "_save", lambda pairs: (writes.append(len(pairs)), real(pairs)))
    assert len(draft.pairs) == 10_000
    draft.set_captions({pair.name: "new" for pair in draft.pairs})
    draft.remove([f"y{i}.png" for i in range(300, 5_000)])
    draft.add_images([source] * 2)
    assert writes == [10_000, 5_300, 5_302] and whole(draft)


def test_threads_lose_nothing(draft, tmp_path):
    files = many(tmp_path, 24)

    def work(part: int) -> None:
        for file in files[part::4]:
            name = Draft(draft.folder).add_images([file]).names[0]
            draft.set_caption(name, f"caption of {name}")

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told(draft)) == sorted((file.name, f"caption of {file.name}") for file in files) and whole(draft)
