"""Find a checkpoint by its name on the Hugging Face Hub; its weights and their descriptions alone are fetched."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HFValidationError

from mmgen.errors import UserError
from mmgen.hub.explain import explained, first_line, is_network
from mmgen.hub.files import DESCRIPTIONS, PART_FILES, PICKLES, WEIGHTS
from mmgen.hub.index import INDEX, read_index

_NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([\w][\w./-]{0,254}))?", re.ASCII)


def split_name(text: str) -> tuple[str, str | None] | None:
    """`user/name` or `user/name@revision` -> name and revision; None for anything else."""
    match = _NAME.fullmatch(text)
    if not match or match[1].endswith((".git", ".", "-")) or "--" in match[1] or ".." in match[1]:
        return None
    return match[1], match[2]


def fetch(
    name: str,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder of a checkpoint on the Hub, fetched into the Hub's cache; without a network, what is there already.

    The index comes first, so that nothing else of a model of another kind is fetched. Code and pickles never are.

    Args:
        name: `user/name`.
        revision: a branch, a tag or a commit; the newest of `main` by default.
        token: as huggingface_hub takes it; by default that of who is signed in.

    Raises:
        UserError: there is no such model or revision, it may not be read, it is not one of mmgen, its weights are
            pickles, or the Hub cannot be reached.
    """
    place = {"revision": revision, "token": token, "cache_dir": cache_dir}
    told = ""
    for local in (local_files_only, local_files_only, True):
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


def _fetch(name: str, revision: str | None, token: str | bool | None, **place) -> Path:
    read_index(Path(hf_hub_download(name, INDEX, revision=revision, token=token, **place)), name)
    wanted = [INDEX, *DESCRIPTIONS, *(f"{part}/{file}" for part, files in PART_FILES.items() for file in files)]
    place |= {"revision": revision, "token": token}
    folder = Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["*.py"], **place))
    if not all((folder / part / file).is_file() for part, file in WEIGHTS.items()):
        _refuse_pickles(name, folder.name, token)
    return folder


def _refuse_pickles(name: str, revision: str, token: str | bool | None) -> None:
    paths = HfApi(token=token).list_repo_files(name, revision=revision)
    if any(path.endswith(PICKLES) for path in paths):
        raise UserError(
            f"{name} has weights as pickles, which may run any code and are never opened. Ask for safetensors."
        )
