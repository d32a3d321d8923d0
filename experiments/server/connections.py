"""Connections that cut off slow clients, and answer broken requests with problem details.

uvicorn bounds the time of idle connections alone. Requests that would wait too long are sent away
here, as soon as their head is read, and those of the two routes that most requests take go straight
to the engine (`express`): so no queue in front of it is uncounted.
"""

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from experiments.server.app import ANSWER_SECONDS
from experiments.server.express import Taken
from experiments.server.guard import Guard
from experiments.server.handover import Handover
from experiments.server.problems import busy, described, failure
from experiments.server.worker import BusyError, ClosedError

HEAD_SECONDS = 10.0
"""The head of a request must have arrived after this."""
REQUEST_SECONDS = 60.0
"""After this a request is given up whose answer the client has not read."""
HEAD_BYTES = 65_536
"""Bytes of a request's head at most."""

_PROBLEM = b"content-type: application/problem+json\r\n"
_JSON = b"content-type: application/json\r\n"
_LATER = b"retry-after: 1\r\n"
_BUSY = bytes(busy().body)


class Connection(HttpToolsProtocol):
    """One connection; uvicorn makes it.

    Attributes:
      guard: The application.
      handover: Of the loop; the first connection makes it.
    """

    guard: ClassVar[Guard]
    handover: ClassVar[Handover | None] = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """See `HttpToolsProtocol`."""
        super().__init__(*arguments, **named)
        self._limit: asyncio.TimerHandle | None = None
        self._in_head, self._had_bytes = True, False
        self._head_bytes = self._raw_bytes = 0
        # A request whose body may be in the bytes that are being read.
        self._held: tuple[RequestResponseCycle, Any] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected; the head of the first request is awaited."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Bytes came: part of a head, or of a body."""
        super().data_received(data)
        if self._had_bytes:
            # The parser tells of a header when all of it came.
            self._raw_bytes += len(data)
            if self._raw_bytes > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("")
                return
        self._release()

    def on_message_begin(self) -> None:
        """The first bytes of a request came."""
        super().on_message_begin()
        self._had_bytes, self._head_bytes, self._raw_bytes = True, 0, 0

    def on_url(self, url: bytes) -> None:
        """Part of the address came."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came."""
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """The head of a request is complete.

        Raises:
          ValueError: It is none of HTTP; the connection then gets 400.
        """
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() != "1.0"):
            raise ValueError("one host must be named")
        self._had_bytes = False
        waited, self._in_head = self._in_head, False
        if waited:
            self._set_limit(REQUEST_SECONDS, self._give_up)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is complete."""
        super().on_message_complete()
        self._release()

    def on_response_complete(self) -> None:
        """An answer is out; uvicorn closes the connection if no request follows."""
        self._unset_limit()
        self._in_head = not self.pipeline
        if self._in_head:
            self._await_head()
        else:
            self._set_limit(REQUEST_SECONDS, self._give_up)
        super().on_response_complete()
        if self._in_head and self._had_bytes:
            self._unset_keepalive_if_required()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._unset_limit()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, and closes the connection."""
        del msg
        self._refuse(400, f"this is no HTTP request, or its head has more than {HEAD_BYTES} bytes")

    def _unsupported_upgrade_warning(self) -> None:
        # What follows is no HTTP, as the client believes.
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _count(self, length: int) -> None:
        self._head_bytes += length
        if self._head_bytes > HEAD_BYTES:
            raise ValueError("the head is too large")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """A request can be answered: all before it are."""
        guard, scope = self.guard, cycle.scope
        if self.flow.write_paused:
            super()._start_asgi_task(cycle, app)
        elif guard.sends_away(scope["path"]):
            # Made once: above capacity this is what most requests get.
            self.guard.note(scope, "none", 429, 0.0)  # type: ignore[arg-type]
            self._send(cycle, 429, _PROBLEM + _LATER, _BUSY)
        elif guard.takes(scope):  # type: ignore[arg-type]
            self._held = cycle, app
            if not cycle.more_body:
                self._release()
        else:
            super()._start_asgi_task(cycle, app)

    def _release(self) -> None:
        """Answers the request that was held until its body was read, or as much of it as came."""
        if self._held is None:
            return
        (cycle, app), self._held = self._held, None
        taken, began = None, time.perf_counter()
        try:
            if not cycle.more_body and not cycle.disconnected:
                taken = self.guard.take(cycle.scope, cycle.body)  # type: ignore[arg-type]
        except (BusyError, ClosedError) as error:
            self._fail(cycle, "none", error, began)
            return
        if taken is None:
            super()._start_asgi_task(cycle, app)
            return
        late = self.loop.call_later(ANSWER_SECONDS, taken.future.cancel)
        if Connection.handover is None or not Connection.handover.is_of(self.loop):
            Connection.handover = Handover(self.loop)

        def done(future: "Future[Any]") -> None:
            late.cancel()
            self._answer(cycle, taken, future, began)

        Connection.handover.when_done(taken.future, done)

    def _answer(
        self, cycle: RequestResponseCycle, taken: Taken, future: "Future[Any]", began: float
    ) -> None:
        if future.cancelled():
            self._fail(cycle, taken.route, TimeoutError(), began)
            return
        error = future.exception()
        if error is None:
            try:
                status, body = taken.say(future.result())
            except Exception as wrong:
                error = wrong
        if error is not None:
            self._fail(cycle, taken.route, error, began)
            return
        self.guard.note(cycle.scope, taken.route, status, time.perf_counter() - began)  # type: ignore[arg-type]
        self._send(cycle, status, _JSON if status < 400 else _PROBLEM, body)

    def _fail(
        self, cycle: RequestResponseCycle, route: str, error: BaseException, began: float
    ) -> None:
        said = failure(error)
        self.guard.note(cycle.scope, route, said.status_code, time.perf_counter() - began)  # type: ignore[arg-type]
        more = _LATER if "retry-after" in said.headers else b""
        self._send(cycle, said.status_code, _PROBLEM + more, bytes(said.body))

    def _send(self, cycle: RequestResponseCycle, status: int, headers: bytes, body: bytes) -> None:
        """Sends a whole answer."""
        if cycle.disconnected or self.transport.is_closing():
            return
        more = [b"%b: %b\r\n" % pair for pair in self.server_state.default_headers]
        if not cycle.keep_alive:
            more.append(b"connection: close\r\n")
        length = b"content-length: %d\r\n\r\n" % len(body)
        self.transport.write(b"".join([STATUS_LINE[status], headers, *more, length, body]))
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _await_head(self) -> None:
        self._set_limit(HEAD_SECONDS, self._cut_off)

    def _set_limit(self, seconds: float, end: Callable[[], None]) -> None:
        self._unset_limit()
        self._limit = self.loop.call_later(seconds, end)

    def _unset_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _cut_off(self) -> None:
        if self._had_bytes:
            self._refuse(408, f"the head of the request took longer than {HEAD_SECONDS:.0f} s")
        else:
            self.transport.close()

    def _give_up(self) -> None:
        self.transport.abort()

    def _refuse(self, status: int, detail: str) -> None:
        self._unset_limit()
        self._held = None
        cycle = self.cycle
        answered = cycle is None or cycle.response_complete
        if not self.pipeline and (answered or not cycle.response_started):
            body = json.dumps(described(status, detail)).encode()
            head = b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
            length = b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(head + _PROBLEM + length + body)
        if cycle is not None:
            # Nobody reads what the application says to the rest of it.
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()
