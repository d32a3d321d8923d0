"""Sums over the steps between two lines of the journal."""

import dataclasses
import time

import jax
from tqdm import tqdm

from experiments.journal import Journal
from hiertcn_jax.train_step import StepMetrics


@dataclasses.dataclass
class Sums:
    """What was gathered; saved with a checkpoint, so that no line depends on where a run stopped.

    Attributes:
      events: Training events seen in all.
      steps: Steps since the last line; what follows is of these.
      line_events: Training events.
      seconds: Time that they took.
      loss_sum, weight: Sums of the loss and of its weights.
      grad_norm, learning_rate: Of the last step.
    """

    events: int = 0
    steps: int = 0
    line_events: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    weight: float = 0.0
    grad_norm: float = 0.0
    learning_rate: float = 0.0


class Meter:
    """Gathers the metrics of steps, and reads them from the device only to write or to save.

    Args:
      journal: Where the lines go.
      bar: The progress bar, which shows the newest.
      steps_per_epoch: Steps of one pass.
      sums: What was gathered before.
    """

    def __init__(self, journal: Journal, bar: tqdm, steps_per_epoch: int, sums: Sums) -> None:
        self._journal, self._bar = journal, bar
        self._steps_per_epoch = steps_per_epoch
        self._sums = sums
        self._unread: list[StepMetrics] = []
        self._resumed = time.perf_counter()

    def add(self, metrics: StepMetrics) -> None:
        """Takes in one step."""
        self._unread.append(metrics)
        self._bar.update()

    def resume(self) -> None:
        """Starts the clock anew: validation and saving do not count as training time."""
        self._resumed = time.perf_counter()

    def read(self) -> Sums:
        """The sums up to the last step."""
        sums = self._sums
        steps, self._unread = jax.device_get(self._unread), []
        for values in steps:
            sums.steps += 1
            sums.events += int(values["events"])
            sums.line_events += int(values["events"])
            sums.loss_sum += float(values["loss_sum"])
            sums.weight += float(values["weight"])
            sums.grad_norm = float(values["grad_norm"])
            sums.learning_rate = float(values["learning_rate"])
        now = time.perf_counter()
        sums.seconds += now - self._resumed
        self._resumed = now
        return sums

    def write(self, step: int) -> None:
        """One line for the steps since the line before; none if there were none."""
        sums = self.read()
        if not sums.steps:
            return
        line = {
            "epoch": round(step / self._steps_per_epoch, 4),
            "loss": sums.loss_sum / max(sums.weight, 1e-6),
            "grad_norm": sums.grad_norm,
            "learning_rate": sums.learning_rate,
            "events": sums.events,
            "events_per_s": round(sums.line_events / max(sums.seconds, 1e-9), 1),
        }
        self._sums = Sums(events=sums.events)
        self._journal.write(step, "train", line)
        self._bar.set_postfix_str(f"loss {line['loss']:.3f}, {line['events_per_s']:,.0f} events/s")
