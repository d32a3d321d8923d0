"""Runs the application until a signal stops it."""

import signal
import socket
import sys
from concurrent.futures import Future
from pathlib import Path

import uvicorn

from data_pipelines.commands.command import StoppedError, one_line
from experiments.server.connections import Connection
from experiments.server.engine import Engine
from experiments.server.guard import Guard
from experiments.server.hangups import Hangups
from experiments.server.swapping import RunningError, Swapper

_FINISH_SECONDS = 8
"""How long requests may take to end after a signal."""


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
      host: Name or address.
      port: 0 takes a free one.

    Raises:
      OSError: It cannot be had; the message names it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(2048)
    except OSError as error:
        raise OSError(
            f"--host={host} --port={port}: cannot listen: {error.strerror}; name an address of "
            "this machine, and a free port"
        ) from error
    return found


def make_server(app: Guard) -> uvicorn.Server:
    """What answers with an application."""

    class Guarded(Connection):
        guard = app

    return uvicorn.Server(
        uvicorn.Config(
            app,
            # Warnings are about what any client can send.
            log_level="error",
            access_log=False,
            lifespan="on",
            server_header=False,
            http=Guarded,
            # Nobody reads the clients' addresses.
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=_FINISH_SECONDS,
        )
    )


def serve(app: Guard, listening: socket.socket) -> None:
    """Answers until SIGTERM or SIGINT; then finishes what was taken, and returns."""
    server = make_server(app)
    try:
        server.run([listening])
    except (StoppedError, KeyboardInterrupt):
        # uvicorn raises the signal again after everything has ended.
        if not server.should_exit:
            raise


def swap_on_hangup(swapper: Swapper, directory: Path, earlier: Hangups) -> None:
    """Makes SIGHUP replace the model by what a directory holds then; prints one line about it.

    Args:
      swapper: Replaces the model.
      directory: Of the export; may be a link.
      earlier: Hangups during the start; one makes the directory be read again now.
    """

    def said(future: "Future[Engine]") -> None:
        error = future.exception()
        if error is None:
            print(f"model {future.result().export.model_id}: serves now", flush=True)
        else:
            print(f"error: the model stays: {one_line(str(error))}", file=sys.stderr, flush=True)

    def hangup(number: int, frame: object) -> None:
        del number, frame
        try:
            swapper.start(directory).add_done_callback(said)
        except RunningError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)

    # Windows has no such signal.
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, hangup)
        if earlier.came:
            hangup(signal.SIGHUP, None)
