"""Shards of pictures: what they say, what is wrong with them, and that arrays are filled with little memory."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tars import image, write_shard
from tiny import tiny_encoders

from mmgen.data.folder import load_pairs
from mmgen.data.memmap import cached_memmap, pack_images
from mmgen.data.shards import open_image_at
from mmgen.errors import UserError
from mmgen.images import square
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.encoders import PyramidCNN
from mmgen.training.common.cache import build_cache


def refused(source: Path | str, **options) -> str:
    with pytest.raises(UserError) as error:
        load_pairs(source, **options)
    return str(error.value)


def colours(rows) -> list[tuple[int, ...]]:
    return [open_image_at(image["path"]).getpixel((0, 0))[:3] for image in rows["image"]]


def test_pictures_captions_and_records_of_one_key_belong_together(tmp_path):
    record = {"text": "red apple", "captions": ["an apple"], "label": "apple", "style": "noto", "width": 8}
    shard = write_shard(
        tmp_path / "pets.tar",
        {
            "./a.png": image("red"),
            "./a.json": record,
            "./a.txt": "not read",
            "deep/b.json": {"url": "x", "split": "test"},
            "deep/b.JPG": image("white", "JPEG"),
            "deep/b.txt": "a dog\n\n a beast \n",
            "c.seg.png": image("black"),
            "c.webp": image("white", "WEBP"),
            "c.txt": "snow",
            "c.cls": "7",
            "._c.png": b"x",
        },
    )
    data = load_pairs(shard)
    apple, snow = data["train"]
    assert (apple["text"], apple["captions"], apple["label"], apple["style"]) == (
        "red apple",
        ["red apple", "an apple"],
        "apple",
        "noto",
    )
    assert snow["captions"] == ["snow"] and data["test"]["captions"][:] == [["a dog", "a beast"]]
    assert colours(data["train"]) == [(255, 0, 0), (255, 255, 255)] and colours(data["test"]) == [(255, 255, 255)]


def test_a_folder_a_pattern_and_a_list_of_shards(tmp_path):
    for number in range(12):
        write_shard(
            tmp_path / f"set/pets-{number:03}.tar", {f"{number}.png": image(), f"{number}.txt": f"pet {number}"}
        )
    numbered = [f"pet {number}" for number in range(12)]
    assert load_pairs(tmp_path / "set")["train"]["text"][:] == numbered
    assert load_pairs(tmp_path / "set/*.tar")["train"]["text"][:] == numbered
    assert load_pairs(tmp_path / "set/pets-{002..010}.tar")["train"]["text"][:] == numbered[2:11]
    assert load_pairs(tmp_path / "set/pets-00[12].tar")["train"]["text"][:] == numbered[1:3]
    assert "There is no shard" in refused(tmp_path / "set/dogs-*.tar")
    assert str(tmp_path / "set/pets-012.tar") in refused(tmp_path / "set/pets-{002..012}.tar")
    assert "There is no folder or zip file" in refused(tmp_path / "set/gone.tar")


def test_splits_come_from_sub_folders_names_and_records(tmp_path):
    for name in ("val/pets-0.tar", "pets-test-0.tar", "pets-0.tar", "train/latest.tar"):
        write_shard(tmp_path / "test" / name, {"a.png": image(), "a.txt": name})
    texts = {split: rows["text"][:] for split, rows in load_pairs(tmp_path / "test").items()}
    assert texts == {
        "train": ["pets-0.tar", "train/latest.tar"],
        "validation": ["val/pets-0.tar"],
        "test": ["pets-test-0.tar"],
    }


def test_an_archive_beside_pictures_is_not_the_data(tmp_path):
    write_shard(tmp_path / "backup.tar", {"a.png": image(), "a.txt": "packed"})
    (tmp_path / "b.png").write_bytes(image())
    (tmp_path / "b.txt").write_text("loose")
    assert load_pairs(tmp_path)["train"]["text"][:] == ["loose"]


def test_long_names_and_other_languages(tmp_path):
    long = "folder/" * 30 + "猫" * 40
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        shard = write_shard(tmp_path / f"{form}.tar", {f"{long}.png": image("blue"), f"{long}.txt": "一只猫"}, form)
        data = load_pairs(shard)["train"]
        assert data["text"][:] == ["一只猫"] and colours(data) == [(0, 0, 255)]


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"a.png": image()}, "a.png in bad.tar has no caption"),
        ({"a.txt": "one"}, "bad.tar holds a caption but no picture named a"),
        ({"a.png": image(), "a.jpg": image(), "a.txt": "x"}, "bad.tar holds several pictures named a"),
        ({"a.png": image(), "a.json": "{oops}"}, "a.json in bad.tar is not JSON"),
        ({"a.png": image(), "a.json": "[]"}, "a.json in bad.tar is not a JSON object"),
        ({"a.png": image(), "a.json": {"text": {"x": 1}}}, "a.png in bad.tar has a text that is not text"),
        ({"a.png": image(), "a.txt": b"\x00\xff\x00"}, "a.txt in bad.tar is not text in UTF-8"),
        ({"a.png": image(), "a.txt": "x" * 1_000_001}, "a.txt in bad.tar is larger than 1 MB"),
        ({"caf\udce9.png": image()}, "caf?.png in bad.tar has a name"),
        ({}, "There are no pictures in"),
    ],
)
def test_wrong_members_are_named(tmp_path, members, says):
    assert says in refused(write_shard(tmp_path / "bad.tar", members, tarfile.GNU_FORMAT))


def test_links_are_refused(tmp_path):
    link = tarfile.TarInfo("a.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "bad.tar", "w") as packed:
        packed.addfile(link)
    assert "a.png in bad.tar is a link" in refused(tmp_path / "bad.tar")


def test_damaged_shards_are_named(tmp_path):
    members = {f"{number}.png": image() for number in range(4)}
    content = write_shard(tmp_path / "good.tar", members).read_bytes()
    second = content.index(b"1.png")
    for name, damaged in (
        ("header", content[:second] + b"\xff" * 512 + content[second + 512 :]),
        ("first", b"\xff" * 512 + content[512:]),
        ("short", content[: second + 700]),
        ("cut", content[: second + 100]),
        ("packed", gzip.compress(content)),
        ("empty", b""),
    ):
        (tmp_path / f"{name}.tar").write_bytes(damaged)
        assert f"{name}.tar could not be read as a shard" in refused(tmp_path / f"{name}.tar", need_text=False), name


def test_shards_and_their_unpacked_folder_give_the_same_pictures(tmp_path):
    members = {f"{colour}.png": image(colour) for colour in ("red", "green", "blue", "white")}
    write_shard(tmp_path / "shards/0.tar", dict(list(members.items())[:2]))
    write_shard(tmp_path / "shards/1.tar", dict(list(members.items())[2:]))
    packed = pack_images(load_pairs(tmp_path / "shards", need_text=False)["train"], 16, tmp_path / "cache")
    loose = np.stack([square(Image.open(io.BytesIO(content)), 16) for content in members.values()])
    assert np.array_equal(packed, loose)
    assert len(list((tmp_path / "cache").iterdir())) == 1 and {p.name for p in tmp_path.iterdir()} == {
        "shards",
        "cache",
    }
    again = pack_images(load_pairs(tmp_path / "shards", need_text=False)["train"], 16, tmp_path / "cache")
    assert again.filename == packed.filename
    write_shard(tmp_path / "shards/1.tar", {"red.png": image("red", "BMP"), "green.png": image("green")})
    other = pack_images(load_pairs(tmp_path / "shards", need_text=False)["train"], 16, tmp_path / "cache")
    assert other.filename != packed.filename and np.array_equal(other[2], loose[0])


def test_a_damaged_picture_in_a_shard_is_named_and_leaves_nothing_behind(tmp_path):
    shard = write_shard(tmp_path / "pets.tar", {"a.png": image(), "b.png": image()[:40]})
    data = load_pairs(shard, need_text=False)["train"]
    with pytest.raises(UserError, match="b.png in pets.tar could not be read as a picture"):
        pack_images(data, 16, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    shard.unlink()
    with pytest.raises(UserError, match="pets.tar can no longer be read"):
        open_image_at(data[0]["image"]["path"])


def test_arrays_are_filled_whole_or_not_at_all(tmp_path):
    def parts(broken: bool):
        yield np.array([3, 0]), np.full((2, 5), 7, dtype=np.float16)
        if broken:
            raise UserError("no more")
        yield slice(1, 3), np.ones((2, 5), dtype=np.float16)

    with pytest.raises(UserError, match="no more"):
        cached_memmap(tmp_path / "new/a.npy", 4, parts(True))
    assert list((tmp_path / "new").iterdir()) == []
    array = cached_memmap(tmp_path / "new/a.npy", 4, parts(False))
    assert array.dtype == np.float16 and array[:, 0].tolist() == [7, 1, 1, 7]
    kept = cached_memmap(tmp_path / "new/a.npy", 4, parts(True))  # not read: the file is there
    assert np.array_equal(kept, array)


def test_a_full_disk_is_a_sentence(tmp_path):
    huge = np.zeros((1, 1 << 20), dtype=np.uint8)
    with pytest.raises(UserError, match="has no room for"):
        cached_memmap(tmp_path / "a.npy", 1 << 40, iter([(slice(0, 1), huge)]))
    assert list(tmp_path.iterdir()) == []


def test_arrays_larger_than_the_memory_in_use(tmp_path):
    """Pictures, latents, tokens and codes are written as they are made."""
    members: dict[str, bytes | str] = {}
    for number in range(400):
        members |= {f"{number}.png": image(), f"{number}.txt": f"a red cat of {number % 200}"}
    data = load_pairs(write_shard(tmp_path / "pets.tar", members))["train"]
    bert, tokenizer, cnn, processor = tiny_encoders(tmp_path / "encoders")
    autoencoder = ImageAutoencoder(widths=(16, 16, 16), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1))
    cnn = PyramidCNN(cnn, processor.image_mean, processor.image_std)
    tracemalloc.start()
    try:
        images = pack_images(data, 128, tmp_path)
        device = next(cnn.parameters()).device
        cache = build_cache(data, images, bert, tokenizer, cnn, autoencoder, tmp_path, device)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert images.nbytes > 25_000_000
    assert peak < 6_000_000
    assert len(cache.latents) == len(cache.codes) == 400 and cache.codes.isfinite().all()
    assert cache.words.any(1).all() and len(cache.words) == cache.offsets[-1]
    assert len(cache.keys) == len(cache.captions) == 200 and cache.first_caption.tolist() == [*range(200)] * 2
    torch.testing.assert_close(cache.keys.float().norm(dim=1), torch.ones(200), atol=1e-3, rtol=0)
