"""The cookie by which a Space knows a visitor again."""

from __future__ import annotations

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection

COOKIE = "mmgen-visitor"

_DAYS = 30
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_PAGES = ("/", "/config")  # What a browser and gradio_client ask for first.


class VisitorCookie:
    """ASGI middleware that gives every visitor a random secret, which no script of a page can read.

    A Space's page mostly lies in a frame of another site. There a browser keeps only cookies that are `Secure` and
    `SameSite=None`, and many only those that are `Partitioned` too; one that keeps none has a visitor's things until
    the page is reloaded.
    """

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] not in _PAGES:
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        secure = scope["scheme"] == "https" or "https" in headers.get("x-forwarded-proto", "")
        secret = visitor_secret(HTTPConnection(scope).cookies) or secrets.token_urlsafe(32)
        cookie = f"{COOKIE}={secret}; Path=/; Max-Age={_DAYS * 86400}; HttpOnly; "
        cookie += "SameSite=None; Secure; Partitioned" if secure else "SameSite=Lax"

        async def send_with_cookie(message):
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("set-cookie", cookie)
            await send(message)

        await self.app(scope, receive, send_with_cookie)


def visitor_secret(cookies) -> str | None:
    """The secret among a request's cookies, if there is one that can be ours."""
    found = cookies.get(COOKIE)
    return found if isinstance(found, str) and _SECRET.fullmatch(found) else None
