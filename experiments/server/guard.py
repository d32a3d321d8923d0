"""What every request passes first: valid UTF-8, the token, and limits of size and time."""

import asyncio
import contextlib
import hmac
import time
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from experiments.server import pages
from experiments.server.express import ASK, EVENTS, Express, Taken
from experiments.server.metrics import Metrics
from experiments.server.problems import busy, problem
from experiments.server.worker import BusyError

BODY_BYTES = 1_000_000
BODY_SECONDS = 10.0
"""A body must have arrived after this."""

WORKING = ("/v1/events", "/v1/recommend", "/v1/session/")
"""Paths of requests that are sent away above capacity."""

OPEN = ("/healthz", "/readyz", *pages.OPEN)
"""These need no token."""


class _RefusedError(Exception):
    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        self.answer = problem(status, detail, headers)


class Guard:
    """An ASGI application around another one."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        token: str | None,
        is_busy: Callable[[], bool],
        express: Express,
    ) -> None:
        """See the module.

        Args:
          app: Answers what passes.
          metrics: Gets the time of each request.
          token: Requests must bear it; None: no token is needed.
          is_busy: Whether requests to the engine are to be sent away.
          express: Answers most requests.
        """
        self._is_busy, self._express = is_busy, express
        self._app, self._metrics = app, metrics
        self._token = None if token is None else f"Bearer {token}".encode()

    def sends_away(self, path: str) -> bool:
        """Whether a request is sent away now, because it would wait too long."""
        return path.startswith(WORKING) and self._is_busy()

    def takes(self, scope: Scope) -> bool:
        """Whether `take` may take this request."""
        path, method = scope["path"], scope["method"]
        if method == "POST":
            return path == EVENTS
        return method == "GET" and path.startswith(ASK)

    def take(self, scope: Scope, body: bytes | bytearray) -> Taken | None:
        """Takes a request that is plainly valid; None: call the application.

        Args:
          scope: Of ASGI.
          body: All of it.

        Raises:
          BusyError: Too much waits.
          ClosedError: The server is stopping.
        """
        kind = authorization = b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                kind = value
            elif name == b"authorization":
                authorization = value
        if self._token is not None and not hmac.compare_digest(authorization, self._token):
            return None
        if scope["method"] == "GET":
            if body or b"%" in scope["raw_path"]:
                return None
            return self._express.ask(scope["path"], scope["query_string"])
        if kind != b"application/json" or scope["query_string"] or len(body) > BODY_BYTES:
            return None
        return self._express.tell(body)

    def note(self, scope: Scope, route: str, status: int, seconds: float) -> None:
        """Notes a request that was answered without the application."""
        self._metrics.observe(route, scope["method"], status, seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on with its whole body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            try:
                self._check(scope)
                if self.sends_away(scope["path"]):
                    # At once, because above capacity reading and checking them takes time too.
                    raise BusyError
                body = await _read_body(scope, receive)
            except BusyError:
                await busy()(scope, receive, noted)
            except _RefusedError as refused:
                await refused.answer(scope, receive, noted)
            else:
                await self._app(scope, _given(body, receive), noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.observe(route, scope["method"], status, time.perf_counter() - start)

    def _check(self, scope: Scope) -> None:
        for name, raw in (
            ("path", scope.get("raw_path") or b""),
            ("query", scope.get("query_string", b"")),
        ):
            try:
                unquote_to_bytes(raw).decode()
            except UnicodeDecodeError:
                raise _RefusedError(400, f"the {name} is no UTF-8") from None
        if self._token is not None and scope["path"] not in OPEN:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._token):
                raise _RefusedError(
                    401,
                    "send the header Authorization: Bearer TOKEN",
                    {"WWW-Authenticate": "Bearer"},
                )


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    headers = dict(scope["headers"])
    too_large = _RefusedError(413, f"the body has more than {BODY_BYTES:,} bytes; send several")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > BODY_BYTES:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _RefusedError(400, "the connection closed before the body was complete")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > BODY_BYTES:
                    raise too_large
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise _RefusedError(408, f"the body took longer than {BODY_SECONDS:.0f} s") from None
    body = b"".join(parts)
    if body:
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise _RefusedError(415, "send the header Content-Type: application/json")
        with contextlib.suppress(UnicodeDecodeError):
            body.decode()
            return body
        raise _RefusedError(400, "the body is no UTF-8")
    return body


def _given(body: bytes, receive: Receive) -> Receive:
    """Receives a body that was read already, then whatever comes after it."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return left.pop() if left else await receive()

    return next_message
