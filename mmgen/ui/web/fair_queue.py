"""The queue of events: who has few in it is served before who has many, and a full one is each visitor's own.

gradio has one queue of 256 places, first come, first served: 257 posts of a stranger fill it for everybody. Here the
next event is that of the address, and there of the visitor, served least recently; the live pictures of those whose
page is open come before programs' and sets', unless these have waited for `PATIENCE` seconds. On a Space everybody has
a share of the places, and when all are taken the newest event of the address that has the most of them gives way.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, OrderedDict
from typing import Any

import gradio as gr
from fastapi import HTTPException
from gradio import route_utils
from gradio.queueing import Event, EventQueue, Queue
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import error_payload

from mmgen.space import on_space
from mmgen.ui.web.callers import Caller, caller_of
from mmgen.ui.web.gate import OPEN_PAGES
from mmgen.ui.web.shares import PLACES, Ledger

MAX_PLACES = 256
PATIENCE = 3.0
LIVE = "draw_live"
"""Name of the event that draws the live picture."""

_SERVED = 4096  # Addresses and visitors whose turn is remembered.
_UNREAD = 256  # Messages that a session may leave unread before it is told nothing more.
_FULL = "As many of your requests wait here as one visitor may have. Wait until they are answered, and try again."
_GAVE_WAY = "So many people ask here that this request had to give way. Try again in a moment."


class FairQueue(Queue):
    """gradio's queue with another order, and shares; see the module."""

    def __init__(self, blocks: Any):
        super().__init__(
            live_updates=True, concurrency_count=blocks.max_threads, update_intervals=1, max_size=None, blocks=blocks
        )
        self._served: OrderedDict[object, int] = OrderedDict()
        self._turns = itertools.count(1)

    async def push(self, body, request, username):
        """Let an event wait, or answer it with a sentence where there is no place for it."""
        caller = caller_of(request.scope)
        waiting = self._waiting()
        ledger = Ledger(PLACES)
        for event in waiting:
            ledger.take(_caller(event))
        if on_space() and not ledger.fits(caller):
            return await self._refuse(body, request, username)
        if len(waiting) >= MAX_PLACES:
            counts = Counter(_caller(event).address for event in waiting)
            greedy = max(counts, key=counts.__getitem__)
            if counts[greedy] <= counts[caller.address] + 1:
                return await self._refuse(body, request, username)
            await self._give_way(max(_of(waiting, greedy), key=lambda event: event.enqueue_time))
        return await super().push(body, request, username)

    def get_events(self):
        """The next event, of any of the queues that have room for one."""
        for queue in self.event_queue_per_concurrency_id.values():
            is_free = queue.concurrency_limit is None or queue.current_concurrency < queue.concurrency_limit
            if is_free and len(queue.queue) > 1:
                self._bring_forward(queue)
        found = super().get_events()
        for event in found[0] if found else ():
            self._serve(event)
        return found

    def send_message(self, event, event_message):
        """Tell a session something, unless it is forgotten; gradio's queue would stop for everybody then."""
        if event.session_hash in self.pending_messages_per_session:
            super().send_message(event, event_message)

    def compute_analytics_summary(self, records):
        """Nothing: nobody is shown it, and it takes long."""
        return {}

    def _waiting(self) -> list[Event]:
        return [event for queue in self.event_queue_per_concurrency_id.values() for event in queue.queue]

    def _bring_forward(self, queue: EventQueue) -> None:
        now = time.monotonic()

        def turn(event: Event) -> tuple[bool, int, int]:
            caller = _caller(event)
            first = event.fn.api_name == LIVE and self._is_there(event)
            served = self._served.get(caller.address, 0), self._served.get(_who(event), 0)
            return not (first or now - event.enqueue_time > PATIENCE), *served

        chosen = min(queue.queue, key=turn)
        queue.queue.remove(chosen)
        queue.queue.insert(0, chosen)

    def _serve(self, event: Event) -> None:
        turn = next(self._turns)
        for key in (_caller(event).address, _who(event)):
            self._served[key] = turn
            self._served.move_to_end(key)
        while len(self._served) > _SERVED:
            self._served.popitem(last=False)

    def _is_there(self, event: Event) -> bool:
        """Whether the page that an event comes from is open."""
        return event.session_hash in getattr(getattr(self.server_app, "state", None), OPEN_PAGES, ())

    async def _refuse(self, body, request, username):
        """Answer with a sentence: as an error of the event, which pages and programs show, where somebody listens."""
        unread = self.pending_messages_per_session.get(body.session_hash)
        if body.session_hash is None or caller_of(request.scope).visitor is None:
            raise HTTPException(429, _FULL)
        if unread is not None and unread.qsize() > _UNREAD:
            raise HTTPException(429, _FULL)
        event = Event(body.session_hash, route_utils.get_fn(self.blocks, None, body), request, username)
        async with self.pending_message_lock:
            self.pending_messages_per_session.setdefault(event.session_hash, asyncio.Queue())
            self.pending_event_ids_session.setdefault(event.session_hash, set()).add(event._id)
        self._tell(event, _FULL)
        return True, event._id, "success"

    def _tell(self, event: Event, sentence: str) -> None:
        output = error_payload(gr.Error(sentence), True)
        self.send_message(event, ProcessCompletedMessage(output=output, success=False, title="Error"))

    async def _give_way(self, event: Event) -> None:
        await self.remove_from_queue(event._id)
        self._tell(event, _GAVE_WAY)


def _caller(event: Event) -> Caller:
    return caller_of(event.request.scope)


def _who(event: Event) -> tuple[str, str]:
    """A visitor of an address; at home, where nobody has a cookie, a session."""
    caller = _caller(event)
    return caller.address, caller.visitor or event.session_hash


def _of(events: list[Event], address: str) -> list[Event]:
    return [event for event in events if _caller(event).address == address]
