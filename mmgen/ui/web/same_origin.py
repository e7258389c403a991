"""Nobody else's page speaks for a visitor of a Space.

gradio answers every origin there, and a browser may send a visitor's cookies along: another site's script could publish
with the login of whoever looks at it. A Space's own page asks from the Space's own origin, in its frame too, and
programs name none.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse


class SameOrigin:
    """ASGI middleware that refuses what a page of another origin asks for."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and not _is_ours(Headers(scope=scope)):
            refused = PlainTextResponse("This page answers no other site.", status_code=403)
            return await refused(scope, receive, send)
        await self.app(scope, receive, send)


def _is_ours(headers: Headers) -> bool:
    origin = headers.get("origin")
    names = (headers.get("host"), headers.get("x-forwarded-host"), os.environ.get("SPACE_HOST"))
    return origin is None or urlsplit(origin).netloc in filter(None, names)
