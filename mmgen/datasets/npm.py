"""Fetch pinned npm packages as archives: integrity checked, nothing installed, no package script run."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmgen.datasets.pinned import fetch_pinned
from mmgen.errors import UserError
from mmgen.io import write_json

REDUCED = "reduced.json"
"""Checksums of the archives beside it that hold a part of their package."""

PRESET: Final = 1
"""Of xz: smaller than what is published, and several times as fast as its default."""


@dataclass(frozen=True)
class NpmPackage:
    """One release of one package.

    Attributes:
        integrity: the registry's Subresource Integrity string, `sha512-` and the base64 digest of the archive.
    """

    name: str
    version: str
    integrity: str

    @property
    def archive(self) -> str:
        """File name that `npm pack` gives the archive."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


def fetch(package: NpmPackage, folder: Path) -> Path:
    """Return the path of the package's archive in `folder`, fetching it unless it is there already and intact.

    One that `reduce` wrote there counts as intact.

    Raises:
        UserError: npm is missing, the fetch failed, or the archive is not the pinned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / package.archive
    if path.is_file() and _integrity(path) in (package.integrity, _reduced(folder).get(package.archive)):
        return path
    npm = shutil.which("npm")
    if npm is None:
        raise UserError("npm was not found. Install Node.js (it brings npm) and run the command again.")
    pinned = f"{package.name}@{package.version}"
    command = [npm, "pack", pinned, "--ignore-scripts", "--silent", "--pack-destination", str(folder.resolve())]
    return fetch_pinned(
        pinned, path, command, lambda one: _integrity(one) == package.integrity, "; what has arrived is kept."
    )


def reduce(package: NpmPackage, source: Path, target: Path, wanted: Callable[[str], bool]) -> Path:
    """Write an archive with some of a package's files alone, packed tighter, into another folder.

    Its name stays, and its own checksum is kept beside it in `REDUCED`, where `fetch` finds it.

    Args:
        source: the folder of the whole, intact archive.
        wanted: takes a name as `read` does.
    """
    target.mkdir(parents=True, exist_ok=True)
    path = target / package.archive
    with tarfile.open(source / package.archive) as whole, tarfile.open(path, "w:xz", preset=PRESET) as part:
        for member in sorted(whole, key=lambda member: member.name):
            if member.isfile() and wanted(member.name.partition("/")[2]):
                kept = tarfile.TarInfo(member.name)
                kept.size = member.size
                part.addfile(kept, whole.extractfile(member))
    digests = {**_reduced(target), package.archive: _integrity(path)}
    write_json(target / REDUCED, digests, indent=2)
    return path


def _reduced(folder: Path) -> dict[str, str]:
    file = folder / REDUCED
    return json.loads(file.read_text()) if file.is_file() else {}


def read(archive: Path, member: str) -> bytes:
    """Bytes of `package/<member>` in a fetched archive."""
    with tarfile.open(archive) as tar:
        return _content(tar, tar.getmember(f"package/{member}"))


def read_all(archive: Path, ending: str) -> dict[str, bytes]:
    """Path in `package/` -> bytes of every plain file whose path ends so, in one pass over the archive."""
    with tarfile.open(archive) as tar:
        return {
            member.name.partition("/")[2]: _content(tar, member)
            for member in tar
            if member.isfile() and member.name.endswith(ending)
        }


def read_folder(archive: Path, folder: str) -> dict[str, bytes]:
    """Name -> bytes of every plain file directly in `package/<folder>/`."""
    prefix = f"package/{folder}/"
    with tarfile.open(archive) as tar:
        return {
            member.name[len(prefix) :]: _content(tar, member)
            for member in tar
            if member.isfile() and member.name.startswith(prefix) and "/" not in member.name[len(prefix) :]
        }


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    if file is None:
        raise KeyError(f"{member.name} is no plain file")
    return file.read()


def _integrity(path: Path) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
