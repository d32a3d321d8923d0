"""Allows only one run at a time in a workdir."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from experiments.runs.files import kept_if_used, naming
from hiertcn_jax.devices import processes

REFUSAL = "trains here, and a workdir takes one run at a time"
"""Part of the error when another process holds the lock."""

_POLL_SECONDS = 1.0
"""Seconds between two attempts to get a lock."""


@contextlib.contextmanager
def lock_workdir(workdir: Path) -> Iterator[None]:
    """Makes a workdir if there is none, and holds its lock.

    The system releases the lock however the process ends. If the block fails before it has written
    anything there, the lock's file and the directory are removed again.

    With several processes, the first holds it for all.

    Raises:
      BlockingIOError: Another process holds it.
      OSError: The workdir cannot be made, or W/lock cannot be written.
    """
    if not processes.is_first():
        yield
        return
    path = workdir / "lock"
    with kept_if_used(workdir):
        while True:
            # Unbuffered: closing has nothing left to write that may fail.
            with path.open("a+b", buffering=0) as file:
                _lock(file, workdir)
                if not _is_still_named(file, path):
                    continue
                try:
                    with naming(path):
                        file.truncate(0)
                        file.write(f"{os.getpid()}\n".encode())
                    yield
                except BaseException:
                    # It is still locked, so nobody else has begun to work here.
                    if os.listdir(workdir) == [path.name]:
                        path.unlink()
                    raise
                return


def _lock(file: BinaryIO, workdir: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().decode("utf-8", "replace").strip() or "unknown"
        raise BlockingIOError(f"{workdir}: process {holder} {REFUSAL}") from error


def _is_still_named(file: BinaryIO, path: Path) -> bool:
    """Whether a file still has its name: its last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def wait_until_free(workdir: Path) -> None:
    """Waits until no process holds the lock of a workdir; prints once which process holds it.

    Raises:
      OSError: W/lock cannot be written.
    """
    said = False
    while True:
        try:
            with lock_workdir(workdir):
                return
        except BlockingIOError as error:
            if not said:
                print(f"waiting: {error}", flush=True)
            said = True
            time.sleep(_POLL_SECONDS)
