"""Where people's drafts and jobs are kept."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mmgen.errors import UserError
from mmgen.space import storage

_OWNER = re.compile(r"[A-Za-z0-9_-]{1,64}")


def root() -> Path:
    """The folder of everybody's folders, which need not exist.

    `$MMGEN_HOME`, or else `mmgen` in a Space's persistent storage, or else `~/.mmgen`.
    """
    lasting = storage()
    usual = lasting / "mmgen" if lasting else Path.home() / ".mmgen"
    return Path(os.environ.get("MMGEN_HOME") or usual).expanduser().absolute()


def home(owner: str = "local", make: bool = True) -> Path:
    """One person's folder, made if it is not there.

    Args:
        owner: 1 to 64 letters, digits, `_` and `-` of ASCII.
        make: False where nothing is to be kept there, so that who only looks leaves no folder behind.

    Raises:
        UserError: another kind of owner, or the folder cannot be made.
    """
    if not _OWNER.fullmatch(owner):
        raise UserError(f"{owner!r} cannot be the name of a folder here. Use up to 64 letters, digits, _ and -.")
    folder = root() / owner
    if not make:
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be made ({error.strerror or error}). Set MMGEN_HOME to a folder of yours."
        ) from error
    return folder
