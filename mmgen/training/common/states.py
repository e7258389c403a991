"""Whether a training's saved state is whole: a disk that was full or a crash may cut a file short."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open


def damage(state: Path, wanted: Iterable[str] = ()) -> str | None:
    """What is wrong with a state's folder, such as `optimizer.bin is damaged`; None if it is whole.

    Of safetensors the head is compared with the size, of what torch has written as a zip file all checksums; nothing is
    unpickled.

    Args:
        wanted: names of files that must be there.
    """
    for name in wanted:
        if not (state / name).is_file():
            return f"{name} is missing"
    for file in sorted(path for path in state.rglob("*") if path.is_file()):
        if not _is_whole(file):
            return f"{file.relative_to(state)} is damaged"
    return None


def _is_whole(file: Path) -> bool:
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="numpy"):
                return True
        if file.suffix == ".json":
            json.loads(file.read_text())
        if file.suffix in (".bin", ".pkl", ".pt"):
            with zipfile.ZipFile(file) as packed:
                return packed.testzip() is None
    except (SafetensorError, OSError, ValueError, EOFError, RecursionError, zipfile.BadZipFile):
        return False
    return True
