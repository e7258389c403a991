"""Shards made here, for the tests that read them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from PIL import Image


def image(colour: str = "teal", kind: str = "PNG") -> bytes:
    """The file of a small picture in one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(buffer, kind)
    return buffer.getvalue()


def write_shard(file: Path, members: dict[str, bytes | str | dict], form: int = tarfile.DEFAULT_FORMAT) -> Path:
    """A shard of pictures (bytes), captions (text) and records (dictionaries)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w", format=form) as packed:
        for name, content in members.items():
            if isinstance(content, dict):
                content = json.dumps(content)
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return file
