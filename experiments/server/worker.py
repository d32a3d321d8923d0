"""The thread that runs the engine: requests that wait together are answered together.

It takes whatever waits, without waiting for more: while one batch is computed, the next gathers. So
a lone request is answered at once, and under load one transaction and one step of the model serve
many. A batch holds at most `_BATCH` events and users.
"""

import collections
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from experiments.server.engine import Engine
from experiments.server.requests import Answer, Ask, Event, Outcome
from experiments.server.store import StoreError

ResultT = TypeVar("ResultT")

WAITING_MOST = 2_000
"""Events and users that may wait; a request that comes to an empty queue is always taken."""
WAIT_SECONDS = 0.1
"""How long what comes may expect to wait, at the pace of the last batches. So above capacity most
requests are sent away at once, and those that are taken are answered soon.
"""
PRESSED_SECONDS = 0.02
"""The same while there is more to do than can be done, so that what is taken is answered soon."""
CALM_SECONDS = 0.1
"""There is, if the thread had something to do all this time. Less may be many that came at once."""
_BATCH = 128
_FEW = 8
"""So many may always wait: a machine that stands still for a moment is not above capacity."""
_NEWEST = 0.2
"""Weight of the newest batch in the pace."""
_FOLLOW_SECONDS = 0.25
"""How often events of other servers are counted if nobody asks for anything."""


class BusyError(Exception):
    """Too much waits already; ask again later."""


class ClosedError(Exception):
    """The server is stopping."""


class _Job(NamedTuple):
    kind: str
    values: Sequence[Any]
    weight: int
    future: "Future[Any]"


class Worker:
    """Runs an engine in a thread of its own.

    Attributes:
      trouble: Why the stream cannot be followed now; None if it can.
    """

    def __init__(
        self,
        engine: Engine,
        waiting_most: int = WAITING_MOST,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """Starts the thread.

        Args:
          engine: Nobody else may use it until `close`.
          waiting_most: See `WAITING_MOST`.
          wait_seconds: See `WAIT_SECONDS`.
        """
        self.engine = engine
        self._most, self._seconds = waiting_most, wait_seconds
        self._pressed = min(PRESSED_SECONDS, wait_seconds)
        self._pace = 0.0  # Seconds for an event or a user.
        self._rested = time.perf_counter()  # When there was nothing to do.
        self._jobs: collections.deque[_Job] = collections.deque()
        self._waiting, self._closed = 0, False
        self.trouble: str | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def observe(self, events: Sequence[Event]) -> "Future[list[Outcome]]":
        """`Engine.observe`, soon.

        Raises:
          BusyError: Too much waits.
          ClosedError: The server is stopping.
        """
        return self._put("observe", events, len(events))

    def recommend(self, asks: Sequence[Ask]) -> "Future[list[Answer]]":
        """`Engine.recommend`, soon; raises as `observe`."""
        return self._put("recommend", asks, sum(1 + len(one.picks) for one in asks))

    def call(self, function: Callable[[Engine], ResultT]) -> "Future[ResultT]":
        """Any function of the engine, soon; raises as `observe`."""
        return self._put("call", [function], 1)

    def replace(self, make: Callable[[Engine], Engine]) -> "Future[Engine]":
        """Makes another engine of the present one, soon, which answers from then on; if it cannot
        be made the present one stays. Raises as `observe`.
        """

        def change(engine: Engine) -> Engine:
            self.engine = make(engine)
            return self.engine

        return self.call(change)

    @property
    def waiting(self) -> int:
        """Events and users that wait."""
        return self._waiting

    def is_busy(self) -> bool:
        """Whether what comes would wait too long."""
        wait = self._waiting * self._pace
        if self._waiting <= _FEW or wait <= self._pressed:
            return False
        is_calm = time.perf_counter() - self._rested < CALM_SECONDS
        return wait > self._seconds or not is_calm

    @property
    def running(self) -> bool:
        """Whether it takes requests."""
        return not self._closed and self._thread.is_alive()

    def close(self) -> None:
        """Takes no more requests, answers those that wait, and closes the engine."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self.engine.close()

    def _put(self, kind: str, values: Sequence[Any], weight: int) -> "Future[Any]":
        job = _Job(kind, values, max(weight, 1), Future())
        with self._changed:
            if self._closed:
                raise ClosedError
            too_many = self._waiting > 0 and self._waiting + job.weight > self._most
            if too_many or self.is_busy():
                raise BusyError
            self._jobs.append(job)
            self._waiting += job.weight
            self._changed.notify()
        return job.future

    def _take(self) -> list[_Job] | None:
        """The next batch; empty if none came for a while, None where none will come."""
        with self._changed:
            if not self._jobs and not self._closed:
                self._changed.wait(_FOLLOW_SECONDS if self.engine.is_shared else None)
                self._rested = time.perf_counter()
            if not self._jobs and self._closed:
                return None
            taken: list[_Job] = []
            weight = 0
            while self._jobs and (not taken or weight + self._jobs[0].weight <= _BATCH):
                taken.append(self._jobs.popleft())
                weight += taken[-1].weight
            self._waiting -= weight
            return taken

    def _follow(self) -> None:
        """Counts what other servers have written."""
        try:
            self.engine.follow()
            self.trouble = None
        except StoreError as error:
            if self.trouble is None:
                logging.error("%s; trying again", error)
            self.trouble = str(error)

    def _run(self) -> None:
        # The engine may be another one after a call.
        together: dict[str, Callable[[Any], Sequence[Any]]] = {
            "observe": lambda events: self.engine.observe(events),
            "recommend": lambda asks: self.engine.recommend(asks),
        }
        while (jobs := self._take()) is not None:
            if not jobs:
                self._follow()
                continue
            # A request that was given up has cancelled its future.
            jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            began = time.perf_counter()
            # Events first: what was asked at the same time then knows them.
            for kind in ("observe", "call", "recommend"):
                chosen = [job for job in jobs if job.kind == kind]
                if kind in together and chosen:
                    _answer(together[kind], chosen)
                else:
                    for job in chosen:
                        _answer(lambda values: [values[0](self.engine)], [job])
            if jobs and not any(job.kind == "call" for job in jobs):
                pace = (time.perf_counter() - began) / sum(job.weight for job in jobs)
                self._pace += _NEWEST * (pace - self._pace)


def _answer(function: Callable[[Sequence[Any]], Sequence[Any]], jobs: list[_Job]) -> None:
    """Gives each job its part of the results, or all of them the error."""
    try:
        results = function([value for job in jobs for value in job.values])
    except Exception as error:
        for job in jobs:
            job.future.set_exception(error)
        return
    start = 0
    for job in jobs:
        part = results[start : start + len(job.values)]
        start += len(job.values)
        job.future.set_result(part[0] if job.kind == "call" else part)
