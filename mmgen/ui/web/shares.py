"""What a Space has for everybody, and how much of it one visitor and one address may take.

Cookies cost nothing, so a visitor's share alone would be no limit: each thing is counted for the visitor and for the
address. Who has no cookie yet shares the smallest part with all others of that address who have none, and all of them
together leave most to those who are there.
"""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass

from mmgen.ui.web.callers import Caller


@dataclass(frozen=True)
class Share:
    """How much of something one may have.

    Attributes:
        visitor, address: who has a cookie, and all of one address.
        stranger, strangers: those of one address who have no cookie, and all who have none.
    """

    visitor: float
    address: float
    stranger: float
    strangers: float


PLACES = Share(visitor=16, address=48, stranger=4, strangers=32)
"""Events that wait in the queue, which has 256 places."""

REQUESTS = Share(visitor=16, address=48, stranger=4, strangers=32)
"""Requests that change something and are being answered."""

STREAMS = Share(visitor=32, address=96, stranger=8, strangers=128)
"""Connections that are kept open to tell what happens."""

SESSIONS = Share(visitor=16, address=64, stranger=4, strangers=64)
"""Open pages and programs, of which each takes 0.4 MB; of too many the oldest is forgotten."""

MAX_SESSIONS = 500
"""Of everybody."""

UPLOADS = Share(visitor=400e6, address=800e6, stranger=50e6, strangers=400e6)
"""Bytes that are taken in within `UPLOAD_SECONDS`, for as long as they are kept."""

UPLOAD_SECONDS = 3600.0


class Ledger:
    """How much of something each has. For one thread."""

    def __init__(self, share: Share):
        self.share = share
        self._taken: defaultdict[tuple[str, str], float] = defaultdict(float)

    def fits(self, caller: Caller, amount: float = 1) -> bool:
        """Whether so much more is within every share that counts."""
        return all(self._taken.get(key, 0) + amount <= most for key, most in self._accounts(caller))

    def take(self, caller: Caller, amount: float = 1) -> None:
        """Count so much more; negative to give it back."""
        for key, _ in self._accounts(caller):
            self._taken[key] += amount
            if self._taken[key] <= 0:
                del self._taken[key]

    def of_address(self, address: str) -> float:
        """How much an address has."""
        return self._taken.get(("address", address), 0)

    def _accounts(self, caller: Caller) -> list[tuple[tuple[str, str], float]]:
        accounts = [(("address", caller.address), self.share.address)]
        if caller.visitor is not None:
            return [*accounts, (("visitor", caller.visitor), self.share.visitor)]
        strangers = (("strangers", ""), self.share.strangers)
        return [*accounts, (("stranger", caller.address), self.share.stranger), strangers]


class Recent:
    """A ledger of what counts for some seconds only, such as bytes taken in."""

    def __init__(self, share: Share, seconds: float):
        self.seconds = seconds
        self._ledger, self._past = Ledger(share), deque[tuple[float, Caller, float]]()

    def take(self, caller: Caller, amount: float) -> bool:
        """Count so much, unless it is more than the share; whether it was not."""
        now = time.monotonic()
        while self._past and now - self._past[0][0] > self.seconds:
            _, who, before = self._past.popleft()
            self._ledger.take(who, -before)
        if not self._ledger.fits(caller, amount):
            return False
        self._ledger.take(caller, amount)
        self._past.append((now, caller, amount))
        return True


class Sessions:
    """Which sessions are whose, the one used last at the end."""

    def __init__(self, share: Share = SESSIONS, most: int = MAX_SESSIONS):
        self.most, self._ledger = most, Ledger(share)
        self._callers: OrderedDict[str, Caller] = OrderedDict()

    def __len__(self) -> int:
        return len(self._callers)

    def seen(self, session: str, caller: Caller) -> list[str]:
        """Take note that a session is used.

        Returns:
            The sessions that are to be forgotten for it: the oldest of the same caller or, if all are too many, the
            oldest of who has the most by address.
        """
        if session in self._callers:
            self._callers.move_to_end(session)
            return []
        gone = []
        while not self._ledger.fits(caller):
            oldest = self._oldest(caller)
            if oldest is None:
                break
            gone.append(self._forget(oldest))
        if len(self._callers) >= self.most:
            addresses = {who.address for who in self._callers.values()}
            greedy = max(addresses, key=self._ledger.of_address)
            gone.append(self._forget(next(one for one, who in self._callers.items() if who.address == greedy)))
        self._callers[session] = caller
        self._ledger.take(caller)
        return gone

    def _forget(self, session: str) -> str:
        self._ledger.take(self._callers.pop(session), -1)
        return session

    def _oldest(self, caller: Caller) -> str | None:
        """The session that gives way to a caller's next: the caller's own or, without any, one that it shares with."""
        callers = self._callers.items()
        own = [one for one, who in callers if who == caller]
        near = [one for one, who in callers if who.address == caller.address]
        alike = [one for one, who in callers if caller.visitor is None and who.visitor is None]
        return next(iter([*own[:1], *near[:1], *alike[:1]]), None)
