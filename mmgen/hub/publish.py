"""Publish a checkpoint on the Hugging Face Hub."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

from mmgen.checkpoints import find_checkpoint
from mmgen.errors import UserError
from mmgen.hub.card import images_of
from mmgen.hub.prepare import prepare
from mmgen.hub.send import Parcel, PublishedFile, checked_name, checked_token, files_in, send

_BRANCH = re.compile(r"[A-Za-z0-9_][\w.-]{0,99}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Published:
    """Attributes:
    url: of the model's page.
    commit: that holds the files; None after a dry run.
    files: all that belongs to the checkpoint there.
    card: README.md.
    images: those that the card shows, by name, as they are in their files.
    """

    url: str
    commit: str | None
    files: list[PublishedFile]
    card: str
    images: dict[str, bytes]


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
        private: whether it is made for its owner alone. One that is there must be so already.
        dry_run: prepare everything and send nothing; needs neither a network nor a token.
        on_progress: takes 0 to 1 and what is being done.
        token: by default that of who is signed in. It is sent to the Hub and goes nowhere else.
        revision: branch to write to, made if it is not there; `main` by default.

    Raises:
        UserError: the checkpoint is not whole, the name cannot be used, nobody is signed in, or the Hub refuses or
            cannot be reached.
    """
    tell = on_progress or (lambda share, text: None)
    name = checked_name(repo_id)
    _check_revision(revision)
    signed_in = None if dry_run else checked_token(token)
    tell(0.0, "Preparing the files and the card")
    with tempfile.TemporaryDirectory(prefix="mmgen-publish-") as temporary:
        folder = Path(temporary)
        try:
            card = prepare(find_checkpoint(checkpoint), folder, name)
            files = files_in(folder)
            shown = [folder / name for name in images_of(card) if (folder / name).is_file()]
            images = {path.name: path.read_bytes() for path in shown}
        except OSError as error:
            raise UserError(f"{checkpoint} could not be prepared ({error.strerror or error}). Mend that.") from error
        parcel = Parcel(name, folder, files, "Publish from mmgen", private, revision)
        commit = send(parcel, signed_in, tell) if signed_in else None
    tell(1.0, "Nothing was sent" if dry_run else "Everything arrived")
    return Published(f"{constants.ENDPOINT}/{name}", commit, files, card, images)


def _check_revision(revision: str | None) -> None:
    if revision is not None and (not _BRANCH.fullmatch(revision) or _COMMIT.fullmatch(revision)):
        raise UserError(f"{revision[:100]!r} cannot be the name of a branch. Use letters, digits, hyphens, _ and dots.")
