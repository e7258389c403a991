"""Arrays on disk, memory-mapped: images are decoded once, and read at random with no decoding in training.

They are filled piece by piece, so a data set may be far larger than the memory.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
from tqdm import tqdm

from mmgen.data.shards import open_image_at, pixel_stamp
from mmgen.errors import UserError
from mmgen.images import square
from mmgen.io import read_json, replacing, write_json

CHUNK = 8  # images that one process decodes at a time
STALE_SECONDS = 3600


def pack_images(
    data: datasets.Dataset, size: int, cache: Path, on_part: Callable[[], object] = lambda: None
) -> np.memmap:
    """Decode every image of `data` into a memory-mapped uint8 array [N, 4, size, size], premultiplied RGBA.

    The file lies in `cache` under a name made of the images' paths, sizes and times and of how they are read, so a
    changed data set makes a new one and an unchanged one is opened at once.

    Args:
        on_part: as `cached_memmap` takes it.

    Raises:
        UserError: an image cannot be read, or the disk is full.
    """
    return cached_memmap(_packed(data, size, cache), len(data), _squares(_paths(data), size, len(data)), on_part)


def pack_readable(
    data: datasets.Dataset, size: int, cache: Path, on_unreadable: Callable[[str, str], object]
) -> tuple[datasets.Dataset, np.memmap]:
    """As `pack_images`, but an image that cannot be read is left out of the data.

    Which images those are is kept in `cache`, and they alone are tried again the next time.

    Args:
        on_unreadable: called with the place of each such image, and the sentence that says what is wrong with it.

    Raises:
        UserError: no image can be read, or the disk is full.
    """
    notes = _packed(data, size, cache).with_suffix(".json")
    rows = read_json(notes).get("unreadable")
    if not isinstance(rows, list):
        try:
            return data, pack_images(data, size, cache)
        except UserError:
            rows = list(range(len(data)))
            unread = _unread(data, rows)
            if not unread:  # So it was the disk.
                raise
    else:
        unread = _unread(data, rows)
    kept = _without(data, unread, on_unreadable)
    write_json(notes, {"unreadable": list(unread)})
    return kept, pack_images(kept, size, cache)


def only_readable(data: datasets.Dataset, on_unreadable: Callable[[str, str], object]) -> datasets.Dataset:
    """The images that can be read, all of which are decoded for that; `on_unreadable` as `pack_readable` takes it.

    Raises:
        UserError: there is none.
    """
    return _without(data, _unread(data, list(range(len(data)))), on_unreadable)


def _without(
    data: datasets.Dataset, unread: dict[int, str], on_unreadable: Callable[[str, str], object]
) -> datasets.Dataset:
    if len(unread) == len(data):
        raise UserError(next(iter(unread.values())))
    for row, sentence in unread.items():
        on_unreadable(data[row]["image"]["path"], sentence)
    return data.select([row for row in range(len(data)) if row not in unread]) if unread else data


def _packed(data: datasets.Dataset, size: int, cache: Path) -> Path:
    """Where the array of these images lies."""
    stamp = hashlib.sha256(str(size).encode())
    for path in _paths(data):
        stamp.update(f"{pixel_stamp(path)}\n".encode())
    return cache / f"pictures-{stamp.hexdigest()[:16]}.npy"


def _unread(data: datasets.Dataset, rows: list[int]) -> dict[int, str]:
    """Those of some rows whose images cannot be read, with the sentence that says why."""

    def wrong(path: str) -> str | None:
        try:
            open_image_at(path)
        except UserError as error:
            return str(error)
        return None

    paths = [image["path"] for image in data.select(rows)["image"]]
    quiet = 0.5 if sys.stderr.isatty() else 30.0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        tried = tqdm(pool.map(wrong, paths), total=len(paths), desc="looking for damage", unit="img", mininterval=quiet)
        return {row: said for row, said in zip(rows, tried, strict=True) if said}


def cached_memmap(
    file: Path,
    count: int,
    parts: Iterable[tuple[slice | np.ndarray, np.ndarray]],
    on_part: Callable[[], object] = lambda: None,
) -> np.memmap:
    """Open the array in a file, memory-mapped; where there is none yet, fill it first, whole or not at all.

    Args:
        count: length of the first axis.
        parts: rows and the values that stand in them; the first tells shape and type. Read only to fill the file.
        on_part: called after each of them; what it raises ends the filling.

    Raises:
        UserError: the disk is full.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale_parts(file)
        with replacing(file) as part:
            array: np.memmap | None = None
            for rows, values in parts:
                if array is None:
                    array = _new_array(part, (count, *values.shape[1:]), values.dtype)
                array[rows] = values
                on_part()
            if array is None:
                raise ValueError(f"{file.name} would hold nothing")
            array.flush()
    return np.load(file, mmap_mode="r")


def _paths(data: datasets.Dataset) -> Iterator[str]:
    for rows in data.select_columns("image").iter(1000):
        yield from (image["path"] for image in rows["image"])


def _squares(paths: Iterator[str], size: int, count: int) -> Iterator[tuple[slice, np.ndarray]]:
    """The images in order, decoded by all cores, a few chunks ahead of where they are wanted."""
    workers = os.cpu_count() or 1
    start, pending = 0, deque[Future[np.ndarray]]()
    quiet = 0.5 if sys.stderr.isatty() else 30.0
    with (
        ThreadPoolExecutor(workers) as pool,  # Processes would inherit a run's locks, and outlive it when it is killed.
        tqdm(total=count, desc="reading pictures", unit="img", mininterval=quiet) as bar,
    ):
        while (chunk := list(islice(paths, CHUNK))) or pending:
            if chunk:
                pending.append(pool.submit(_square_all, chunk, size))
            if not chunk or len(pending) > 2 * workers:
                pixels = pending.popleft().result()
                yield slice(start, start + len(pixels)), pixels
                start += len(pixels)
                bar.update(len(pixels))


def _square_all(paths: list[str], size: int) -> np.ndarray:
    return np.stack([square(open_image_at(path), size) for path in paths])


def _new_array(file: Path, shape: tuple[int, ...], kind: np.dtype) -> np.memmap:
    """A new memory-mapped array that owns its space on the disk: one that fills up later would kill the writer."""
    size = math.prod(shape) * kind.itemsize
    full = f"{file.parent} has no room for {size / 1e9:.1f} GB. Free some, or choose another --cache."
    if size > shutil.disk_usage(file.parent).free:
        raise UserError(full)
    array = np.lib.format.open_memmap(file, mode="w+", dtype=kind, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with open(file, "r+b") as handle:
            try:
                os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise UserError(full) from error
    return array


def _remove_stale_parts(file: Path) -> None:
    """Remove what a killed process left; a part that is still being written may be another process's."""
    for old in file.parent.glob(f"{file.stem}.*part*"):
        if time.time() - old.stat().st_mtime > STALE_SECONDS:
            old.unlink(missing_ok=True)
