"""The gate: what is asked is well-formed, of a size, and within the share of who asks, before gradio reads it.

gradio keeps an event, a session (0.4 MB) and a file for whoever asks, whoever they are. So here each request is counted
for its visitor and its address (`mmgen.ui.web.shares`), and is refused in a sentence beyond their shares. At home there
are no shares; what is no request that the page or a program can have meant is refused there, too.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from mmgen.space import on_space
from mmgen.ui.web.callers import Caller, caller_of
from mmgen.ui.web.shares import REQUESTS, STREAMS, UPLOAD_SECONDS, UPLOADS, Ledger, Recent, Sessions

MAX_BODY = 4_000_000
"""Bytes of a request that is no file; what a page sends has some thousands."""

OPEN_PAGES = "open_pages"
"""Of the application's state, how many pages of each session are open, by their heartbeat."""

BUSY = "You have as many requests here as one visitor may. Wait until they are answered, and try again."
_NO_SENSE = "This request makes no sense to the studio. Reload the page, or look at `view_api()`."
_TOO_LONG = f"This request has more than {MAX_BODY // 1_000_000} MB. Upload files as files, and send less beside them."
_UPLOADED = "You have uploaded as much as one visitor may in an hour. Try again later, or send smaller files."
_NO_LENGTH = "Say how long the file is (Content-Length): an upload of unknown length is not taken."

_API = "/gradio_api/"
_STREAMS = re.compile(rf"{_API}(heartbeat/|queue/data|call/|upload_progress)")
_EVENTS = re.compile(rf"{_API}((run|api|call|queue)/|component_server)")
_HEARTBEAT = re.compile(rf"{_API}heartbeat/([A-Za-z0-9_.-]{{1,100}})")
_SESSION = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class Gate:
    """ASGI middleware; one for all requests. For the one thread that answers them."""

    def __init__(self, app):
        self.app = app
        self.shares = on_space()
        self.requests, self.streams = Ledger(REQUESTS), Ledger(STREAMS)
        self.uploads, self.sessions = Recent(UPLOADS, UPLOAD_SECONDS), Sessions()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        caller, path, started = caller_of(scope), scope["path"], False

        async def sending(message):
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            if scope["method"] == "POST":
                return await self._post(scope, receive, sending, caller, path)
            ledger = self.streams if _STREAMS.match(path) else None
            with _open_page(scope):
                await self._counted(ledger, caller, scope, receive, sending)
        except _Refused as error:
            await JSONResponse({"detail": error.sentence}, error.status)(scope, receive, send)
        except ClientDisconnect:
            pass
        except Exception as error:  # gradio was asked something that it does not foresee.
            sys.stderr.write(f"mmgen: {scope['method']} {path[:80]!r} was not understood ({type(error).__name__})\n")
            if not started:
                await JSONResponse({"detail": _NO_SENSE}, 400)(scope, receive, send)

    async def _post(self, scope, receive, send, caller: Caller, path: str) -> None:
        if path.rstrip("/") == f"{_API}upload":
            self._check_upload(Headers(scope=scope), caller)
        elif path.startswith(_API):
            content = await _body(receive)
            await self._check_body(content, scope, caller, bool(_EVENTS.match(path)))
            receive = _again(content, receive)
        await self._counted(self.requests, caller, scope, receive, send)

    async def _counted(self, ledger: Ledger | None, caller: Caller, scope, receive, send) -> None:
        """Answer, and count it for as long as that takes."""
        if ledger is None or not self.shares:
            return await self.app(scope, receive, send)
        if not ledger.fits(caller):
            raise _Refused(429, BUSY)
        ledger.take(caller)
        try:
            await self.app(scope, receive, send)
        finally:
            ledger.take(caller, -1)

    def _check_upload(self, headers: Headers, caller: Caller) -> None:
        if not self.shares:
            return
        length = headers.get("content-length", "")
        if not re.fullmatch(r"\d{1,15}", length, re.ASCII):
            raise _Refused(411, _NO_LENGTH)
        if not self.uploads.take(caller, int(length)):
            raise _Refused(429, _UPLOADED)

    async def _check_body(self, content: bytes, scope, caller: Caller, is_event: bool) -> None:
        """Raises _Refused for what is no request of a page or a program."""
        if not is_event:
            return
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            raise _Refused(400, _NO_SENSE) from None
        if not isinstance(body, dict) or not _is_event(body):
            raise _Refused(400, _NO_SENSE)
        session = body.get("session_hash")
        if session is not None and self.shares:
            for gone in self.sessions.seen(session, caller):
                await _forget(scope["app"].get_blocks(), gone)


@contextmanager
def _open_page(scope) -> Iterator[None]:
    """Take note of a page for as long as its heartbeat is heard."""
    found = _HEARTBEAT.fullmatch(scope["path"])
    if found is None:
        yield
        return
    state = scope["app"].state
    if not hasattr(state, OPEN_PAGES):
        setattr(state, OPEN_PAGES, Counter())
    pages = getattr(state, OPEN_PAGES)
    pages[found[1]] += 1
    try:
        yield
    finally:
        pages[found[1]] -= 1
        if not pages[found[1]]:
            del pages[found[1]]


class _Refused(Exception):
    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def _is_event(body: dict[str, Any]) -> bool:
    session, number, data = body.get("session_hash"), body.get("fn_index"), body.get("data", [])
    return (
        (session is None or (isinstance(session, str) and bool(_SESSION.fullmatch(session))))
        and (number is None or (isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 10_000))
        and isinstance(data, list)
    )


async def _body(receive) -> bytes:
    """The whole of a request's body.

    Raises:
        _Refused: it is too long.
        ClientDisconnect: who asks is gone.
    """
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            raise _Refused(413, _TOO_LONG)
        more = message.get("more_body", False)
    return b"".join(parts)


def _again(content: bytes, receive):
    """A `receive` that gives a body that was read already, and then what else comes."""
    given = False

    async def give():
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": content, "more_body": False}

    return give


async def _forget(blocks, session: str) -> None:
    """Let gradio forget a session: its state, what waits for it, and messages that nobody has fetched."""
    holder, queue = blocks.state_holder, blocks._queue
    await queue.clean_events(session_hash=session)
    holder.delete_state(session)
    for kept in (holder.session_data, holder.time_last_used, queue.pending_event_ids_session):
        kept.pop(session, None)
    if session in queue.pending_messages_per_session:
        del queue.pending_messages_per_session[session]
