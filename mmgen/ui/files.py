"""Files that the page hands out and takes in, all inside gradio's own cache folder."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from gradio.utils import get_upload_folder, is_in_or_equal

from mmgen.errors import UserError
from mmgen.ui.drawing import Drawing


def save_all(drawing: Drawing) -> list[str]:
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


def uploaded_path(value: object) -> str:
    """The path of a file that a client uploaded.

    Raises:
        UserError: it is no uploaded file; no other file of the machine is ever opened.
    """
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str) or not is_in_or_equal(path, get_upload_folder()):
        raise UserError("A reference must be an uploaded picture; with gradio_client, give handle_file(path).")
    return path
