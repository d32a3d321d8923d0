"""Commands as processes of their own: from a fresh interpreter, or forked with libraries imported.

Both do what `python -m MODULE ARGUMENTS` does. What is forked saves the import of the libraries:
more than a second, and half of what a tiny run takes. Or as several processes that train together.
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
"""From the module's name and its arguments, and a file for what it says."""


def start_fresh(command: list[str], log: Path) -> Running:
    """A fresh interpreter."""
    with log.open("a") as said:
        return subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, stdout=said, stderr=said
        )


def start_together(command: list[str], log: Path, programs: Path, victim: int) -> Running:
    """Two processes of two simulated devices each, as one command; each a fresh interpreter.

    Args:
      command: The module's name and its arguments.
      log: For what they say.
      programs: For the folders of compiled programs, one for each process: JAX would read what
        another process has half written.
      victim: Which of them is killed by `kill`. The other ends by itself.
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
    """Processes as one.

    Attributes:
      processes: They.

    Args:
      processes: They.
      victim: Which of them is killed by `kill`.
    """

    def __init__(self, processes: list[subprocess.Popen[Any]], victim: int) -> None:
        self.processes, self._victim = processes, victim

    @property
    def pid(self) -> int:
        """That of the first, which holds the workdir's lock."""
        return self.processes[0].pid

    def poll(self) -> int | None:
        """None as long as one runs, then as `wait`."""
        return None if None in [process.poll() for process in self.processes] else self.wait()

    def kill(self) -> None:
        """SIGKILL to the victim; the others end by themselves."""
        self.processes[self._victim].kill()

    def wait(self) -> int:
        """The victim's exit code, or, if that is 0, the first that is not; once all have ended."""
        codes = [process.wait() for process in self.processes]
        return codes[self._victim] or next((code for code in codes if code), 0)


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
