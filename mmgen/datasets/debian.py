"""Photographs and drawings of many kinds from two Debian packages, so that the autoencoder knows more than emoji."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from PIL import Image

from mmgen.errors import UserError

MAX_PIXELS = 16_000_000
"""Larger drawings are left out."""

PACKAGES = {
    "tuxpaint-stamps-default": ("usr/share/tuxpaint/stamps", "GPL-2", "Tux Paint contributors, https://tuxpaint.org"),
    "openclipart-png": ("usr/share/openclipart/png", "public domain", "Open Clip Art Library, https://openclipart.org"),
}


def build_drawings(output: Path, seed: int = 0, held_out: float = 0.05) -> Counter:
    """Fetch, unpack and describe the pictures as a Hugging Face image folder with splits `train` and `test`.

    The first line of a stamp's description, or else the words of the file's name, is its caption. No package script
    is run.

    Returns:
        Pictures for each package.

    Raises:
        UserError: this is not a Debian system, or a package could not be fetched.
    """
    rng = random.Random(seed)
    rows = []
    for package, (folder, _, _) in PACKAGES.items():
        root = _unpack(package, output) / folder
        for path in sorted(p for p in root.rglob("*.png") if not p.is_symlink()):
            if not _fits(path):
                continue
            rows.append(
                {
                    "file_name": path.relative_to(output).as_posix(),
                    "text": _caption(path),
                    "label": path.stem,
                    "style": package,
                    "group": path.relative_to(root).parts[0],
                    "split": "test" if rng.random() < held_out else "train",
                }
            )
    with open(output / "metadata.jsonl", "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    sources = "\n".join(f"- `{name}`: {licence}; {author}" for name, (_, licence, author) in PACKAGES.items())
    (output / "README.md").write_text(
        f"# Drawings and photographs from Debian packages\n\n{sources}\n", encoding="utf-8"
    )
    return Counter(row["style"] for row in rows)


def _unpack(package: str, output: Path) -> Path:
    """Fetch a package with apt and unpack its files, unless that was done before."""
    target = output / package
    if target.is_dir():
        return target
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise UserError(
            f"{package} is a Debian package and this system has no apt. Use any other folder of pictures instead."
        )
    output.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["apt-get", "download", package], cwd=output, capture_output=True, text=True)
    archives = list(output.glob(f"{package}_*.deb"))
    if done.returncode != 0 or not archives:
        raise UserError(f"{package} could not be fetched. Run apt-get update, check the network and try again.")
    part = output / f"{package}.part"
    shutil.rmtree(part, ignore_errors=True)
    subprocess.run(["dpkg-deb", "-x", str(archives[0]), str(part)], check=True)
    part.rename(target)
    archives[0].unlink()
    return target


def _fits(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.width * image.height <= MAX_PIXELS
    except (OSError, Image.DecompressionBombError):
        return False


def _caption(path: Path) -> str:
    description = path.with_suffix(".txt")
    if description.is_file():
        lines = description.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines and lines[0].strip():
            return lines[0].strip()
    return re.sub(r"[\W\d_]+", " ", path.stem).strip() or path.parent.name
