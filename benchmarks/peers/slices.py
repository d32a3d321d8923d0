"""The worker's side: runs a training loop for as long as it is told to, and reports its progress.

A worker trains in its own loop, unchanged. Its batches pass through `Slices.watch`, which counts
labels and reads the clock between two batches. At the end of a slice it reports, and holds the loop
until the next command. So a slice times everything that happens from one batch to the next: making
the batch, the step, and a peer's work between epochs.

One JSON object per line:

    worker  {"ready": DESCRIPTION}                     after the first, untimed batches
    runner  {"seconds": S}                             train for a slice of that long
    worker  {"labels": N, "batches": B, "seconds": T, "cpu_seconds": C, "other_cpu_seconds": O}
    runner  end of file                                the worker ends
"""

import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

Element = TypeVar("Element")

FIRST_BATCHES = 2
"""Batches before a worker is ready, to compile programs and allocate memory."""


def open_channel() -> tuple[TextIO, TextIO]:
    """Standard input, and standard output for messages only: other output goes to stderr."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return sys.stdin, replies


def installed_versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of these packages in this environment."""
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **versions}


class Slices:
    """Times a training loop that draws its batches through `watch`.

    Args:
      commands: The stream of commands.
      replies: The stream for messages.
      describe: Makes the description, after the first batches.
      finish: Waits for work that was started but may not be done.
      clock: Returns seconds.
    """

    def __init__(
        self,
        commands: TextIO,
        replies: TextIO,
        describe: Callable[[], dict[str, Any]],
        finish: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._commands, self._replies = commands, replies
        self._describe, self._finish, self._clock = describe, finish, clock
        self._labels, self._batches = 0, 0
        self._course = self._run_course()

    def watch(
        self, batches: Iterable[Element], count_labels: Callable[[Element], int]
    ) -> Iterator[Element]:
        """Passes on the batches that the training loop draws. Call it per epoch, or once.

        Args:
          batches: The peer's own.
          count_labels: Number of events that a batch predicts with a loss.

        Raises:
          SystemExit: There are no more commands.
        """
        iterator = iter(batches)
        while True:
            next(self._course)
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._labels += count_labels(batch)
            self._batches += 1
            yield batch

    def _run_course(self) -> Iterator[None]:
        """Runs between batches; pauses at each yield until a batch arrives."""
        yield from self._let_through(FIRST_BATCHES)
        self._finish()
        self._send({"ready": self._describe()})
        while True:
            length = self._read_command()
            start, cpu_start, busy_start = self._clock(), time.process_time(), _busy_seconds()
            yield from self._let_through(1)
            while self._clock() - start < length:
                yield
            self._finish()
            seconds, cpu_seconds = self._clock() - start, time.process_time() - cpu_start
            self._send(
                {
                    "labels": self._labels,
                    "batches": self._batches,
                    "seconds": seconds,
                    "cpu_seconds": cpu_seconds,
                    "other_cpu_seconds": max(_busy_seconds() - busy_start - cpu_seconds, 0.0),
                }
            )

    def _let_through(self, batches: int) -> Iterator[None]:
        """Counts this many batches; one step may be several batches at an epoch's end."""
        self._labels, self._batches = 0, 0
        while self._batches < batches:
            yield

    def _read_command(self) -> float:
        line = self._commands.readline()
        if not line:
            sys.exit(0)
        return float(json.loads(line)["seconds"])

    def _send(self, message: dict[str, Any]) -> None:
        self._replies.write(json.dumps(message) + "\n")
        self._replies.flush()


def _busy_seconds() -> float:
    """Processor time of all processes since the machine started; 0 if Linux does not tell."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, softirq, *_ = map(int, stat.read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
