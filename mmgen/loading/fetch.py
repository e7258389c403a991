"""Find a checkpoint by its name on the Hugging Face Hub; its weights and their descriptions alone are fetched."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, RepoFile, hf_hub_download, scan_cache_dir, snapshot_download
from huggingface_hub.errors import CacheNotFound, HFValidationError
from huggingface_hub.utils import validate_repo_id
from tqdm import tqdm

from mmgen.errors import UserError
from mmgen.loading.explain import explained, first_line, is_network
from mmgen.loading.index import read_index
from mmgen.parts import FILES, INDEX, PARTS, PICKLES

_REVISION = re.compile(r"[\w][\w./-]{0,254}", re.ASCII)
_SECONDS = 5
"""How long the Hub may take to answer at all, before what was fetched earlier is looked for."""


def split_name(text: str) -> tuple[str, str | None] | None:
    """`user/name` or `user/name@revision` -> name and revision; None for what the Hub's client takes for none."""
    name, at, revision = text.partition("@")
    if name.count("/") != 1 or not name.isascii() or (at and not _REVISION.fullmatch(revision)):
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name, revision or None


def fetch(
    name: str,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    most_bytes: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The folder of a checkpoint on the Hub, fetched into the Hub's cache; without a network, what is there already.

    The index comes first, so that nothing else of a model of another kind is fetched. Code and pickles never are.

    Args:
        name: `user/name`.
        revision: a branch, a tag or a commit; the newest of `main` by default.
        token: as huggingface_hub takes it; by default that of who is signed in, and nobody's if False.
        most_bytes: refuse a larger one before it is fetched.
        on_progress: takes the bytes that are here, and those that are known to be wanted; from any thread.

    Raises:
        UserError: there is no such model or revision, it may not be read, it is not one of mmgen, its weights are
            pickles, it is too large, or the Hub cannot be reached.
    """
    place: dict[str, Any] = {"revision": revision, "token": token, "cache_dir": cache_dir}
    place |= {"most_bytes": most_bytes, "on_progress": on_progress}
    told = "" if local_files_only else _unreached(name, revision, token)
    for local in (True,) if told else (local_files_only, local_files_only, True):
        try:
            return _fetch(name, local_files_only=local, **place)
        except UserError:
            raise
        except HFValidationError as error:
            told = f"{name} cannot be the name of a model ({first_line(error)}). Name one as user/name."
            break
        except Exception as error:  # whatever the client, the network or the disk raises
            told = told or explained(error, name, publishing=False)
            if not is_network(error):
                break
    raise UserError(told)  # Out here, as the client's errors carry the request with the token.


def _unreached(name: str, revision: str | None, token: str | bool | None) -> str:
    """A sentence if the Hub does not answer; the client's own calls would try again for most of a minute."""
    for last in (False, True):
        try:
            HfApi(token=token).model_info(name, revision=revision, timeout=_SECONDS)
            return ""
        except Exception as error:  # What else is wrong is told by what fetches.
            if not is_network(error):
                return ""
            if last:
                return explained(error, name, publishing=False)
            time.sleep(0.5)
    return ""


def _fetch(
    name: str,
    revision: str | None,
    token: str | bool | None,
    most_bytes: int | None,
    on_progress: Callable[[int, int], None] | None,
    **place,
) -> Path:
    if most_bytes is not None and not place["local_files_only"]:
        revision = HfApi(token=token).model_info(name, revision=revision).sha  # What is measured is what is fetched.
        _refuse_large(name, revision, token, most_bytes)
    read_index(Path(hf_hub_download(name, INDEX, revision=revision, token=token, **place)), name)
    place |= {"revision": revision, "token": token}
    if on_progress:
        place["tqdm_class"] = _told_to(on_progress)
    folder = Path(snapshot_download(name, allow_patterns=list(FILES), ignore_patterns=["*.py"], **place))
    needed = [part for part in PARTS.values() if part.weights and not part.is_optional]
    if not all((folder / part.name / part.weights).is_file() for part in needed):
        _refuse_pickles(name, folder.name, token)
    return folder


def _refuse_large(name: str, revision: str | None, token: str | bool | None, most: int) -> None:
    entries = HfApi(token=token).list_repo_tree(name, recursive=True, revision=revision)
    size = sum(entry.size for entry in entries if entry.path in FILES and isinstance(entry, RepoFile))
    if size > most:
        raise UserError(f"{name} has {size / 1e6:,.0f} MB, and {most / 1e6:,.0f} MB are allowed here. Choose another.")


def forget_fetched(seconds: float, most_bytes: float, cache_dir: str | Path | None = None) -> None:
    """Remove models from the Hub's cache that were not opened for so long, and the oldest while they are too much."""
    try:
        kept = [repo for repo in scan_cache_dir(cache_dir).repos if repo.repo_type == "model"]
    except CacheNotFound:
        return
    total = sum(repo.size_on_disk for repo in kept)
    for repo in sorted(kept, key=lambda one: one.last_accessed):
        if time.time() - repo.last_accessed > seconds or total > most_bytes:
            total -= repo.size_on_disk
            shutil.rmtree(repo.repo_path, ignore_errors=True)


def _told_to(on_progress: Callable[[int, int], None]) -> type[tqdm]:
    """A progress bar for the client that shows nothing and tells of bytes."""

    class Told(tqdm):
        def __init__(self, *args, **options):
            self._counts_bytes = options.get("unit") == "B"
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self._counts_bytes and self.total:
                on_progress(int(self.n), int(self.total))

    return Told


def _refuse_pickles(name: str, revision: str, token: str | bool | None) -> None:
    paths = HfApi(token=token).list_repo_files(name, revision=revision)
    if any(path.endswith(PICKLES) for path in paths):
        raise UserError(
            f"{name} has weights as pickles, which may run any code and are never opened. Ask for safetensors."
        )
