"""Who asks: the address that a request comes from, and the visitor whose cookie comes with it.

On a Space requests arrive through its own proxy, which writes the address that it was asked from at the end of
`X-Forwarded-For`; whatever stands before it may be made up by whoever asks. So the header counts only where the
request itself comes from a private address, as the proxy's do, and of it the last address that is a public one.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from mmgen.space import on_space
from mmgen.ui.web.visitors import visitor_secret

_KEPT = "mmgen.caller"
_HOPS = 20  # Of X-Forwarded-For, from its end, that are looked at.


@dataclass(frozen=True)
class Caller:
    """Attributes:
    address: an IPv4 address, or the /64 network of an IPv6 one, as one household or one server has; "" if unknown.
    visitor: the secret in the cookie; None for who has none yet.
    """

    address: str
    visitor: str | None


def caller_of(scope: Any) -> Caller:
    """Who sent the request of an ASGI scope."""
    found = scope.get(_KEPT)
    if found is None:
        cookies = HTTPConnection(scope).cookies if scope.get("type") in ("http", "websocket") else {}
        found = scope[_KEPT] = Caller(address_of(scope), visitor_secret(cookies))
    return found


def address_of(scope: Any) -> str:
    """Where a request comes from; see the module."""
    peer = _parsed((scope.get("client") or ("",))[0])
    if on_space() and (peer is None or not peer.is_global):
        for value in reversed(Headers(scope=scope).getlist("x-forwarded-for") if "headers" in scope else []):
            for one in value.split(",")[: -_HOPS - 1 : -1]:
                said = _parsed(one.strip())
                if said is not None and said.is_global:
                    return _network(said)
    return _network(peer) if peer else ""


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))
