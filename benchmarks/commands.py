"""Commands as processes of their own: from a fresh interpreter, or forked with libraries imported.

Both do what `python -m MODULE ARGUMENTS` does. What is forked saves the import of the libraries:
more than a second, and half of what a tiny run takes.
"""

import multiprocessing
import multiprocessing.connection
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[1]
"""Where commands run."""

_FORKS = multiprocessing.get_context("forkserver")
# Those that start no thread when they are imported: polars does.
_FORKS.set_forkserver_preload(
    ["jax", "flax.linen", "optax", "orbax.checkpoint", "grain", "scipy", "tensorflow_datasets"]
)


# A start looks after all processes before, and two looks at the same time lose an exit code.
_LOCK = threading.Lock()


class Running(Protocol):
    """A process, as `subprocess.Popen` is one."""

    pid: int

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""

    def kill(self) -> None:
        """SIGKILL."""

    def wait(self) -> int:
        """Its exit code, once it has ended."""


Start = Callable[[list[str], Path], Running]
"""From the module's name and its arguments, and a file for what it says."""


def start_fresh(command: list[str], log: Path) -> Running:
    """A fresh interpreter."""
    with log.open("a") as said:
        return subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, stdout=said, stderr=said
        )


def start_forked(command: list[str], log: Path) -> Running:
    """Forked off a process that has imported the libraries, and has done nothing with them."""
    process = _FORKS.Process(target=_run, args=(command, log))
    with _LOCK:
        process.start()
    return _Forked(process)


class _Forked:
    def __init__(self, process: ForkServerProcess) -> None:
        assert process.pid is not None
        self._process, self.pid = process, process.pid

    def poll(self) -> int | None:
        with _LOCK:
            return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> int:
        while (code := self.poll()) is None:
            multiprocessing.connection.wait([self._process.sentinel])
        return code


def _run(command: list[str], log: Path) -> None:
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(ROOT)
    module, *arguments = command
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
