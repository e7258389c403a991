"""Find and load checkpoints."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from mmgen.errors import UserError
from mmgen.io import read_json
from mmgen.loading.fetch import fetch, split_name
from mmgen.parts import TRAINING
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.space import on_zero_gpu

FOLDER = Path(__file__).resolve().parent.parent / "checkpoints"


def default_checkpoint() -> Path:
    """The checkpoint named by `MMGEN_CHECKPOINT`, or else the first in the repository's `checkpoints/`.

    Where the package is installed there is no such folder.

    Raises:
        UserError: there is none.
    """
    if os.environ.get("MMGEN_CHECKPOINT"):
        return Path(os.environ["MMGEN_CHECKPOINT"])
    found = local_checkpoints()
    if not found:
        raise UserError(
            f"No checkpoint was named, and there is none in {FOLDER}, as the package itself brings none. Give "
            "--checkpoint a folder or the name of a model on the Hub (user/name), or set MMGEN_CHECKPOINT to one."
        )
    return next(iter(found.values()))


def local_checkpoints() -> dict[str, Path]:
    """The folders in the repository's `checkpoints/`, by name."""
    return {path.parent.name: path.parent for path in sorted(FOLDER.glob("*/model_index.json"))}


def find_checkpoint(name: str | Path) -> Path:
    """The folder of a checkpoint: the one of this name here, or else `user/name[@revision]`, fetched from the Hub.

    Raises:
        UserError: there is neither, or it cannot be fetched.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    on_the_hub = split_name(folder.as_posix())
    if on_the_hub is None:
        raise UserError(f"There is no checkpoint at {folder}. Give a folder that holds model_index.json, or user/name.")
    try:
        return fetch(*on_the_hub)
    except UserError as error:
        raise UserError(f"There is no folder {folder} here. {error}") from error


def name_of(folder: Path) -> str:
    """What a checkpoint in a folder is called: `user/name` if it was fetched; of a training's result, what its own base
    was called, or the training's folder; else the folder's name.
    """
    folder = folder.absolute()
    fetched = re.search(r"models--([^/\\]+?)--([^/\\]+)[/\\]snapshots[/\\]", str(folder))
    if fetched:
        return f"{fetched[1]}/{fetched[2]}"
    if folder.name != "pipeline":
        return folder.name
    base = read_json(folder / TRAINING).get("base")
    return base if isinstance(base, str) and base else folder.parent.name


def open_memory(name: str | Path):
    """The memory in a folder: one that `python -m mmgen memory build` made, one that was saved, or a checkpoint's.

    Args:
        name: a folder, or a checkpoint as `find_checkpoint` takes it.

    Returns:
        an `IndexedMemory` or a `Memory`.

    Raises:
        UserError: there is none, or it is damaged.
    """
    from mmgen.loading.load import load_memory

    folder = find_checkpoint(name)
    if (folder / "index.json").is_file():
        from mmgen.models.indexed_memory import IndexedMemory  # It brings faiss, which nobody else needs.

        return IndexedMemory(folder)
    if (folder / "model_index.json").is_file():
        folder = folder / "memory"
    if not (folder / "config.json").is_file():
        raise UserError(f"There is no memory in {name}. Make one by `python -m mmgen memory build`.")
    return load_memory(folder)


def load_pipeline(name: str | Path, device: str | None = None) -> MultimodalGANPipeline:
    """Load a checkpoint onto a device; by default the GPU where there is one all the time.

    Args:
        name: a folder, or `user/name[@revision]` on the Hub.

    Raises:
        UserError: no checkpoint of mmgen, or no such device.
    """
    pipe = MultimodalGANPipeline.from_pretrained(find_checkpoint(name))
    device = device or ("cuda" if torch.cuda.is_available() and not on_zero_gpu() else "cpu")
    try:
        return pipe.to(device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(f"The device {device} cannot be used here. Leave --device away, or give cpu.") from error
