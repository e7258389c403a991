"""Whose things a visitor may reach: the one place that decides it.

On one's own machine everything belongs to `local`. On a Space every endpoint and every event of the page asks
`owner_of`, and reaches the folder `mmgen.home.home(owner)` alone. What protects what:

- An owner is told from the login by OAuth, whose cookie gradio signs, or else from the secret in the cookie of
  `mmgen.ui.web.visitors`, or else, where a program or a browser keeps no cookies, from the session that it has chosen,
  a random name that is lost with the page. None of them is kept: a folder's name is a hash with a key of this machine.
- Beside a visitor's folder stands a hash of the address that they come from, by which `mmgen.quota` counts what all of
  one address have together. A folder is made once there is something to keep in it.
- Ids of drafts (128 random bits) and jobs are looked for in the owner's folder only; they open nothing elsewhere.
- `/gradio_api/file=` serves what lies in gradio's cache, and `blocked_paths` keeps it from the folder of all folders.
  What is handed out is copied into the cache, below a hash of its content or a random name: its address is as good as
  a password, is told to its owner only, and ends with the copy (`delete_cache`). An uploaded file lies below a hash
  of its content, so who holds the same file can know that somebody has uploaded it, and nothing else.
- A name of a file that a client sends is opened only if it is a file in gradio's cache (`uploaded_path`).
- Another site's page is answered nothing (`mmgen.ui.web.same_origin`), whatever cookies come with it.
- The events of a session are told to whoever knows its random name, which stands in no page and no answer.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Any

import gradio as gr

from mmgen.errors import UserError
from mmgen.home import root
from mmgen.quota import note_address
from mmgen.space import on_space
from mmgen.ui.web.callers import address_of
from mmgen.ui.web.visitors import visitor_secret

ACCOUNTS = ".accounts"
_KEY = ".key"
_CLAIM = "account"
_LOCK = threading.Lock()


def owner_of(request: gr.Request | None) -> str:
    """The owner, as `mmgen.home.home` takes it, of whoever sent a request.

    Who signs in keeps what they made before, and has it wherever they sign in again.

    Raises:
        UserError: the disk is full, or cannot be written.
    """
    if not on_space():
        return "local"
    source: Any = getattr(request, "request", None) or request
    secret = visitor_secret(getattr(source, "cookies", None) or {})
    session = getattr(request, "session_hash", None)
    account = _account(source)
    try:
        with _LOCK:
            if secret:
                owner = _hashed("visitor", f"cookie {secret}")
            else:
                owner = _hashed("visitor", f"session {session or secrets.token_hex(16)}")
            if account:
                owner = _of_account(_hashed("user", account), owner)
            elif (root() / owner / _CLAIM).exists():  # Whoever sits here now need not be who has signed out.
                owner = _hashed("visitor", f"signed out {owner}")
            _seen(root() / owner)
            if address := address_of(getattr(source, "scope", None) or {}):
                note_address(root() / owner, _hashed("address", address))
    except OSError as error:
        raise UserError(f"Your things cannot be reached ({error.strerror or error}). Try again later.") from error
    return owner


def _of_account(user: str, visitor: str) -> str:
    """The folder of who has signed in: that of their first visit, unless it is another's by now or gone."""
    pointer = root() / ACCOUNTS / user
    known = _read(pointer)
    if known and _read(root() / known / _CLAIM) == user:
        return known
    if (root() / user).is_dir() or not (root() / visitor).is_dir() or _read(root() / visitor / _CLAIM):
        return user
    pointer.parent.mkdir(mode=0o700, exist_ok=True)
    pointer.write_text(visitor)
    (root() / visitor / _CLAIM).write_text(user)
    return visitor


def _account(source: Any) -> str | None:
    """The lasting id of the account that is signed in, as gradio keeps it in its signed cookie."""
    found = ((getattr(source, "scope", None) or {}).get("session") or {}).get("oauth_info")
    if not found or float(found.get("expires_at") or 0) <= time.time():
        return None
    return str((found.get("userinfo") or {}).get("sub") or "") or None


def _hashed(kind: str, text: str) -> str:
    return f"{kind}-{hmac.new(_key(), text.encode('utf-8', 'replace'), hashlib.sha256).hexdigest()[:32]}"


def _key() -> bytes:
    """The key of this machine, made if it is not there; without it a folder's name tells nothing of its owner."""
    file = root() / _KEY
    try:
        return file.read_bytes()
    except FileNotFoundError:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{_KEY}.{secrets.token_hex(4)}.part")
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
            written.write(secrets.token_bytes(32))
        try:
            os.link(part, file)  # Whole from the first moment, and never instead of another's.
        except FileExistsError:
            pass
        except OSError:  # A disk without links.
            os.replace(part, file)
        finally:
            part.unlink(missing_ok=True)
        return file.read_bytes()


def _seen(folder: Path) -> None:
    """Let a visitor's folder be kept for as long as they come back."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        pass


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return ""
