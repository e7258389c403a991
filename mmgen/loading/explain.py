"""What the Hub's client raises, as sentences. No token ever stands in one of them."""

from __future__ import annotations

import errno
import json
import re

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)

_TOKEN = re.compile(r"\b(hf_[A-Za-z0-9_]+|Bearer\s+\S+)")
_PASSING = {408, 425, 429, 500, 502, 503, 504}


def explained(error: BaseException, name: str, publishing: bool) -> str:
    """One or two sentences for whatever went wrong with a model on the Hub.

    Args:
        name: `user/name`.
        publishing: whether it was to be written there, and not read.
    """
    error = _root(error)
    if isinstance(error, OfflineModeIsEnabled):
        return f"The Hugging Face Hub is switched off here by HF_HUB_OFFLINE, so {name} cannot be reached."
    if _is_network(error):
        return f"The Hugging Face Hub could not be reached for {name}. Check the network and try again."
    status = _status(error)
    if status == 429:
        return "The Hugging Face Hub asks to wait, because there were too many requests. Try again in some minutes."
    if status in _PASSING:
        return f"The Hugging Face Hub is not working at the moment ({status}). Try again later."
    if status is not None:
        return _of_status(error, status, name, publishing)
    if isinstance(error, json.JSONDecodeError):  # A page of some proxy instead of an answer.
        return "The Hugging Face Hub does not answer as it should. Check the network and try again later."
    if isinstance(error, EntryNotFoundError):
        return f"{name} is not whole on the Hugging Face Hub, or is no model of mmgen. Give one made by mmgen."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full. Make room and try again."
    return f"{name} could not be {'published' if publishing else 'fetched'} ({first_line(error)}). Try again."


def _of_status(error: BaseException, status: int, name: str, publishing: bool) -> str:
    if isinstance(error, RevisionNotFoundError):
        return f"{name} has no such revision on the Hugging Face Hub. Leave it away for the newest."
    if isinstance(error, EntryNotFoundError):
        return f"{name} holds no model_index.json, so it is no checkpoint. Give one made by mmgen."
    if isinstance(error, GatedRepoError):
        return f"{name} asks to have its terms accepted on the Hugging Face Hub. Do that, sign in, and try again."
    if publishing and status == 401:
        return "The Hugging Face Hub does not accept your token. Sign in anew by `hf auth login`, or set HF_TOKEN."
    if publishing and status == 403:
        said = f" ({_server_said(error)})" if _server_said(error) else ""
        return f"You may not write to {name}{said}. Use a name of your own, and a token that may write."
    if status in (401, 403, 404):
        if publishing:
            return f"The Hugging Face Hub knows no {name}, or not as yours. Check the name and publish again."
        return (
            f"There is no model {name} on the Hugging Face Hub, or it is private and not yours to read. Check the "
            "name, or sign in by `hf auth login`."
        )
    said = f"{status} {_server_said(error)}".strip()
    return f"The Hugging Face Hub refused {name} ({said}). Mend that, or report it."


def passes(error: BaseException) -> bool:
    """Whether the same may work a moment later."""
    error = _root(error)
    if isinstance(error, OfflineModeIsEnabled):
        return False
    status = _status(error)
    if status is not None:
        return status in _PASSING
    return _is_network(error) or isinstance(error, (RuntimeError, json.JSONDecodeError))


def is_network(error: BaseException) -> bool:
    """Whether the Hub was not reached, or its answer broke off."""
    return _is_network(_root(error))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, short and without any token."""
    lines = str(error).strip().splitlines()
    return _TOKEN.sub("…", lines[0] if lines else type(error).__name__)[:200].rstrip(".")


def _server_said(error: BaseException) -> str:
    return _TOKEN.sub("…", str(getattr(error, "server_message", None) or "")).strip().rstrip(".")[:200]


def _root(error: BaseException) -> BaseException:
    """What the client met, where it wrapped that into another error."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, (HfHubHTTPError, OfflineModeIsEnabled)) or _is_network(inner):
            return inner
        inner = inner.__cause__
    return error


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_network(error: BaseException) -> bool:
    """Of whichever HTTP library the client uses."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"ConnectionError", "TransportError"}) and not isinstance(error, OfflineModeIsEnabled)
