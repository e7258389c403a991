"""Publish a checkpoint on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token

from mmgen.checkpoints import find_checkpoint
from mmgen.errors import UserError
from mmgen.hub.explain import explained, passes
from mmgen.hub.fetch import split_name
from mmgen.hub.prepare import prepare

ATTEMPTS = 3
_BRANCH = re.compile(r"[A-Za-z0-9_][\w.-]{0,99}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


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
class Published:
    """Attributes:
    url: of the model's page.
    commit: that holds the files; None after a dry run.
    files: all that belongs to the checkpoint there.
    card: README.md.
    """

    url: str
    commit: str | None
    files: list[PublishedFile]
    card: str


def publish(
    checkpoint: str | Path,
    repo_id: str,
    private: bool = True,
    dry_run: bool = False,
    on_progress: Callable[[float, str], None] | None = None,
    token: str | None = None,
    revision: str | None = None,
) -> Published:
    """Put a checkpoint on the Hub, with a filled-in card and the code by which diffusers alone loads it.

    Done again it changes nothing; after a failure it goes on where it was. What else lies in the repository stays
    there. Everything that arrived is compared with what was sent.

    Args:
        checkpoint: a folder, or the name of a model on the Hub.
        repo_id: `user/name`; made if it is not there.
        private: whether it is made for its owner alone. A public one is never written to as a private one.
        dry_run: prepare everything and send nothing; needs neither a network nor a token.
        on_progress: takes 0 to 1 and what is being done.
        token: by default that of who is signed in. It is sent to the Hub and goes nowhere else.
        revision: branch to write to, made if it is not there; `main` by default.

    Raises:
        UserError: the checkpoint is not whole, the name cannot be used, nobody is signed in, or the Hub refuses or
            cannot be reached.
    """
    tell = on_progress or (lambda share, text: None)
    name = _checked_name(repo_id)
    _check_revision(revision)
    token = None if dry_run else _checked_token(token)
    tell(0.0, "Preparing the files and the card")
    with tempfile.TemporaryDirectory(prefix="mmgen-publish-") as temporary:
        folder = Path(temporary)
        try:
            card = prepare(find_checkpoint(checkpoint), folder, name)
            files = _files(folder)
        except OSError as error:
            raise UserError(f"{checkpoint} could not be prepared ({error.strerror or error}). Mend that.") from error
        commit = None if dry_run else _send_stubbornly(HfApi(token=token), name, private, revision, folder, files, tell)
    tell(1.0, "Nothing was sent" if dry_run else "Everything arrived")
    return Published(f"{constants.ENDPOINT}/{name}", commit, files, card)


class _Damaged(RuntimeError):
    """A file is not there as it was sent."""


def _send_stubbornly(
    api: HfApi,
    name: str,
    private: bool,
    revision: str | None,
    folder: Path,
    files: list[PublishedFile],
    tell: Callable[[float, str], None],
) -> str:
    """Send, and send again after what may pass; the Hub keeps what has arrived. Returns the commit."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _send(api, name, private, revision, folder, files, tell)
        except UserError:
            raise
        except Exception as error:  # whatever the client or the network raises
            told = str(error) if isinstance(error, _Damaged) else explained(error, name, publishing=True)
            if attempt == ATTEMPTS or not passes(error):
                break
        tell(0.2, "Trying again")
        time.sleep(attempt)
    raise UserError(told)  # Out here, as the client's errors carry the request with the token.


def _send(api, name, private, revision, folder, files, tell) -> str:
    tell(0.3, f"Asking for {name}")
    api.create_repo(name, private=private, exist_ok=True)
    if private and not api.model_info(name).private:
        raise UserError(f"{name} is there already, for everybody to see. Choose another name, or publish publicly.")
    if revision and revision != constants.DEFAULT_REVISION:
        api.create_branch(name, branch=revision, exist_ok=True)
    tell(0.4, f"Sending {sum(file.size for file in files) / 1e6:,.1f} MB in {len(files)} files")
    commit = api.upload_folder(
        repo_id=name, folder_path=folder, revision=revision, commit_message="Publish from mmgen"
    ).oid
    tell(0.9, "Comparing what arrived")
    there = {entry.path: entry for entry in api.list_repo_tree(name, recursive=True, revision=commit)}
    for file in files:
        entry = there.get(file.path)
        lfs = getattr(entry, "lfs", None)
        arrived = lfs.sha256 == file.sha256 if lfs else getattr(entry, "blob_id", None) == file.git_sha1
        if not arrived or entry.size != file.size:
            raise _Damaged(f"{file.path} did not arrive at {name} as it was sent. Publish it again.")
    return commit


def _files(folder: Path) -> list[PublishedFile]:
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


def _checked_name(repo_id: str) -> str:
    found = split_name(repo_id)
    if found is None or found[1] is not None:
        raise UserError(
            f"{repo_id[:100] or 'Nothing'} cannot be the name of a model. Name it as user/name, in letters, digits, "
            "single hyphens, _ and dots."
        )
    return found[0]


def _check_revision(revision: str | None) -> None:
    if revision is not None and (not _BRANCH.fullmatch(revision) or _COMMIT.fullmatch(revision)):
        raise UserError(f"{revision[:100]!r} cannot be the name of a branch. Use letters, digits, hyphens, _ and dots.")


def _checked_token(token: str | None) -> str:
    token = (token or get_token() or "").strip()
    if not token:
        raise UserError(
            "You are not signed in to the Hugging Face Hub. Run `hf auth login`, or set HF_TOKEN to a token that may "
            "write."
        )
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise UserError("Your token holds letters that no token has. Copy it anew from huggingface.co/settings/tokens.")
    return token
