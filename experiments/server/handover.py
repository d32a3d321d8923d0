"""Hands results of the engine's thread to the event loop: those of a batch wake it once."""

import asyncio
import collections
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Handover:
    """Calls functions in a loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """For this loop."""
        self._loop = loop
        self._ready: collections.deque[tuple[Callable[[Any], None], Future[Any]]] = (
            collections.deque()
        )
        self._is_due = False

    def is_of(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it calls in this loop."""
        return self._loop is loop

    def when_done(self, future: "Future[Any]", then: Callable[["Future[Any]"], None]) -> None:
        """Calls `then` with the future, in the loop, when the future is done."""
        future.add_done_callback(lambda done: self._add(then, done))

    def _add(self, then: Callable[[Any], None], future: "Future[Any]") -> None:
        self._ready.append((then, future))
        if not self._is_due:
            self._is_due = True
            # A loop that is closed has no connections left.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._call)

    def _call(self) -> None:
        # First: what is added from here on may come too late for this turn.
        self._is_due = False
        while self._ready:
            then, future = self._ready.popleft()
            then(future)
