"""An open-loop load generator: requests leave at planned times, however slow the answers are.

The latency of a request counts from its planned time. So a server that stands still makes all
requests of that time slow, and not only the one that it holds up (coordinated omission).
"""

import asyncio
import collections
import contextlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_AT_FIRST = 16
"""Connections that are open before the first request."""


class Sent(NamedTuple):
    """What became of r requests, in the order of their planned times.

    Attributes:
      planned_r: float64. Seconds after the start.
      latency_r: float64. Seconds from the planned time to the last byte of the answer; NaN without
        one.
      status_r: int16. HTTP status; 0 where the connection broke or no answer came.
      late_r: float64. Seconds that this generator itself was late; small, or latencies are its own.
    """

    planned_r: np.ndarray
    latency_r: np.ndarray
    status_r: np.ndarray
    late_r: np.ndarray


def planned_times(rate: float, seconds: float, seed: int) -> np.ndarray:
    """float64 [r]. Times of a Poisson process, in seconds after the start.

    Args:
      rate: Requests a second, on average.
      seconds: How long.
      seed: Of the times.
    """
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate, int(rate * seconds * 1.2) + 100))
    return times[times < seconds]


def get(path: str) -> bytes:
    """The bytes of a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    """The bytes of a POST request of JSON."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def send(
    port: int,
    requests: Sequence[bytes],
    planned_r: np.ndarray,
    connections: int,
    patience: float = 10.0,
) -> Sent:
    """Sends requests at their times, and waits for the answers.

    Args:
      port: Of the server, at 127.0.0.1.
      requests: Whole requests, see `get` and `post`.
      planned_r: float64. When each is to leave, seconds after the start.
      connections: At most; a request that finds none free waits, and that counts.
      patience: Seconds to wait for the last answers.
    """
    return asyncio.run(_Run(port, requests, planned_r, connections).run(patience))


class _Run:
    def __init__(
        self, port: int, requests: Sequence[bytes], planned_r: np.ndarray, connections: int
    ) -> None:
        self._port, self._requests, self._planned_r = port, requests, planned_r
        self._most = connections
        self._latency_r = np.full(len(requests), np.nan)
        self._status_r = np.zeros(len(requests), np.int16)
        self._late_r = np.zeros(len(requests))
        self._waiting: collections.deque[int] = collections.deque()
        self._idle: list[_Connection] = []
        self._open = self._left = self._connecting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._start = 0.0

    async def run(self, patience: float) -> Sent:
        loop = asyncio.get_running_loop()
        self._finished = asyncio.Event()
        self._left = len(self._requests)
        self._loop = loop
        for _ in range(min(_AT_FIRST, self._most)):
            self._open += 1
            await self._connect()
        self._start = time.perf_counter()
        for number, planned in enumerate(self._planned_r.tolist()):
            # Many that are due leave together, without a turn of the loop for each.
            if (ahead := planned - (time.perf_counter() - self._start)) > 0:
                await asyncio.sleep(ahead)
            elif number % 16 == 0:
                await asyncio.sleep(0)
            self._late_r[number] = time.perf_counter() - self._start - planned
            self._waiting.append(number)
            self._dispatch()
        if self._left:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._finished.wait(), patience)
        for connection in self._idle:
            connection.transport.close()
        return Sent(self._planned_r, self._latency_r, self._status_r, self._late_r)

    async def _connect(self) -> None:
        _, connection = await self._loop.create_connection(
            lambda: _Connection(self), "127.0.0.1", self._port
        )
        self._idle.append(connection)

    def _dispatch(self) -> None:
        while self._waiting and self._idle:
            number = self._waiting.popleft()
            connection = self._idle.pop()
            connection.number = number
            connection.transport.write(self._requests[number])
        # As clients do that do not wait for each other: a connection more, and none too many.
        while self._connecting < len(self._waiting) and self._open < self._most:
            self._open += 1
            self._connecting += 1
            task = self._loop.create_task(self._connect_one_more())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def answered(self, connection: "_Connection", status: int) -> None:
        number = connection.number
        assert number is not None
        self._latency_r[number] = time.perf_counter() - self._start - self._planned_r[number]
        self._status_r[number] = status
        connection.number = None
        self._idle.append(connection)
        self._one_less()
        self._dispatch()

    def broken(self, connection: "_Connection") -> None:
        """Its request, if it has one, has no answer."""
        if connection in self._idle:
            self._idle.remove(connection)
        self._open -= 1
        if connection.number is not None:
            connection.number = None
            self._one_less()
        if self._left:
            self._dispatch()

    async def _connect_one_more(self) -> None:
        try:
            await self._connect()
        except OSError:
            self._open -= 1
        finally:
            self._connecting -= 1
        self._dispatch()

    def _one_less(self) -> None:
        self._left -= 1
        if not self._left:
            self._finished.set()


class _Connection(asyncio.Protocol):
    """One request at a time.

    Attributes:
      number: Of the request that waits for its answer.
    """

    transport: asyncio.Transport

    def __init__(self, run: _Run) -> None:
        self._run, self._data = run, b""
        self.number: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(_HEAD_END)
        if not end:
            return
        lowered = head.lower()
        place = lowered.find(_LENGTH)
        length = int(lowered[place + len(_LENGTH) :].split(b"\r\n", 1)[0]) if place >= 0 else 0
        if len(body) >= length:
            self._data = b""
            self._run.answered(self, int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._run.broken(self)
