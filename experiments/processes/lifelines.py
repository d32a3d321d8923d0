"""Connections that show at once when a process is gone.

The first process listens, and every other one connects. When a process is killed or crashes, the
system closes its connection. A process that ends in order says so before. If a machine loses its
power or its network, nothing closes: `cluster.py` then notices the silence, later.
"""

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable

_CONNECT_SECONDS = 2.0
_GOODBYE = b"goodbye\n"


class Lifelines:
    """In the first process: listens for the others.

    Args:
      when_gone: Called in a thread with the index of a process that ended without a word.

    Attributes:
      port: Where it listens.
    """

    def __init__(self, when_gone: Callable[[int], None]) -> None:
        self._when_gone = when_gone
        self._server = _listen()
        self.port: int = self._server.getsockname()[1]
        self._stop, self._stopped = socket.socketpair()
        self._said: dict[socket.socket, bytes] = {}
        self._thread = threading.Thread(target=self._watch, name="lifelines", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listens no longer."""
        self._stop.close()
        self._thread.join()

    def _watch(self) -> None:
        with contextlib.ExitStack() as closing, selectors.DefaultSelector() as selector:
            for own in (self._server, self._stopped):
                selector.register(closing.enter_context(own), selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    ready = key.fileobj
                    assert isinstance(ready, socket.socket)
                    if ready is self._stopped:
                        return
                    if ready is self._server:
                        connection, _ = self._server.accept()
                        self._said[closing.enter_context(connection)] = b""
                        selector.register(connection, selectors.EVENT_READ)
                    elif not self._hears(ready):
                        selector.unregister(ready)
                        ready.close()
                        self._judge(self._said.pop(ready))

    def _hears(self, connection: socket.socket) -> bool:
        """Reads what a process says; whether its connection is still open."""
        try:
            piece = connection.recv(64)
        except OSError:
            return False
        self._said[connection] += piece
        return bool(piece)

    def _judge(self, said: bytes) -> None:
        index, _, goodbye = said.partition(b"\n")
        if index.isdigit() and goodbye != _GOODBYE:
            self._when_gone(int(index))


class Lifeline:
    """In every other process: its connection to the first one.

    Args:
      host: Of the first process.
      port: Of its `Lifelines`.
      index: Of this process.

    Raises:
      OSError: There is no way to the first process.
    """

    def __init__(self, host: str, port: int, index: int) -> None:
        self._connection = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
        self._connection.sendall(f"{index}\n".encode())

    def close(self) -> None:
        """Says that this process ends in order."""
        with contextlib.suppress(OSError), self._connection:
            self._connection.sendall(_GOODBYE)


def _listen() -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))
