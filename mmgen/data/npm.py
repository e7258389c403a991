"""Fetch pinned npm packages as archives: integrity checked, nothing installed, no package script run."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from mmgen.errors import UserError


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

    Raises:
        UserError: npm is missing, the fetch failed, or the archive is not the pinned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / package.archive
    if path.is_file() and _integrity(path) == package.integrity:
        return path
    npm = shutil.which("npm")
    if npm is None:
        raise UserError("npm was not found. Install Node.js (it brings npm) and run the command again.")
    command = [npm, "pack", f"{package.name}@{package.version}", "--ignore-scripts", "--silent"]
    done = subprocess.run(
        [*command, "--pack-destination", str(folder.resolve())],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0 or not path.is_file():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"{package.name}@{package.version} could not be fetched ({last}). Check the network and run the command "
            "again; what has arrived is kept."
        )
    if _integrity(path) != package.integrity:
        path.unlink()
        raise UserError(
            f"{package.name}@{package.version} arrived with another checksum than the pinned one and was deleted. "
            "Run the command again; if it happens twice, do not trust the source."
        )
    return path


def read(archive: Path, member: str) -> bytes:
    """Bytes of `package/<member>` in a fetched archive."""
    with tarfile.open(archive) as tar:
        return _content(tar, tar.getmember(f"package/{member}"))


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
