"""Publish a completed set on the Hugging Face Hub as a data set, in the layout of the `imagefolder` builder."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import constants

from mmgen.errors import UserError
from mmgen.hub.publish import Published
from mmgen.hub.send import Parcel, ProgressCallback, checked_name, checked_token, files_in, send

CARD, SHEET, METADATA, HOW = "README.md", "sheet.png", "metadata.jsonl", "set.json"
_REPLACED = ["pictures/**"]


def is_set(folder: Path | str) -> bool:
    """Whether a folder holds a completed set."""
    return all((Path(folder) / name).is_file() for name in (HOW, METADATA))


def publish_set(
    folder: Path | str,
    repo_id: str,
    private: bool = True,
    dry_run: bool = False,
    on_progress: ProgressCallback | None = None,
    token: str | None = None,
) -> Published:
    """Put a set on the Hub. Done again it changes nothing; pictures that are no more in the set are deleted there.

    Everything that arrived is compared with what was sent.

    Args:
        folder: as `mmgen.services.completed_set.CompletedSet` leaves it.
        repo_id: `user/name`; made if it is not there.
        private: whether it is made for its owner alone. One that is there must be so already.
        dry_run: send nothing; needs neither a network nor a token.
        token: by default that of who is signed in. It is sent to the Hub and goes nowhere else.

    Raises:
        UserError: the folder holds no set, the name cannot be used, nobody is signed in, or the Hub refuses or cannot
            be reached.
    """
    tell = on_progress or (lambda share, text: None)
    name = checked_name(repo_id, "data set")
    signed_in = None if dry_run else checked_token(token)
    folder = Path(folder)
    tell(0.2, "Reading the files")
    try:
        card = (folder / CARD).read_text(encoding="utf-8")
        files = files_in(folder)
        images = {SHEET: (folder / SHEET).read_bytes()}
    except OSError as error:
        raise UserError(f"{folder} holds no whole set ({error.strerror or error}). Draw it first.") from error
    parcel = Parcel(name, folder, files, "Publish a set from mmgen", private, kind="dataset", replaced=_REPLACED)
    commit = send(parcel, signed_in, tell) if signed_in else None
    tell(1.0, "Nothing was sent" if dry_run else "Everything arrived")
    return Published(f"{constants.ENDPOINT}/datasets/{name}", commit, files, card, images)
