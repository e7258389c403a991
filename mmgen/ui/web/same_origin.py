"""Only the studio's own page speaks for the person who looks at it.

Two ways in are closed. A page of another site may ask a studio on the reader's own machine, or send a visitor's cookies
along to a Space, so its `Origin` is refused. And such a site may give its own name the address 127.0.0.1 (DNS
rebinding), by which its page and the studio have one origin to the browser; but then the request's `Host` is that name,
which is none of the studio's. Addresses in numbers are no names that somebody else can own, so they are let through;
programs name no origin.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

from mmgen.space import on_space

_EVERYWHERE = ("0.0.0.0", "::", "")
_NOT_OURS = "This studio is not known by the name {}. Start it with --allow-host {} if it should be."
_FOREIGN = "This page answers no other site."


class SameOrigin:
    """ASGI middleware that refuses what is asked by another name, or by a page of another origin.

    Args:
        host: the address that the studio was started for.
        allowed: what else it is known by, such as the name of a server before it, each as `name` or `name:port`.
    """

    def __init__(self, app, host: str = "", allowed: Iterable[str] = ()):
        self.app = app
        self._allowed = {name.lower() for name in (*allowed, os.environ.get("SPACE_HOST", "")) if name}
        self._names = {"localhost", host.lower(), *self._allowed}
        if host in _EVERYWHERE:  # It is to be reached from other machines, by this one's name.
            mine = socket.gethostname().lower()
            self._names |= {mine, mine.partition(".")[0], f"{mine.partition('.')[0]}.local"}

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        said = None
        if not self._is_known(headers.get("host", "")):
            host = re.sub(r"[^A-Za-z0-9.:_-]", "", headers.get("host", ""))[:100]
            said = _NOT_OURS.format(host, host)
        elif not self._is_own(headers):
            said = _FOREIGN
        if said is None:
            return await self.app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        await PlainTextResponse(said, status_code=403)(scope, receive, send)

    def _is_known(self, host: str) -> bool:
        """Whether the studio goes by this name; HTTP/1.0 names none."""
        name = _name_of(f"//{host}")
        if not host or name in self._names or host.lower() in self._names or _is_number(name):
            return True
        return on_space() and name.endswith(".hf.space")

    def _is_own(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:
            # A browser that names no origin still says where a request that changes something comes from.
            return headers.get("sec-fetch-site") not in ("cross-site", "same-site") or _is_visit(headers)
        netloc = _netloc(origin)
        # A foreign page cannot send X-Forwarded-Host without being asked first, which is refused.
        hosts = (headers.get("host"), headers.get("x-forwarded-host") if on_space() else None)
        own = {host.lower() for host in hosts if host} | self._allowed
        return bool(netloc) and (netloc in own or _name_of(origin) in self._allowed)


def _is_visit(headers: Headers) -> bool:
    """Whether a link or a frame of another site leads here, or a picture of ours is shown there: that changes nothing,
    as what changes something is posted, with an origin.
    """
    return headers.get("sec-fetch-dest") not in ("empty", None)


def _name_of(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""


def _netloc(address: str) -> str:
    try:
        return urlsplit(address).netloc.lower()
    except ValueError:
        return ""


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
