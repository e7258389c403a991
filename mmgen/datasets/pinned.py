"""An archive that is pinned by a checksum, fetched by somebody else's command."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from mmgen.errors import UserError


def fetch_pinned(
    name: str, path: Path, command: Sequence[str], is_intact: Callable[[Path], bool], otherwise: str
) -> Path:
    """Run a command that leaves the archive at `path`, and make sure that it is the pinned one.

    Args:
        name: what is fetched, for the messages.
        is_intact: whether an archive has the pinned checksum; another one is deleted.
        otherwise: how the sentence on a failed fetch ends, after "run the command again".

    Raises:
        UserError: the command failed, or the archive is another one.
    """
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0 or not path.is_file():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{name} could not be fetched ({last}). Check the network and run the command again{otherwise}")
    if not is_intact(path):
        path.unlink()
        raise UserError(
            f"{name} arrived with another checksum than the pinned one and was deleted. Run the command again; if it "
            "happens twice, do not trust the source."
        )
    return path
