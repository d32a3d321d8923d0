"""Kills a training command at moments that it cannot foresee, and reports what it left.

At these moments something is half done: see `KINDS`. The caller draws the kind of moment and the
delay after its first sign; the command knows nothing of it.
"""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.commands import Running

KINDS = {
    "start": "some time after the lock is taken: restoring, tracing, compiling",
    "bytes": "metrics.jsonl has grown by a number of bytes",
    "writing": "a checkpoint's temporary folder has appeared",
    "renamed": "a checkpoint has got its name",
    "evaluation": "the last line of metrics.jsonl is the one before a validation",
    "epoch": "the line of the validation at an epoch's end is written, and not saved yet",
    "results": "valid.json has appeared: training is over",
}
"""The signs to wait for before a kill, by name."""

_LOOK_EVERY_S = 0.01
_LOOK_FOR_LOCK_EVERY_S = 0.05


class Sight(NamedTuple):
    """The content of a workdir.

    Attributes:
      size: Bytes of metrics.jsonl.
      step, kind: Of its last complete line; 0 and "" if it has none.
      writing: Whether a checkpoint is being written.
      steps: The checkpoints.
      results: Whether valid.json exists.
    """

    size: int
    step: int
    kind: str
    writing: bool
    steps: frozenset[int]
    results: bool


class Moment(NamedTuple):
    """When to kill.

    Attributes:
      kind: From `KINDS`.
      size: For `bytes`: how many.
      seconds: Delay between the sign and the kill.
    """

    kind: str
    size: int
    seconds: float


def draw_moment(rng: random.Random, kind: str) -> Moment:
    """Draws a moment of this kind."""
    seconds = {"start": rng.uniform(0, 2.0), "writing": rng.uniform(0, 0.04)}
    return Moment(kind, rng.randint(1, 1500), seconds.get(kind, rng.choice([0, 0.001, 0.005])))


def look(workdir: Path) -> Sight:
    """The current content of a workdir."""
    try:
        with (workdir / "metrics.jsonl").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4096))
            *lines, _ = file.read().split(b"\n")
    except FileNotFoundError:
        size, lines = 0, []
    try:
        names = os.listdir(workdir / "checkpoints")
    except FileNotFoundError:
        names = []
    last: dict[str, Any] = json.loads(lines[-1]) if lines else {"step": 0, "kind": ""}
    return Sight(
        size,
        last["step"],
        last["kind"],
        any(".writing" in name for name in names),
        frozenset(int(name) for name in names if name.isdecimal()),
        (workdir / "valid.json").exists(),
    )


def kill_at(
    start: Callable[[], Running], workdir: Path, moment: Moment, validations: set[int]
) -> Sight | None:
    """Starts a command, and kills it with SIGKILL.

    Args:
      start: Starts training in `workdir`.
      workdir: The workdir of the run.
      moment: When to kill.
      validations: The steps after which the run validates.

    Returns:
      The content of the workdir after the kill; None if the command ended before.

    Raises:
      RuntimeError: The command failed.
    """
    before = look(workdir)
    process = start()
    watch = _Watch(workdir, moment, validations, before, process.pid)
    try:
        while process.poll() is None and not watch.has_lock():
            time.sleep(_LOOK_FOR_LOCK_EVERY_S)
        while process.poll() is None and not watch.shows():
            time.sleep(_LOOK_EVERY_S)
        time.sleep(moment.seconds)
    finally:
        process.kill()
        code = process.wait()
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{workdir}: exit code {code}")
    return look(workdir) if code else None


class _Watch:
    """Waits for the sign of a moment; a sign left from an earlier kill does not count."""

    def __init__(
        self, workdir: Path, moment: Moment, validations: set[int], before: Sight, pid: int
    ) -> None:
        self._workdir, self._moment, self._validations = workdir, moment, validations
        self._before, self._pid, self._smallest = before, pid, before.size
        self._was_hidden = False

    def has_lock(self) -> bool:
        """Whether the command has started to work in the workdir."""
        try:
            return (self._workdir / "lock").read_text(encoding="utf-8") == f"{self._pid}\n"
        except FileNotFoundError:
            return False

    def shows(self) -> bool:
        """Whether the moment has come. The command must have the lock."""
        now = look(self._workdir)
        # The start of a run cuts off the lines after its checkpoint.
        self._smallest = min(self._smallest, now.size)
        shown = {
            "bytes": now.size >= self._smallest + self._moment.size,
            "writing": now.writing,
            "renamed": max(now.steps, default=0) > max(self._before.steps, default=0),
            "evaluation": now.kind == "train" and now.step in self._validations,
            "epoch": now.kind == "valid" and now.step not in now.steps,
            "results": now.results,
        }
        if self._moment.kind == "start":
            return True
        self._was_hidden |= not shown[self._moment.kind]
        return shown[self._moment.kind] and self._was_hidden
