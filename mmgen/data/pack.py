"""Pictures of a data set as one memory-mapped array: decoded once, read at random with no decoding in training."""

from __future__ import annotations

import hashlib
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import datasets
import numpy as np
from tqdm import tqdm

from mmgen.images import open_image, square


def pack_pictures(data: datasets.Dataset, size: int, cache: Path) -> np.ndarray:
    """Decode every picture of `data` into a memory-mapped uint8 array [N, 4, size, size], premultiplied RGBA.

    The file lies in `cache` under a name made of the pictures' paths, sizes and times, so a changed data set makes a
    new one and an unchanged one is opened at once.

    Raises:
        UserError: a picture cannot be read.
    """
    paths = [image["path"] for image in data["image"]]
    stamp = hashlib.sha256(str(size).encode())
    for path in paths:
        stat = os.stat(path)
        stamp.update(f"{path}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / f"pictures-{stamp.hexdigest()[:16]}.npy"
    if not file.exists():
        part = file.with_suffix(f".part{os.getpid()}")
        for old in cache.glob(f"{file.stem}.part*"):
            old.unlink(missing_ok=True)
        array = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(len(paths), 4, size, size))
        with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
            squares = pool.map(_square, paths, [size] * len(paths), chunksize=32)
            progress = tqdm(
                squares,
                total=len(paths),
                desc="reading pictures",
                unit="img",
                mininterval=0.5 if sys.stderr.isatty() else 30.0,
            )
            for index, pixels in enumerate(progress):
                array[index] = pixels
        array.flush()
        del array
        part.rename(file)
    return np.load(file, mmap_mode="r")


def _square(path: str, size: int) -> np.ndarray:
    return square(open_image(path), size)
