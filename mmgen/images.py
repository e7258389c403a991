"""Pictures in and out: safe opening, squaring, and premultiplied RGBA tensors.

Inside mmgen a picture is a float tensor of shape [4, H, W] in [-1, 1] holding *premultiplied* RGBA: a transparent pixel
is -1 in all four channels whatever colour its file names, so resizing, convolving and averaging never bleed a hidden
colour over an edge (Porter and Duff, "Compositing Digital Images", 1984).
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin

from mmgen.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "ICO", "PPM", "TGA")
"""What is opened, as Pillow names it; others may start programs (EPS) or are no pictures."""

MAX_PIXELS = 50_000_000
MAX_BYTES = 50_000_000


def open_image(source: str | Path | bytes | Image.Image, name: str | None = None) -> Image.Image:
    """Open a picture without trusting it and return it as straight (not premultiplied) RGBA.

    An animated picture gives its first frame. Orientation from EXIF is applied.

    Args:
        source: a path, the bytes of a file, or a PIL picture.
        name: what to call it in messages; the file's name by default.

    Raises:
        UserError: the file is missing, is not a picture, is damaged, or has more than `MAX_PIXELS` pixels or
            `MAX_BYTES` bytes.
    """
    if isinstance(source, Image.Image):
        name = name or "The picture"
        _check_pixels(source, name)
        try:
            return ImageOps.exif_transpose(source).convert("RGBA")
        except Exception as error:  # Its file is read only now.
            raise UserError(_unreadable(name)) from error
    if isinstance(source, (str, Path)):
        path = Path(source)
        name = name or path.name
        if not path.is_file():
            raise UserError(f"There is no picture at {path}. Check the path and try again.")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{name} is larger than {MAX_BYTES // 1_000_000} MB. Save a smaller copy and use that.")
        source = path.read_bytes()
    name = name or "The picture"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source), formats=FORMATS) as image:
                _check_pixels(image, name)
                image.seek(0)
                image.load()
                return ImageOps.exif_transpose(image).convert("RGBA")
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(_too_large(name)) from error
    except Exception as error:  # Pillow's decoders raise whatever a damaged file provokes.
        raise UserError(_unreadable(name)) from error


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
