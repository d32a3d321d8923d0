"""Sums metrics over the steps between two lines of the journal."""

import dataclasses
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from data_pipelines.progress import Progress
from experiments.runs.bad_steps import BadStepsError
from experiments.runs.journal import Journal, NoJournal
from hiertcn_jax.learning.train_step import StepMetrics
from hiertcn_jax.settings import Settings, setting


def _count(text: str) -> int:
    return setting(0, text, at_least=0, below=2**53)


def _sum(text: str) -> float:
    # Sums within these bounds cannot become infinite.
    return setting(0.0, text, at_least=-1e300, at_most=1e300)


@dataclasses.dataclass
class Sums(Settings):
    """The sums so far; saved with a checkpoint, so that no line depends on where a run stopped.

    The first three cover the whole run; the others restart after each line of the journal.
    """

    events: int = _count("Training events seen in total.")
    skipped_steps: int = _count("Steps in total whose loss or gradient was not finite.")
    skipped_in_row: int = _count("Such steps since the last good one.")
    steps: int = _count("Steps.")
    line_events: int = _count("Training events.")
    seconds: float = _sum("Their duration.")
    loss_sum: float = _sum("Sum of the loss, without skipped steps.")
    weight: float = _sum("Sum of its weights, without skipped steps.")
    loss_steps: int = _count("Steps in these sums.")
    grad_norm: float | None = setting(
        None, "Of the last step that was not skipped; None if all were.", at_most=1e300
    )
    learning_rate: float = _sum("Of the last step.")

    def add(self, values: StepMetrics) -> None:
        """Adds a step whose metrics are on the host."""
        self.steps += 1
        self.events += int(values["events"])
        self.line_events += int(values["events"])
        self.learning_rate = float(values["learning_rate"])
        if values["finite"]:
            self.skipped_in_row = 0
            self.loss_steps += 1
            self.loss_sum += float(values["loss_sum"])
            self.weight += float(values["weight"])
            self.grad_norm = float(values["grad_norm"])
        else:
            self.skipped_steps += 1
            self.skipped_in_row += 1

    def next_line(self) -> "Sums":
        """The sums after a line."""
        return Sums(self.events, self.skipped_steps, self.skipped_in_row)

    @property
    def loss(self) -> float | None:
        """Mean loss of the line; None if all its steps were skipped."""
        return self.loss_sum / max(self.weight, 1e-6) if self.loss_steps else None


class _Step(NamedTuple):
    step: int
    metrics: StepMetrics
    user_bs: np.ndarray


class Meter:
    """Collects the metrics of steps, and reads them from the device only to write or to save.

    Args:
      journal: Where to write lines.
      progress: Shows the newest metrics.
      steps_per_epoch: Steps per epoch.
      sums: The sums so far.
      max_bad_steps: See `TrainConfig`.
    """

    def __init__(
        self,
        journal: Journal | NoJournal,
        progress: Progress,
        steps_per_epoch: int,
        sums: Sums,
        max_bad_steps: int,
    ) -> None:
        self._journal, self._progress = journal, progress
        self._steps_per_epoch, self._max_bad_steps = steps_per_epoch, max_bad_steps
        self._sums = sums
        self._unread: list[_Step] = []
        self._resumed = time.perf_counter()

    def add(self, step: int, metrics: StepMetrics, user_bs: np.ndarray) -> None:
        """Adds one step, with the users of its batch."""
        self._unread.append(_Step(step, metrics, user_bs))
        self._progress.add()

    def resume(self) -> None:
        """Restarts the clock, so that validation and saving do not count as training time."""
        self._resumed = time.perf_counter()

    def read(self) -> Sums:
        """The sums up to the last step.

        Raises:
          BadStepsError: `max_bad_steps` steps in a row were skipped.
        """
        sums, unread = self._sums, self._unread
        self._unread = []
        every = jax.device_get([step.metrics for step in unread])
        for step, values in zip(unread, every, strict=True):
            sums.add(values)
            if sums.skipped_in_row >= self._max_bad_steps:
                raise BadStepsError(
                    step.step, sums.skipped_in_row, self._max_bad_steps, values, step.user_bs
                )
        now = time.perf_counter()
        sums.seconds += now - self._resumed
        self._resumed = now
        return sums

    def write(self, step: int) -> None:
        """Writes a line for the steps since the last line, if there were any.

        Raises:
          BadStepsError: As for `read`.
        """
        sums = self.read()
        if not sums.steps:
            return
        line: dict[str, Any] = {
            "epoch": round(step / self._steps_per_epoch, 4),
            "loss": sums.loss,
            "grad_norm": sums.grad_norm,
            "learning_rate": sums.learning_rate,
            "events": sums.events,
            "skipped_steps": sums.skipped_steps,
            "events_per_s": round(sums.line_events / max(sums.seconds, 1e-9), 1),
        }
        self._sums = sums.next_line()
        self._journal.write(step, "train", line)
        loss = "-" if sums.loss is None else f"{sums.loss:.3f}"
        self._progress.note(f"loss {loss}, {line['events_per_s']:,.0f} events/s")
