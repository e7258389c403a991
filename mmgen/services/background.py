"""Long work of a visitor in a thread of its own, that the page tells of while it goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mmgen.errors import UserError

ProgressCallback = Callable[[float | None, str], None]
"""Takes 0 to 1, or None where that is not known, and what is being done."""

_LOOK_SECONDS = 0.2


class BackgroundTask:
    """What goes on in a thread until it has ended; it goes on if nobody looks any more.

    Args:
        do: does it, and returns its result; it is given what to tell.
    """

    def __init__(self, do: Callable[[ProgressCallback], Any]):
        self._told: tuple[float | None, str] = (None, "")
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(do,), daemon=True)
        self._thread.start()

    def steps(self) -> Iterator[tuple[float | None, str]]:
        """What was told, each time it has changed, until the end."""
        before = None
        while True:
            alive = self._thread.is_alive()
            if self._told != before:
                before = self._told
                yield before
            if not alive:
                return
            self._thread.join(_LOOK_SECONDS)

    def result(self) -> Any:
        """What came of it, once `steps` are through; raises what was raised there."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self, do: Callable[[ProgressCallback], Any]) -> None:
        try:
            self._result = do(self._tell)
        except BaseException as error:  # A panic of a library in Rust is no Exception.
            self._error = error

    def _tell(self, share: float | None, words: str) -> None:
        self._told = (share, words)


class KeyedMutex:
    """Keeps the same thing from being done twice at once. Threads may share it."""

    def __init__(self) -> None:
        self._busy: set[tuple[str, ...]] = set()
        self._lock = threading.Lock()

    @contextmanager
    def doing(self, *key: str, sentence: str) -> Iterator[None]:
        """Do something.

        Raises:
            UserError: with the sentence, if it is being done already.
        """
        with self._lock:
            if key in self._busy:
                raise UserError(sentence)
            self._busy.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(key)
