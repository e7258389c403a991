"""Send a folder to the Hugging Face Hub, stubbornly, and compare what arrived with what was sent."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, get_token

from mmgen.errors import UserError
from mmgen.loading.explain import explained, passes
from mmgen.loading.fetch import split_name

ATTEMPTS = 3

ProgressCallback = Callable[[float, str], None]
"""Takes 0 to 1, and what is being done."""


@dataclass(frozen=True)
class PublishedFile:
    """Attributes:
    path: in the repository.
    size: in bytes.
    sha256: of its content; git_sha1 as git names it.
    """

    path: str
    size: int
    sha256: str
    git_sha1: str


@dataclass(frozen=True)
class Parcel:
    """What is sent, and where to.

    Attributes:
        name: `user/name`; made if it is not there.
        folder: holds the files, and nothing else.
        message: of the commit.
        private: whether it is made for its owner alone. One that is there must be so already.
        revision: branch to write to, made if it is not there; `main` by default.
        kind: "model", "dataset" or "space".
        options: further ones of `HfApi.create_repo`.
        replaced: patterns of paths that are deleted there if they are not among the files; by default none.
    """

    name: str
    folder: Path
    files: list[PublishedFile]
    message: str
    private: bool = True
    revision: str | None = None
    kind: str = "model"
    options: dict[str, Any] = field(default_factory=dict)
    replaced: list[str] | None = None


class _Damaged(RuntimeError):
    """A file is not there as it was sent."""


def send(parcel: Parcel, token: str, tell: ProgressCallback) -> str:
    """Send, and send again after what may pass; the Hub keeps what has arrived.

    Returns:
        The commit that holds the files.

    Raises:
        UserError: the Hub refuses, or cannot be reached.
    """
    api = HfApi(token=token)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _send(api, parcel, tell)
        except UserError:
            raise
        except Exception as error:  # whatever the client or the network raises
            told = str(error) if isinstance(error, _Damaged) else explained(error, parcel.name, publishing=True)
            if attempt == ATTEMPTS or not passes(error):
                break
        tell(0.2, "Trying again")
        time.sleep(attempt)
    raise UserError(told)  # Out here, as the client's errors carry the request with the token.


def _send(api: HfApi, parcel: Parcel, tell: ProgressCallback) -> str:
    name, files = parcel.name, parcel.files
    kind: dict[str, Any] = {"repo_type": parcel.kind}
    tell(0.3, f"Asking for {name}")
    api.create_repo(name, private=parcel.private, exist_ok=True, **kind, **parcel.options)
    if (private := bool(api.repo_info(name, **kind).private)) != parcel.private:
        seen, way = ("private", "privately") if private else ("for everybody to see", "publicly")
        raise UserError(f"{name} is there already, {seen}. Choose another name, or publish {way}.")
    if parcel.revision and parcel.revision != constants.DEFAULT_REVISION:
        api.create_branch(name, branch=parcel.revision, exist_ok=True, **kind)
    tell(0.4, f"Sending {sum(file.size for file in files) / 1e6:,.1f} MB in {len(files)} files")
    commit = api.upload_folder(
        repo_id=name,
        folder_path=parcel.folder,
        revision=parcel.revision,
        commit_message=parcel.message,
        delete_patterns=parcel.replaced,
        **kind,
    ).oid
    tell(0.9, "Comparing what arrived")
    there = {entry.path: entry for entry in api.list_repo_tree(name, recursive=True, revision=commit, **kind)}
    for file in files:
        entry = there.get(file.path)
        lfs = getattr(entry, "lfs", None)
        arrived = lfs.sha256 == file.sha256 if lfs else getattr(entry, "blob_id", None) == file.git_sha1
        if not arrived or getattr(entry, "size", None) != file.size:
            raise _Damaged(f"{file.path} did not arrive at {name} as it was sent. Publish it again.")
    return commit


def files_in(folder: Path) -> list[PublishedFile]:
    """All files below a folder, with their hashes.

    Raises:
        OSError: one cannot be read.
    """
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = path.stat().st_size
        git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        sha256 = hashlib.sha256()
        with path.open("rb") as content:
            while block := content.read(1 << 20):
                git.update(block)
                sha256.update(block)
        found.append(PublishedFile(path.relative_to(folder).as_posix(), size, sha256.hexdigest(), git.hexdigest()))
    return found


def checked_name(repo_id: str, what: str = "model") -> str:
    """A name on the Hub.

    Raises:
        UserError: it can be none.
    """
    found = split_name(repo_id)
    if found is None or found[1] is not None:
        raise UserError(
            f"{repo_id[:100] or 'Nothing'} cannot be the name of a {what}. Name it as user/name, in letters, digits, "
            "single hyphens, _ and dots."
        )
    return found[0]


def checked_token(token: str | None) -> str:
    """The token, by default that of who is signed in.

    Raises:
        UserError: nobody is signed in, or it can be no token.
    """
    token = (token or get_token() or "").strip()
    if not token:
        raise UserError(
            "You are not signed in to the Hugging Face Hub. Run `hf auth login`, or set HF_TOKEN to a token that may "
            "write."
        )
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise UserError("Your token holds letters that no token has. Copy it anew from huggingface.co/settings/tokens.")
    return token
