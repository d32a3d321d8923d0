"""Sums over the steps between two lines of the journal."""

import time

import jax
from tqdm import tqdm

from experiments.journal import Journal
from hiertcn_jax.train_step import StepMetrics


class Meter:
    """Gathers the metrics of steps, and reads them from the device only to write a line.

    Args:
      journal: Where the lines go.
      bar: The progress bar, which shows the newest.
      steps_per_epoch: Steps of one pass.
      events: Training events seen before.
    """

    def __init__(self, journal: Journal, bar: tqdm, steps_per_epoch: int, events: int) -> None:
        self.events = events
        self._journal, self._bar = journal, bar
        self._steps_per_epoch = steps_per_epoch
        self._steps: list[StepMetrics] = []
        self._resumed = time.perf_counter()

    def add(self, metrics: StepMetrics) -> None:
        """Takes in one step."""
        self._steps.append(metrics)
        self._bar.update()

    def resume(self) -> None:
        """Starts the clock anew: validation and saving do not count as training time."""
        self._resumed = time.perf_counter()

    def write(self, step: int) -> None:
        """One line for the steps since the line before; none if there were none."""
        if not self._steps:
            return
        steps, self._steps = jax.device_get(self._steps), []
        seconds = time.perf_counter() - self._resumed
        self.resume()
        events = sum(int(values["events"]) for values in steps)
        weight = sum(float(values["weight"]) for values in steps)
        self.events += events
        line = {
            "epoch": round(step / self._steps_per_epoch, 4),
            "loss": sum(float(values["loss_sum"]) for values in steps) / max(weight, 1e-6),
            "grad_norm": float(steps[-1]["grad_norm"]),
            "learning_rate": float(steps[-1]["learning_rate"]),
            "events": self.events,
            "events_per_s": round(events / max(seconds, 1e-9), 1),
        }
        self._journal.write(step, "train", line)
        self._bar.set_postfix_str(f"loss {line['loss']:.3f}, {line['events_per_s']:,.0f} events/s")
