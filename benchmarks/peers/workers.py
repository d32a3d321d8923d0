"""The runner's side: workers as processes in their own environments; see `slices`."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]

KEEP_FREED_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
}
"""Environment of all workers: what `data_pipelines.commands.allocator` does for our commands."""


class WorkerError(Exception):
    """A worker ended, or reported something impossible; the message is one line."""


class Slice(NamedTuple):
    """The result of a slice of training.

    Attributes:
      labels: Events predicted with a loss.
      batches: Number of batches.
      seconds: By the clock.
      cpu_seconds: Processor time of the worker.
      other_cpu_seconds: Processor time of everything else on the machine meanwhile.
    """

    labels: int
    batches: int
    seconds: float
    cpu_seconds: float
    other_cpu_seconds: float

    @property
    def labels_per_s(self) -> float:
        """Labels a second."""
        return self.labels / self.seconds


class Worker:
    """A process that trains only when it is told to.

    Args:
      name: Name for messages.
      command: The program and its arguments.
      directory: Its working directory, which exists and is used by no other worker.

    Raises:
      WorkerError: It ended before it was ready.
    """

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        self._name, self._log = name, directory / "stderr.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env={**os.environ, **KEEP_FREED_MEMORY, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def wait_until_ready(self) -> dict[str, Any]:
        """The worker's description of itself, once it has compiled and loaded everything.

        Raises:
          WorkerError: It ended before.
        """
        return self._read()["ready"]

    def train(self, seconds: float) -> Slice:
        """Lets it train for this long.

        Raises:
          WorkerError: It ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"seconds": seconds}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `_read` reports how it ended.
        return Slice(**self._read())

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._process.kill()
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        last = self._log.read_text(errors="replace").strip().rpartition("\n")[2]
        raise WorkerError(f"{self._name}: the worker ended with exit code {code}: {last}")
