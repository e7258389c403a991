"""Pictures that people send, decoded once each, outside the drawing lock, at the size that a model looks at.

A PNG of 49 megapixels takes 0.7 s and 0.4 GB to decode. So nobody's drawing waits for it: what is large is decoded one
at a time, beside drawing, and a request that names a picture twenty times has it decoded once.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmgen.errors import UserError
from mmgen.images import from_uint8, image_pixels, open_image, square

MAX_TOGETHER = 400_000_000
"""Pixels of all pictures of one request that are decoded."""

_MAX_SIDE = 2048  # Larger ones are scaled down first, to keep memory small.
_LARGE = 4_000_000  # Pixels beyond which a picture waits until no other such is being decoded.
_KEPT = 256
_DECODING = threading.Lock()


class ImageReader:
    """Reads pictures for a model, and keeps what it read last. Threads may share it.

    Args:
        size: side in pixels at which the model looks at pictures.
    """

    def __init__(self, size: int):
        self.size = size
        self._kept: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, images: Sequence[str | Path | Image.Image]) -> list[torch.Tensor]:
        """Pictures as premultiplied RGBA [4, size, size] in [-1, 1].

        Args:
            images: paths of files, of which each is read once, or PIL pictures.

        Raises:
            UserError: one is missing or cannot be read, or they have too many pixels together.
        """
        paths = list(dict.fromkeys(str(image) for image in images if not isinstance(image, Image.Image)))
        sizes = {path: image_pixels(path, 4 * self.size) for path in paths}
        if sum(sizes.values()) > MAX_TOGETHER:
            raise UserError(
                f"These pictures have {sum(sizes.values()) / 1e6:,.0f} megapixels together; send at most "
                f"{MAX_TOGETHER / 1e6:,.0f} megapixels at a time, or scale them down."
            )
        found = {path: self._read(path, sizes[path]) for path in paths}
        squares = [self._square(one) if isinstance(one, Image.Image) else found[str(one)] for one in images]
        return [from_uint8(torch.from_numpy(one)) for one in squares]

    def _read(self, path: str, pixels: int) -> np.ndarray:
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
        except OSError:
            return self._square(open_image(path))  # It says what is wrong.
        if (known := self._known(digest)) is not None:
            return known
        if pixels <= _LARGE:
            return self._keep(digest, self._decode(path))
        with _DECODING:
            known = self._known(digest)  # Another request may have asked for the same.
            return known if known is not None else self._keep(digest, self._decode(path))

    def _decode(self, path: str) -> np.ndarray:
        image = open_image(path, side=4 * self.size)
        if max(image.size) > _MAX_SIDE:
            image.thumbnail((_MAX_SIDE, _MAX_SIDE))
        return self._square(image)

    def _square(self, image: Image.Image) -> np.ndarray:
        return square(open_image(image), self.size)

    def _known(self, digest: bytes) -> np.ndarray | None:
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
            return self._kept.get(digest)

    def _keep(self, digest: bytes, pixels: np.ndarray) -> np.ndarray:
        with self._lock:
            self._kept[digest] = pixels
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return pixels
