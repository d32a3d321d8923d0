"""Runs commands forked from a process that has imported the libraries, for tests that run many.

They do the same as `python -m MODULE ARGUMENTS`, but for the seconds of the imports. Tests of what
happens at a start or an end, of warnings and of signals, start a fresh interpreter.
"""

import atexit
import multiprocessing
import os
import resource
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import jax

from tests.programs import share_programs

ROOT = Path(__file__).parents[1]

FORKS = multiprocessing.get_context("forkserver")
"""For processes that start with the libraries imported."""
# Only those that start no thread at their import; polars does.
FORKS.set_forkserver_preload(
    [
        "jax", "flax.linen", "optax", "orbax.checkpoint", "grain", "scipy.sparse", "numba", "rich",
        "tensorflow_datasets",
    ]
)  # fmt: skip


def run_forked(module, *arguments, most_file_bytes=None):
    """Runs a command to its end; what it prints, and its exit code, as `subprocess.run` does.

    Args:
      module: The command.
      arguments: Its arguments.
      most_file_bytes: How large a file may become, as if the disk were full then.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with tempfile.TemporaryDirectory() as directory:
        said, errors = Path(directory) / "stdout", Path(directory) / "stderr"
        process = FORKS.Process(target=_run, args=(command, said, errors, most_file_bytes))
        process.start()
        process.join()
        code = process.exitcode
        process.close()
        return subprocess.CompletedProcess(command, code, said.read_text(), errors.read_text())


class Forked:
    """A command that runs, as `subprocess.Popen` has it.

    Attributes:
      pid: Its process id.
    """

    def __init__(self, directory, module, *arguments, **jax_options):
        """Starts it.

        Args:
          directory: For what it prints; somebody else removes it.
          module: The command.
          arguments: Its arguments.
          jax_options: Options of JAX, as in its environment but in lower case.
        """
        own = Path(tempfile.mkdtemp(dir=directory))
        self._said = own / "stdout", own / "stderr"
        command = [sys.executable, "-m", module, *map(str, arguments)]
        self._process = FORKS.Process(target=_run_with, args=(command, *self._said, jax_options))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        """Its exit code, or minus the signal that killed it; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self._process.kill()

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return self.returncode

    def communicate(self):
        """Waits for its end; what it printed to stdout and to stderr."""
        self.wait()
        return [path.read_text() for path in self._said]


def start_forked(command, log):
    """Starts a command as `benchmarks.commands` does; it shares the programs of the tests.

    Args:
      command: The module's name and its arguments.
      log: The file for its output, which is appended.
    """
    return _Started(command, log)


class _Started:
    def __init__(self, command, log):
        log.touch()
        command = [sys.executable, "-m", *command]
        self._process = FORKS.Process(target=_run, args=(command, log, log, None))
        self._process.start()
        self.pid, self.kill = self._process.pid, self._process.kill

    def poll(self):
        return self._process.exitcode

    def wait(self):
        self._process.join()
        return self._process.exitcode


def _run(command, said, errors, most_file_bytes):
    _become(command, said, errors)
    if most_file_bytes is None:
        share_programs()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_file_bytes, most_file_bytes))
    runpy.run_module(command[2], run_name="__main__", alter_sys=True)


def _run_with(command, said, errors, jax_options):
    _become(command, said, errors)
    for name, value in jax_options.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)
    try:
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)
    finally:
        # A child of multiprocessing leaves them out.
        atexit._run_exitfuncs()


def _become(command, said, errors):
    for number, path in ((0, Path(os.devnull)), (1, said), (2, errors)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    os.chdir(ROOT)
    os.environ["TERM"] = "dumb"
    sys.argv, sys.orig_argv = [command[2], *command[3:]], command
