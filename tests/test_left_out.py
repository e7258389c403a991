"""Pictures that cannot be read cost themselves alone, and what is kept of pictures knows how it was read."""

from __future__ import annotations

import hashlib
import os

import numpy as np
from PIL import Image, ImageCms
from tars import write_shard
from test_cases_pictures import RAMP, saved
from tiny import tiny_pipeline

from mmgen.cli.sources import Sources
from mmgen.data import memmap
from mmgen.data.draft import Draft
from mmgen.data.folder import load_pairs
from mmgen.data.memmap import only_readable, pack_images, pack_readable
from mmgen.data.shards import pixel_stamp
from mmgen.evaluation.doctor_measure import content_keys
from mmgen.images import HEAD, pixel_version
from mmgen.training.captioner.train import prepare_captioner
from mmgen.training.common.config import CaptionerConfig

PLAIN = Image.new("RGB", (20, 20), "red")


def lay(folder, **files: bytes):
    """Pictures with captions: a.png has the caption a."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.png").write_bytes(content)
        (folder / f"{name}.txt").write_text(f"the picture {name}")
    return folder


def test_what_cannot_be_read_is_left_out_and_told_and_tried_again(tmp_path, monkeypatch):
    good = saved(PLAIN, "PNG")
    lay(tmp_path / "set", a=good, b=good[:60], c=saved(Image.new("RGB", (20, 20), "blue"), "PNG"))
    lay(tmp_path / "set" / "far", d=b"no picture")

    def pack():
        sources = Sources.read([tmp_path / "set"])
        (source,) = sources
        data, images = pack_readable(source.split("train"), 16, tmp_path / "cache", sources.withdraw)
        lines: list[str] = []
        sources.tell(lines.append)
        return data["text"][:], np.array(images), lines

    texts, images, lines = pack()
    assert texts == ["the picture a", "the picture c"] and images.shape == (2, 4, 16, 16)
    assert images[0, 0].min() == 255 and images[1, 2].min() == 255
    assert "2 pictures taken, 2 with a caption; 4 files of words read; 2 left out" in lines[0]
    told = [line for line in lines if "could not be read as a picture" in line]
    assert len(told) == 1 and "b.png" in told[0] and "1 more" in told[0] and "far/d.png" in told[0]

    tried: list[str] = []
    opened = memmap.open_image_at
    monkeypatch.setattr(memmap, "open_image_at", lambda path: tried.append(os.path.basename(path)) or opened(path))
    assert pack()[2] == lines and sorted(tried) == ["b.png", "d.png"]  # The others are on the disk.
    (tmp_path / "set" / "b.png").write_bytes(good)
    assert pack()[0] == ["the picture a", "the picture b", "the picture c"]

    (split,) = Sources.read([tmp_path / "set"])
    gone: list[str] = []
    assert len(only_readable(split.split("train"), lambda place, said: gone.append(said))) == 3
    assert len(gone) == 1 and gone[0].startswith("d.png could not be read")


def test_in_a_shard_too(tmp_path):
    shard = write_shard(
        tmp_path / "pets.tar", {"a.png": saved(PLAIN, "PNG"), "a.txt": b"one", "b.png": b"x", "b.txt": b"two"}
    )
    sources = Sources.read([shard])
    (source,) = sources
    data, images = pack_readable(source.split("train"), 16, tmp_path / "cache", sources.withdraw)
    assert data["text"][:] == ["one"] and len(images) == 1
    assert source.report.count_left_out == 1 and "b.png in pets.tar could not be read" in source.report.problems()[0]


def test_the_captioner_learns_from_what_has_words_and_can_be_read(tmp_path):
    good = saved(PLAIN, "PNG")
    lay(tmp_path / "set", a=good, b=b"x", c=good)
    (tmp_path / "set" / "c.txt").unlink()
    sources = Sources.read([tmp_path / "set"], need_text=False)
    (source,) = sources
    pipe = tiny_pipeline(tmp_path / "parts")
    config = CaptionerConfig(views=0, drawings=0)
    _, dataset = prepare_captioner(
        pipe, source.split("train"), config, tmp_path / "cache", pipe.device, on_unreadable=sources.withdraw
    )
    assert dataset.data["text"][:] == ["the picture a"] and len(dataset.plain) == len(dataset.named) == 1
    lines = list(source.report.lines())
    assert lines[0].startswith("2 pictures taken, 1 with a caption") and "1 left out" in lines[0]


def test_how_a_picture_was_read_is_told_from_its_head(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    for content, version in (
        (saved(PLAIN, "PNG"), 1),
        (saved(PLAIN, "JPEG"), 1),
        (saved(PLAIN, "WEBP"), 1),
        (saved(PLAIN.convert("P"), "GIF"), 1),
        (saved(Image.fromarray(RAMP), "PNG"), 2),
        (saved(Image.fromarray(RAMP), "TIFF"), 2),
        (saved(PLAIN, "PNG", icc_profile=profile), 2),
        (saved(PLAIN, "JPEG", icc_profile=profile), 2),
        (saved(PLAIN, "WEBP", icc_profile=profile), 2),
        (saved(PLAIN, "JPEG", exif=exif.tobytes() + bytes(20_000)), 2),  # Its profile may come later than is looked.
    ):
        assert pixel_version(content[:HEAD]) == version


def test_what_was_kept_of_deep_grey_is_made_anew_and_all_else_stays(tmp_path):
    """As it was named before pictures had a version: by path, size and time alone."""
    lay(tmp_path / "deep", a=saved(Image.fromarray(RAMP), "PNG"))
    lay(tmp_path / "plain", a=saved(PLAIN, "PNG"))
    for name, stays in (("deep", False), ("plain", True)):
        path = tmp_path / name / "a.png"
        status = path.stat()
        before = f"{path}|{status.st_size}|{status.st_mtime_ns}"
        assert (pixel_stamp(str(path)) == before) == stays
        old = hashlib.sha256(b"16" + f"{before}\n".encode()).hexdigest()[:16]
        stale = tmp_path / "cache" / f"pictures-{old}.npy"
        stale.parent.mkdir(exist_ok=True)
        np.save(stale, np.zeros((1, 4, 16, 16), np.uint8))
        packed = pack_images(load_pairs(tmp_path / name)["train"], 16, tmp_path / "cache")
        assert (packed.max() == 0) == stays
    draft = Draft(tmp_path / "draft")
    draft.add_images([tmp_path / "deep" / "a.png", tmp_path / "plain" / "a.png"], ["deep", "plain"])
    keys = content_keys(draft.pairs, tmp_path / "keys")
    for pair in draft.pairs:
        plain = hashlib.blake2b(pair.path.read_bytes(), digest_size=16).hexdigest()
        assert (keys[pair.name] == plain) == (pair.text == "plain")
    assert content_keys(draft.pairs, tmp_path / "keys") == keys
