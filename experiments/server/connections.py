"""Connections that cut off slow clients, and answer broken requests with problem details.

uvicorn bounds the time of idle connections, and the size of a request's head, alone.
"""

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from experiments.server.problems import described

HEAD_SECONDS = 10.0
"""The head of a request must have arrived after this."""
REQUEST_SECONDS = 60.0
"""After this a request is given up whose answer the client has not read."""
HEAD_BYTES = 65_536
"""Bytes of a request's head at most."""


class Connection(H11Protocol):
    """One connection; uvicorn makes it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """See `H11Protocol`."""
        super().__init__(*arguments, **named)
        self._limit: asyncio.TimerHandle | None = None
        self._had_bytes = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected; the head of the first request is awaited."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Bytes came: part of a head, or of a body."""
        self._had_bytes = True
        awaited = self._awaits_head()
        super().data_received(data)
        if self._awaits_head():
            if self._limit is None:
                self._await_head()
        elif awaited:
            self._set_limit(REQUEST_SECONDS, self._give_up)

    def on_response_complete(self) -> None:
        """An answer is out; uvicorn closes the connection if no request follows."""
        self._had_bytes = False
        self._unset_limit()
        super().on_response_complete()
        if self._awaits_head() and self.conn.trailing_data[0]:
            self._had_bytes = True
            self._unset_keepalive_if_required()
            self._await_head()
        elif not self._awaits_head():
            # The next request had come already.
            self._set_limit(REQUEST_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._unset_limit()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, and closes the connection."""
        del msg
        self._refuse(400, f"this is no HTTP request, or its head has more than {HEAD_BYTES} bytes")

    def _awaits_head(self) -> bool:
        return self.conn.their_state is h11.IDLE

    def _await_head(self) -> None:
        self._set_limit(HEAD_SECONDS, self._cut_off)

    def _set_limit(self, seconds: float, end: Any) -> None:
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
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(described(status, detail)).encode()
            headers = [
                (b"content-type", b"application/problem+json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            for event in (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:
            # Nobody reads what the application says to the rest of it.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
