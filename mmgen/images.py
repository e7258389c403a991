"""Pictures in and out: safe opening, squaring, and premultiplied RGBA tensors.

Inside mmgen a picture is a float tensor of shape [4, H, W] in [-1, 1] holding *premultiplied* RGBA: a transparent pixel
is -1 in all four channels whatever colour its file names, so resizing, convolving and averaging never bleed a hidden
colour over an edge (Porter and Duff, "Compositing Digital Images", 1984).
"""

from __future__ import annotations

import io
import math
import re
import threading
import warnings
from pathlib import Path
from xml.parsers import expat

import numpy as np
import torch
from PIL import Image, ImageCms, ImageFile, ImageOps, PngImagePlugin

from mmgen.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "ICO", "PPM", "TGA")
"""What is opened, as Pillow names it; others may start programs (EPS) or are no pictures."""

MAX_PIXELS = 50_000_000
MAX_BYTES = 50_000_000

MAX_MISSING = 0.1
"""Share of a picture's rows that may be missing at the end of a file that was cut short."""

HEAD = 4096
"""First bytes of a file by which `pixel_version` judges."""

SVG_SIDE = 1024
"""Longest side in pixels at which an SVG is drawn."""

_MAX_SVG, _MAX_USES = 2_000_000, 30  # bytes, and copies of its parts, which may double with each level
_MAX_DEPTH = 200  # of elements in each other, or that refer to each other: what draws them would leave its stack
_SVG = re.compile(rb"<svg[\s>]")
_CHAINED = re.compile(rb"<(?:mask|clippath|pattern|marker|filter)\b")
_LENIENT = threading.Lock()
_leniences = 0  # how often Pillow was told to take files that were cut short

Source = str | Path | bytes | bytearray | memoryview | Image.Image | np.ndarray | torch.Tensor
"""What `open_image` takes."""


def open_image(source: Source, name: str | None = None, side: int | None = None) -> Image.Image:
    """Open a picture without trusting it and return it as straight (not premultiplied) RGBA in sRGB.

    An animated picture gives its first frame. Orientation from EXIF is applied, and so is a colour profile. Deeper
    grey is scaled to 8 bits. HEIC, JPEG XL and SVG are read too. Damage that hides nothing is passed over: of notes in
    the file, of its orientation or profile, of its last bytes.

    Args:
        source: a path, the bytes of a file, a PIL picture, or an array or tensor [H, W], [H, W, C] or [C, H, W] with 1
            to 4 channels: integers 0 to 255, or fractions 0 to 1.
        name: what to call it in messages; the file's name by default.
        side: pixels of the longest side that are enough; of a larger JPEG only so many, or more, are decoded.

    Raises:
        UserError: the file is missing, is not a picture, is damaged, or has more than `MAX_PIXELS` pixels or
            `MAX_BYTES` bytes.
    """
    if isinstance(source, (np.ndarray, torch.Tensor)):
        source = _from_array(source, name or "The picture")
    if isinstance(source, Image.Image):
        name = name or "The picture"
        _check_pixels(source, name)
        try:
            return _finished(source)
        except Exception as error:  # Its file is read only now.
            raise UserError(_unreadable(name)) from error
    if isinstance(source, (str, Path)):
        if re.match(r"(https?|ftp|hf|s3|data):", str(source)):
            raise UserError("An address is no picture, and is not fetched. Fetch it, and give the file or its bytes.")
        if "\0" in str(source):
            raise UserError("A picture's path holds a character that no path has. Check the path.")
        path = Path(source).expanduser()
        name = name or path.name
        if not path.is_file():
            raise UserError(f"There is no picture at {path}. Check the path and try again.")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{name} is larger than {MAX_BYTES // 1_000_000} MB. Save a smaller copy and use that.")
        source = path.read_bytes()
    if not isinstance(source, (bytes, bytearray, memoryview)):
        raise UserError(
            f"{name or 'A picture'} is given as {type(source).__name__}. Give a path, the bytes of a file, a PIL "
            "picture, an array or a tensor."
        )
    content, name = bytes(source), name or "The picture"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if _is_svg(content):
                return _draw_svg(content, name)
            try:
                return _decoded(content, name, side)
            except (OSError, SyntaxError, ValueError) as error:
                if isinstance(error, UserError):
                    raise
                return _mended(content, name)
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(_too_large(name)) from error
    except Exception as error:  # Pillow's decoders raise whatever a damaged file provokes.
        raise UserError(_unreadable(name)) from error


def _decoded(content: bytes, name: str, side: int | None = None) -> Image.Image:
    """The first frame of a picture's file; see `open_image`."""
    before = _leniences
    with Image.open(io.BytesIO(content), formats=_formats(content, name)) as image:
        _check_pixels(image, name)
        image.seek(0)
        _draft(image, side)
        image.load()
        found = _finished(image)
    if before != _leniences or _LENIENT.locked():  # Pillow may have been told to be lenient just then.
        with _LENIENT, Image.open(io.BytesIO(content), formats=_formats(content, name)) as image:
            image.seek(0)
            _draft(image, side)
            image.load()
            found = _finished(image)
    return found


def _draft(image: Image.Image, side: int | None) -> None:
    """Let an unread JPEG be decoded at a half, a quarter or an eighth where that leaves its longest side `side`."""
    if side and max(image.size) > side:
        scale = side / max(image.size)
        image.draft(None, (max(1, math.ceil(image.width * scale)), max(1, math.ceil(image.height * scale))))


def image_pixels(path: str | Path, side: int | None = None) -> int:
    """How many pixels of a picture's file `open_image` decodes, by its head alone; 0 for what it refuses in a sentence.

    Args:
        side: as `open_image` takes it.
    """
    try:
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")
            start = file.read(4096)
            if (size := _jxl_size(start)) is not None:
                return size[0] * size[1]
            file.seek(0)
            with Image.open(file, formats=_formats(start, Path(path).name)) as image:
                _draft(image, side)
                return image.width * image.height
    except Exception:  # What it may be is found out when it is read.
        return 0


def _mended(content: bytes, name: str) -> Image.Image:
    """A picture whose file has damaged notes, or lacks its end.

    Raises:
        Exception: it has more damage than that.
    """
    global _leniences
    if content.startswith(b"\xff\xd8"):
        return _mended_jpeg(content.rstrip(b"\xff"), name)
    try:
        return _decoded(_without_notes(content), name)
    except UserError:
        raise
    except Exception:
        pass
    with _LENIENT:
        _leniences += 1
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            with Image.open(io.BytesIO(content), formats=_formats(content, name)) as image:
                _check_pixels(image, name)
                image.load()
                rows = np.asarray(image.convert("RGBA") if image.mode in ("P", "PA") else image)
                blank = np.asarray(rows.reshape(len(rows), -1).any(axis=1))[::-1]
                missing = int(blank.argmax()) if blank.any() else len(rows)
                if missing > MAX_MISSING * len(rows):
                    raise UserError(_unreadable(name))
                return _finished(image)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
            _leniences += 1


def _mended_jpeg(content: bytes, name: str) -> Image.Image:
    """A JPEG that was cut short. What differs by what is put at its end is missing.

    Raises:
        Exception: more is missing than `MAX_MISSING`.
    """
    noise = bytes((number * 73 + 41) % 251 for number in range(4096))
    found, other = (_decoded(content + end + b"\xff\xd9", name) for end in (b"", noise))
    differs = (np.asarray(found) != np.asarray(other)).any(axis=2)
    if min(float(differs.any(axis=axis).mean()) for axis in (0, 1)) > MAX_MISSING:
        raise UserError(_unreadable(name))
    return found


def _without_notes(content: bytes) -> bytes:
    """A PNG with the chunks alone that its pixels need; any other file as it is."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    kept, at = [content[:8]], 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(content[at : at + 12 + length])
        at += 12 + length
    return b"".join(kept)


def _formats(content: bytes, name: str) -> tuple[str, ...]:
    """The formats that may be opened; those that need a package of their own are added once they are met."""
    if content[4:8] == b"ftyp" and content[8:12] not in (b"avif", b"avis"):
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)
        return (*FORMATS, "HEIF")
    size = _jxl_size(content)
    if size is not None:
        if size[0] * size[1] > MAX_PIXELS:  # Its plugin decodes what it opens.
            raise UserError(_too_large(name))
        import pillow_jxl  # noqa: F401

        return (*FORMATS, "JXL")
    return FORMATS


def _jxl_size(content: bytes) -> tuple[int, int] | None:
    """Height and width that a JPEG XL file says it has (ISO/IEC 18181-1, size header); None for any other file."""
    start = content.find(b"\xff\x0a", 0, 2)
    if content.startswith(b"\0\0\0\x0cJXL \r\n\x87\n"):
        start = next(
            (at + 4 + skip for kind, skip in ((b"jxlc", 0), (b"jxlp", 4)) if (at := content.find(kind)) >= 0), -1
        )
    if start < 0 or content[start : start + 2] != b"\xff\x0a":
        return None
    bits, at = int.from_bytes(content[start + 2 : start + 18], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        value = bits >> at & ((1 << count) - 1)
        at += count
        return value

    small = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    across, down = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio]
    return height, (height * across // down if ratio else side())


def _is_svg(content: bytes) -> bool:
    start = content[:3000].removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith(b"<") and _SVG.search(content[:100_000]) is not None


def _draw_svg(content: bytes, name: str) -> Image.Image:
    """An SVG, drawn such that its longest side has `SVG_SIDE` pixels; what it asks of other files is refused."""
    import resvg_py

    lower, text = content.lower(), content.decode("utf-8-sig")
    links = re.findall(rb"href\s*=\s*[\"']\s*([^\"']*)", lower)
    is_much = len(content) > _MAX_SVG or b"<!entity" in lower or lower.count(b"<use") > _MAX_USES
    if is_much or len(_CHAINED.findall(lower)) > _MAX_DEPTH or _depth(text) > _MAX_DEPTH:
        raise UserError(f"{name} is an SVG of more than can be drawn here. Save it as PNG and use that.")
    is_image = b"<image" in lower or b"<feimage" in lower
    if is_image and not all(link.startswith((b"#", b"data:image/png", b"data:image/jp")) for link in links):
        raise UserError(f"{name} is an SVG that shows another file, which is not opened. Save it as PNG and use that.")
    with Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=text, width=64)))) as small:
        wide = small.width >= small.height
    side = (SVG_SIDE, None) if wide else (None, SVG_SIDE)
    drawn = resvg_py.svg_to_bytes(svg_string=text, width=side[0], height=side[1])
    return Image.open(io.BytesIO(bytes(drawn)), formats=("PNG",)).convert("RGBA")


def _depth(text: str) -> int:
    """How many elements of an XML document lie in each other.

    Raises:
        xml.parsers.expat.ExpatError: it is none.
    """
    depth = deepest = 0

    def begin(*_: object) -> None:
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)

    def end(*_: object) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.Parse(text, True)
    return deepest


def _finished(image: Image.Image) -> Image.Image:
    """A picture of any mode as RGBA in sRGB, the right way up."""
    profile = image.info.get("icc_profile")
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # Its EXIF is damaged; its pixels need not be.
        image.load()
    return _in_srgb(_eight_bits(image), profile)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or of fractions as 8 bits, which Pillow would cut off at 255; else the picture itself.

    16 bits lose their lower half. Larger numbers and fractions are scaled by what they must be: up to 255, 65,535 or
    2**32 - 1; fractions up to 1 from 0.
    """
    if not (image.mode.startswith("I") or image.mode == "F"):
        return image
    values = np.asarray(image)
    key = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        grey = values.astype(np.uint32) >> 8
    else:
        values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
        if image.mode == "I" and values.min(initial=0) < 0 and values.max(initial=0) > 65_535:
            values = np.where(values < 0, values + 2.0**32, values)  # Pillow reads 32 bits with a sign.
        top = values.max(initial=0)
        limit = next((one for one in (1.0 if image.mode == "F" else 255.0, 255.0, 65_535.0) if top <= one), 2.0**32 - 1)
        if image.mode == "F" and top > 65_535.0:
            limit = top
        scaled = values * 255 / limit
        grey = (np.round(scaled) if image.mode == "F" or limit == 255.0 else np.floor(values * 256 / (limit + 1))).clip(
            0, 255
        )
    pixels = Image.fromarray(grey.astype(np.uint8))
    if isinstance(key, int):
        pixels = pixels.convert("LA")
        pixels.putalpha(Image.fromarray(np.where(np.asarray(image) == key, 0, 255).astype(np.uint8)))
    return pixels


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A picture of 8 bits as RGBA, brought from its profile into sRGB; a damaged profile counts for none."""
    if not profile:
        return image.convert("RGBA")
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(own).lower():
            return image.convert("RGBA")
        rgba = image.convert("RGBA") if image.mode not in ("CMYK", "LAB", "L") else None
        space = own.profile.xcolor_space.strip()
        if space == "GRAY":
            colours = (rgba or image.convert("RGBA")).convert("L")
        elif space == "RGB":
            colours = (rgba or image.convert("RGBA")).convert("RGB")
        else:
            colours = image
        made = ImageCms.profileToProfile(colours, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
        if made is None:
            return image.convert("RGBA")
        made = made.convert("RGBA")
        if rgba is not None:
            made.putalpha(rgba.getchannel("A"))
        return made
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image.convert("RGBA")


def _from_array(array: np.ndarray | torch.Tensor, name: str) -> Image.Image:
    """An array or tensor [H, W], [H, W, C] or [C, H, W] as a PIL picture.

    Raises:
        UserError: it has another shape, or values out of range.
    """
    fractions = array.is_floating_point() if isinstance(array, torch.Tensor) else array.dtype.kind == "f"
    values = array.detach().float().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[-1] not in (1, 2, 3, 4) and values.shape[0] in (1, 2, 3, 4):
        values = values.transpose(1, 2, 0)
    if (
        values.dtype.kind not in "buif"
        or values.ndim not in (2, 3)
        or values.shape[2:] not in ((), (1,), (2,), (3,), (4,))
    ):
        raise UserError(
            f"{name} is an array of shape {tuple(array.shape)}. Give [H, W, C] or [C, H, W] with 1 to 4 channels."
        )
    if not values.size:
        raise UserError(f"{name} is empty. Choose another picture.")
    most = 1.0 if fractions or values.dtype.kind == "b" else 255
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        values = values >> 8
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= most):
        raise UserError(f"{name} is an array with values out of range. Give integers 0 to 255, or fractions 0 to 1.")
    pixels = np.round(values.astype(np.float64) * (255 if most == 1.0 else 1)).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _unreadable(name: str) -> str:
    return (
        f"{name} could not be read as a picture; it may be damaged or of another kind. Save it as PNG, JPEG or WebP "
        "and try again."
    )


def _check_pixels(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UserError(_too_large(name))
    if width < 1 or height < 1:
        raise UserError(f"{name} is empty. Choose another picture.")


def _too_large(name: str) -> str:
    return f"{name} has more than {MAX_PIXELS // 1_000_000} megapixels. Scale it down and try again."


def pixel_version(head: bytes) -> int:
    """Which change of the reading a file's pixels come from, for the names of what is kept of them.

    1: eight bits without a colour profile, read as ever. 2: grey of more bits scaled, and colour profiles applied;
    what cannot be told from the head counts as this.

    Args:
        head: the first `HEAD` bytes of the file, or all of it.
    """
    if head.startswith(b"\x89PNG\r\n"):
        plain = head[24:25] != b"\x10" and b"iCCP" not in head and b"IDAT" in head
    elif head.startswith(b"\xff\xd8"):  # EXIF may be long, and hide a profile behind it.
        plain = b"JFIF" in head[:16] and b"ICC_PROFILE" not in head and b"Exif" not in head
    elif head.startswith(b"RIFF"):
        plain = b"ICCP" not in head[:64]
    else:
        plain = head.startswith((b"GIF8", b"BM"))
    return 1 if plain else 2


def premultiply(image: Image.Image) -> np.ndarray:
    """Straight RGBA picture -> float32 array [H, W, 4] in [0, 1] with colour multiplied by alpha."""
    array = np.asarray(image.convert("RGBA"), dtype=np.float32) / 255.0
    array[..., :3] *= array[..., 3:]
    return array


def square(image: Image.Image, size: int) -> np.ndarray:
    """Fit a picture into a transparent square and resize it there, premultiplied.

    Returns:
        uint8 array [4, size, size], premultiplied RGBA; no channel exceeds alpha.
    """
    factor = max(image.size) // (4 * size)
    if factor > 1:  # Far too large: halve the work in 8 bits first, premultiplied as all else.
        image = image.convert("RGBa").reduce(factor)
        array = np.asarray(image, dtype=np.float32) / 255.0
    else:
        array = premultiply(image)
    height, width = array.shape[:2]
    scale = size / max(height, width)
    new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
    if (new_h, new_w) != (height, width):
        channels = [
            np.asarray(Image.fromarray(array[..., c]).resize((new_w, new_h), Image.Resampling.BICUBIC))
            for c in range(4)
        ]
        array = np.stack(channels, axis=-1)
    array = array.clip(0.0, 1.0)
    array[..., :3] = np.minimum(array[..., :3], array[..., 3:])
    canvas = np.zeros((size, size, 4), dtype=np.uint8)
    top, left = (size - new_h) // 2, (size - new_w) // 2
    canvas[top : top + new_h, left : left + new_w] = np.round(array * 255.0).astype(np.uint8)
    return canvas.transpose(2, 0, 1)


def to_tensor(image: Image.Image, size: int) -> torch.Tensor:
    """Any PIL picture -> premultiplied RGBA tensor [4, size, size] in [-1, 1]."""
    return from_uint8(torch.from_numpy(square(image, size)))


def from_uint8(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [0, 255] -> float32 [-1, 1], any shape."""
    return pixels.float().div_(127.5).sub_(1.0)


def to_pil(pixels: torch.Tensor) -> list[Image.Image]:
    """Premultiplied RGBA tensors [N, 4, H, W] in [-1, 1] -> straight RGBA pictures.

    Alpha below 2/255 becomes fully transparent and above 253/255 fully opaque, so that flat grounds are clean.
    """
    array = pixels.detach().float().cpu().add(1.0).div(2.0).clamp(0.0, 1.0).permute(0, 2, 3, 1).numpy()
    alpha = array[..., 3:]
    alpha = np.where(alpha < 2 / 255, 0.0, np.where(alpha > 253 / 255, 1.0, alpha))
    colour = np.where(alpha > 0, array[..., :3] / np.maximum(alpha, 1e-4), 0.0).clip(0.0, 1.0)
    straight = np.round(np.concatenate([colour, alpha], axis=-1) * 255.0).astype(np.uint8)
    return [Image.fromarray(image, "RGBA") for image in straight]


def composite(pixels: torch.Tensor, ground: float | torch.Tensor = 1.0) -> torch.Tensor:
    """Lay premultiplied RGBA tensors [N, 4, H, W] in [-1, 1] on a ground.

    Args:
        ground: brightness in [-1, 1], or a tensor that broadcasts to [N, 3, H, W].

    Returns:
        RGB tensor [N, 3, H, W] in [-1, 1].
    """
    colour, alpha = pixels[:, :3], (pixels[:, 3:] + 1.0) / 2.0
    return colour + (ground + 1.0) * (1.0 - alpha)


def save_png(image: Image.Image, path: Path, text: dict[str, object]) -> None:
    """Write a PNG with what it was made from in its text chunks; equal pictures and texts give equal bytes.

    Raises:
        UserError: the file cannot be written.
    """
    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        info.add_itxt(key, str(value))
    try:
        image.save(path, format="PNG", pnginfo=info)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}). Choose another name or folder.") from error


def psnr(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of pictures [N, C, H, W] in [-1, 1], ours clamped to it; [N], at most 106."""
    error = (ours.clamp(-1, 1) - theirs).square().flatten(1).mean(1)
    return 10 * torch.log10(4.0 / error.clamp_min(1e-10))


_CUT_SIDE = 512
"""Longest side in pixels at which a ground is cut out."""

_EVEN = 24.0
"""How far from the ground's colour, of 255, what belongs to it may lie, and most of the border must."""


def cut_out_ground(image: Image.Image) -> Image.Image | None:
    """A picture without its even ground: what is of the border's colour and joined to the border becomes transparent.

    Args:
        image: straight RGBA, without transparency.

    Returns:
        The same at `_CUT_SIDE` or smaller; None where nine tenths of the border are not of one colour.
    """
    image = image.convert("RGBA")
    image.thumbnail((_CUT_SIDE, _CUT_SIDE))
    rgb = np.asarray(image, dtype=np.float32)[..., :3]
    border = np.zeros(rgb.shape[:2], dtype=bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    ground = np.median(rgb[border], axis=0)
    distance = np.abs(rgb - ground).max(-1)
    near = distance < _EVEN
    if near[border].mean() < 0.9:
        return None
    outside = border & near
    while True:
        grown = _grown(outside) & near
        if grown.sum() == outside.sum():
            break
        outside = grown
    # At the edge the ground shines through: there alpha is how far its colour has gone, and the rest is taken off.
    edge = _grown(_grown(outside)) & ~outside
    alpha = np.where(outside, 0.0, np.where(edge, (distance / (4 * _EVEN)).clip(0.0, 1.0), 1.0))[..., None]
    colour = np.where(alpha > 0, (rgb - (1 - alpha) * ground) / np.maximum(alpha, 1e-3), 0.0).clip(0.0, 255.0)
    return Image.fromarray(np.concatenate([colour, alpha * 255.0], axis=-1).round().astype(np.uint8), "RGBA")


def _grown(mask: np.ndarray) -> np.ndarray:
    """A mask [H, W] and the four neighbours of what is in it."""
    out = mask.copy()
    out[1:] |= mask[:-1]
    out[:-1] |= mask[1:]
    out[:, 1:] |= mask[:, :-1]
    out[:, :-1] |= mask[:, 1:]
    return out
