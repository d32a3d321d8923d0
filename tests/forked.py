"""Runs commands forked from a process that has imported the libraries, for tests that run many.

They do the same as `python -m MODULE ARGUMENTS`, but for the seconds of the imports. Tests of what
happens at a start or an end, of warnings and of signals, start a fresh interpreter.
"""

import multiprocessing
import os
import resource
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

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


def _run(command, said, errors, most_file_bytes):
    for number, path in ((0, Path(os.devnull)), (1, said), (2, errors)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.chdir(ROOT)
    os.environ["TERM"] = "dumb"
    if most_file_bytes is None:
        share_programs()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_file_bytes, most_file_bytes))
    _, _, module, *arguments = command
    sys.argv, sys.orig_argv = [module, *arguments], command
    runpy.run_module(module, run_name="__main__", alter_sys=True)
