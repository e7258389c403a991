"""Pictures of kinds that people bring: their pixels come in as others show them, and harmless damage is passed over."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image, ImageCms

from mmgen.errors import UserError
from mmgen.images import open_image

RAMP = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (16, 1))
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10"><rect width="20" height="10" fill="#f00"/>{}</svg>'


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(size: int = 64) -> Image.Image:
    values = np.arange(1, size + 1, dtype=np.float64) * 255 / size
    rows, columns = np.meshgrid(values, values, indexing="ij")
    return Image.fromarray(np.stack([rows, columns, (rows + columns) / 2], -1).astype(np.uint8))


def chunk(kind: bytes, data: bytes, damage: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ damage)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PIL"])
def test_grey_of_16_bits_keeps_its_upper_half(kind):
    image = Image.fromarray(RAMP)
    ours = np.asarray(open_image(image if kind == "PIL" else saved(image, kind)))
    assert np.array_equal(ours[..., 0], RAMP >> 8) and (ours[..., 3] == 255).all()


def test_grey_of_32_bits_and_of_fractions():
    wide = Image.fromarray(RAMP.astype(np.int32))
    assert np.array_equal(np.asarray(open_image(saved(wide, "TIFF")))[..., 0], RAMP >> 8)
    whole = Image.fromarray((RAMP.astype(np.int64) * 65536).astype(np.uint32).view(np.int32))
    assert np.array_equal(np.asarray(open_image(whole))[..., 0], RAMP >> 8)
    parts = Image.fromarray((RAMP / 65535).astype(np.float32))
    assert np.abs(np.asarray(open_image(saved(parts, "TIFF")))[..., 0] - RAMP / 257).max() <= 0.51
    bytes_ = Image.fromarray((RAMP >> 8).astype(np.float32))
    assert np.array_equal(np.asarray(open_image(bytes_))[..., 0], RAMP >> 8)


def test_colours_come_from_their_profile_into_srgb():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    colours = gradient(16)
    in_lab = ImageCms.profileToProfile(colours, srgb, lab, outputMode="LAB")
    back = np.asarray(open_image(saved(in_lab, "TIFF", icc_profile=lab.tobytes())))[..., :3].astype(int)
    assert np.abs(back - np.asarray(colours)).mean() < 4
    clear = colours.convert("RGBA")
    clear.putalpha(90)
    same = np.asarray(open_image(saved(clear, "PNG", icc_profile=srgb.tobytes())))
    assert np.array_equal(same, np.asarray(clear))
    assert np.array_equal(np.asarray(open_image(saved(colours, "PNG", icc_profile=b"none")))[..., :3], colours)


def test_damaged_notes_cost_nothing():
    colours = gradient()
    png = saved(colours, "PNG")
    torn = png[:33] + chunk(b"tEXt", b"Comment\0words", damage=1) + png[33:]
    assert np.array_equal(np.asarray(open_image(torn))[..., :3], colours)
    jpeg = saved(colours, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert open_image(jpeg).size == (64, 64)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_last_bytes_may_be_missing_and_no_more(kind):
    colours = gradient(256)
    whole = saved(colours, kind)
    ours = np.asarray(open_image(whole[:-6]))
    assert np.abs(ours[:235, :, :3].astype(int) - np.asarray(open_image(whole))[:235, :, :3]).max() == 0
    with pytest.raises(UserError, match="could not be read"):
        open_image(whole[: len(whole) // 2])
    assert np.array_equal(open_image(whole), open_image(whole))


def test_heic_jpeg_xl_and_avif_are_read():
    pillow_heif.register_heif_opener()
    import pillow_jxl  # noqa: F401

    for kind in ("HEIF", "JXL", "AVIF"):
        ours = np.asarray(open_image(saved(gradient(), kind, quality=95)))[..., :3].astype(int)
        assert np.abs(ours - np.asarray(gradient())).mean() < 6, kind


def test_jpeg_xl_that_says_it_is_huge_is_refused_before_it_is_decoded():
    bits = 0 | 3 << 1 | (100_000 - 1) << 3 | 1 << 33
    with pytest.raises(UserError, match="more than 50 megapixels"):
        open_image(b"\xff\x0a" + bits.to_bytes(16, "little"))


def test_svg_is_drawn_and_opens_no_other_file(tmp_path):
    drawn = open_image(SVG.format("").encode())
    assert drawn.size == (1024, 512) and drawn.getpixel((5, 5)) == (255, 0, 0, 255)
    (tmp_path / "secret.png").write_bytes(saved(gradient(), "PNG"))
    link = f'<image href="{tmp_path}/secret.png" width="9" height="9"/>'
    with pytest.raises(UserError, match="shows another file"):
        open_image(SVG.format(link).encode(), "x.svg")
    with pytest.raises(UserError, match="more than can be drawn"):
        open_image(SVG.format('<use href="#a"/>' * 40).encode(), "x.svg")


def test_arrays_and_tensors_are_pictures_and_others_are_told():
    colours = np.asarray(gradient())
    for given in (colours, torch.from_numpy(colours).permute(2, 0, 1) / 255, colours.astype(np.int64), colours / 255):
        assert np.abs(np.asarray(open_image(given))[..., :3].astype(int) - colours).max() <= 1
    assert open_image(bytearray(saved(gradient(), "PNG"))).size == (64, 64)
    for given, says in (
        (np.zeros((5, 5, 7)), "shape"),
        (colours * 2.0, "out of range"),
        (7, "is given as int"),
        ("https://example.org/a.png", "is not fetched"),
        ("a\0b.png", "no path has"),
    ):
        with pytest.raises(UserError, match=says):
            open_image(given)
