"""Runs commands as separate processes: in a fresh interpreter, or forked with libraries imported.

Both do the same as `python -m MODULE ARGUMENTS`. Forking saves the import of the libraries: more
than a second, half the time of a tiny run. A command can also be several processes that train
together.
"""

import multiprocessing
import multiprocessing.connection
import os
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[1]
"""The working directory of commands."""

_FORKS = multiprocessing.get_context("forkserver")
# Only those that start no thread at their import; polars does.
_FORKS.set_forkserver_preload(
    ["jax", "flax.linen", "optax", "orbax.checkpoint", "grain", "scipy", "tensorflow_datasets"]
)


# A start checks all earlier processes, and two checks at the same time lose an exit code.
_LOCK = threading.Lock()


class Running(Protocol):
    """A process, as `subprocess.Popen` is one."""

    @property
    def pid(self) -> int:
        """Its id."""

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""

    def kill(self) -> None:
        """SIGKILL."""

    def wait(self) -> int:
        """Its exit code, once it has ended."""


Start = Callable[[list[str], Path], Running]
"""Starts a command, given the module's name and arguments, and a file for its output."""


def start_fresh(command: list[str], log: Path) -> Running:
    """Starts a command in a fresh interpreter."""
    with log.open("a") as said:
        return subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, stdout=said, stderr=said
        )


def start_together(command: list[str], log: Path, programs: Path, victim: int) -> Running:
    """Starts a command as two processes of two simulated devices each, in fresh interpreters.

    Args:
      command: The module's name and its arguments.
      log: The file for their output.
      programs: For a folder of compiled programs for each process: JAX would read what another
        process has half written.
      victim: Index of the process that `kill` kills. The other ends by itself.
    """
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"--coordinator_address=127.0.0.1:{server.getsockname()[1]}"
    arguments = [sys.executable, "-m", *command, address, "--num_processes=2"]
    with log.open("a") as said:
        processes = [
            subprocess.Popen(
                [*arguments, f"--process_id={index}"],
                cwd=ROOT,
                stdout=said,
                stderr=said,
                env={
                    **os.environ,
                    "JAX_PLATFORMS": "cpu",
                    "JAX_NUM_CPU_DEVICES": "2",
                    "JAX_COMPILATION_CACHE_DIR": str(programs / str(index)),
                },
            )
            for index in range(2)
        ]
    return Together(processes, victim)


class Together:
    """Several processes as one.

    Attributes:
      processes: The processes.

    Args:
      processes: The processes.
      victim: Index of the process that `kill` kills.
    """

    def __init__(self, processes: list[subprocess.Popen[Any]], victim: int) -> None:
        self.processes, self._victim = processes, victim

    @property
    def pid(self) -> int:
        """The id of the first, which holds the workdir's lock."""
        return self.processes[0].pid

    def poll(self) -> int | None:
        """None as long as one runs, then the same as `wait`."""
        return None if None in [process.poll() for process in self.processes] else self.wait()

    def kill(self) -> None:
        """Sends SIGKILL to the victim; the others end by themselves."""
        self.processes[self._victim].kill()

    def wait(self) -> int:
        """Waits for all. Returns the victim's exit code, or if it is 0 the first that is not 0."""
        codes = [process.wait() for process in self.processes]
        return codes[self._victim] or next((code for code in codes if code), 0)


def start_forked(command: list[str], log: Path) -> Running:
    """Forks a command from a process that has imported the libraries, and done nothing else."""
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
