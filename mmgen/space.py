"""Whether this is a Hugging Face Space, and what it has."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

STORAGE = Path("/data")

_PATH = re.compile(r"(?<![\w:/.<])/(?:[^\s/:;,'\"()<>“”]+/)+[^\s/:;,'\"()<>“”]*[^\s/:;,'\"()<>“”.]")
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OAUTH_")


def on_space() -> bool:
    """Whether this is a Hugging Face Space, where visitors are strangers to each other and to the machine."""
    return bool(os.environ.get("SPACE_ID"))


def on_zero_gpu() -> bool:
    """Whether it is a Space that is lent a GPU for single calls; see `mmgen.jobs.zero_gpu`."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for processes that need no login: those that work on what strangers sent."""
    return {name: value for name, value in environment.items() if not name.startswith(_SECRETS)}


def storage() -> Path | None:
    """The folder whose files outlive a restart of the Space, if it has one."""
    return STORAGE if on_space() and STORAGE.is_dir() and os.access(STORAGE, os.W_OK) else None


def without_paths(sentence: str) -> str:
    """A sentence in which files of a Space are named without where they lie; at home a person may want to know."""
    return _PATH.sub(lambda path: PurePosixPath(path[0]).name, sentence) if on_space() else sentence
