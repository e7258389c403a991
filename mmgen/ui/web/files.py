"""Files that the page hands out and takes in, all inside gradio's own cache folder."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import time
from pathlib import Path

from gradio.utils import get_upload_folder, is_in_or_equal

from mmgen.errors import UserError
from mmgen.io import replacing
from mmgen.services.inference import GenerationResult


def save_all(drawing: GenerationResult) -> list[str]:
    """Write a drawing's pictures where gradio serves them from and clears them away; equal pictures share a file."""
    root = Path(get_upload_folder())
    root.mkdir(parents=True, exist_ok=True)
    paths = []
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        for index in range(len(drawing.images)):
            made = drawing.save(index, Path(scratch))
            folder = root / hashlib.sha256(made.read_bytes()).hexdigest()
            folder.mkdir(exist_ok=True)
            paths.append(str(made.replace(folder / made.name)))
    return paths


def hand_out(path: Path) -> str:
    """Copy a file to where gradio serves it from and clears it away; equal files share a copy."""
    return keep(path.name, path.read_bytes())


def sweep_cache(seconds: float) -> None:
    """Remove what has lain in gradio's cache for so long; gradio itself forgets some of it."""
    for place, _, names in os.walk(get_upload_folder(), topdown=False):
        for path in (Path(place, name) for name in names):
            try:
                if time.time() - path.stat().st_mtime > seconds:
                    path.unlink()
            except OSError:  # Somebody was quicker.
                pass
        try:
            if time.time() - os.stat(place).st_mtime > seconds and not os.listdir(place):
                os.rmdir(place)
        except OSError:
            pass


def keep(name: str, content: bytes) -> str:
    """Write a file where gradio serves it from; equal files share one."""
    folder = Path(get_upload_folder()) / hashlib.sha256(content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / name) as part:
        part.write_bytes(content)
    return str(folder / name)


def new_file(name: str) -> Path:
    """Where a file of this name can be written to be handed out; nobody can guess its address."""
    folder = Path(get_upload_folder()) / secrets.token_hex(16)
    folder.mkdir(parents=True)
    return folder / name


def uploaded_path(value: object, what: str = "A reference must be an uploaded picture") -> str:
    """The path of a file that a client uploaded.

    Raises:
        UserError: it is no uploaded file; no other file of the machine is ever opened.
    """
    path = value.get("path") if isinstance(value, dict) else None
    # A folder there would be everybody's: what is in it is read by whoever may name it.
    if not isinstance(path, str) or not is_in_or_equal(path, get_upload_folder()) or Path(path).is_dir():
        raise UserError(f"{what}; with gradio_client, give handle_file(path).")
    return path
