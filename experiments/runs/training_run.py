"""A running training run: its state, and everything it reads, writes and saves."""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from data_pipelines.commands.allocator import give_back_freed_memory
from data_pipelines.lanes.loaders import merge_states, require_state
from data_pipelines.progress import Progress as Shown
from data_pipelines.progress import say
from experiments.processes.stopping import StopSignals
from experiments.runs.assembly import Parts
from experiments.runs.bad_steps import BadStepsError, NonFiniteError
from experiments.runs.continuing import start_state
from experiments.runs.journal import Journal, NoJournal
from experiments.runs.meter import Meter, Sums
from experiments.runs.resolve import ResolvedRun
from experiments.runs.restore import require_step
from experiments.runs.saved_configs import differences
from hiertcn_jax.devices import processes
from hiertcn_jax.devices.mesh import place_batch
from hiertcn_jax.learning.earlier_states import earlier_states
from hiertcn_jax.learning.train_state import TrainState, init_train_state
from hiertcn_jax.saving.checkpoint import CheckpointError, Checkpoints
from hiertcn_jax.scoring.metrics import Metric
from hiertcn_jax.settings import Settings, fields_of, setting

Validator = Callable[[TrainState, Callable[[int], None]], dict[str, float]]
"""Computes validation metrics from the state; calls a function between batches."""


@dataclasses.dataclass
class Progress(Settings):
    """What the loop must remember besides the state; saved with the loader's."""

    best: float | None = setting(None, "Best value of the monitored metric so far.")
    evaluations_since_best: int = setting(0, "Validations since then.", at_least=0)
    validation_due: bool = setting(
        False, "Whether the last step's validation was cut short, and runs before the next step."
    )

    def judge(self, value: float, metric: Metric) -> None:
        """Records the monitored metric of a validation."""
        better = self.best is None or metric.worth(value) > metric.worth(self.best)
        self.best = value if better else self.best
        self.evaluations_since_best = 0 if better else self.evaluations_since_best + 1

    def stops(self, patience: int) -> bool:
        """Whether validation has not improved `patience` times in a row."""
        return 0 < patience <= self.evaluations_since_best


class Training:
    """A running training run.

    Attributes:
      step: Steps done.
      progress: What is saved besides the state.
    """

    def __init__(
        self, run: ResolvedRun, parts: Parts, workdir: Path, closing: contextlib.ExitStack
    ) -> None:
        """Starts from the seed, or the run that it continues; or resumes.

        It resumes from the newest checkpoint, if the settings there agree.

        Args:
          run: The resolved run.
          parts: The parts of the run.
          workdir: The run's directory.
          closing: Receives everything that must be closed at the end.

        Raises:
          CheckpointError: The newest checkpoint has other settings, or cannot be used.
        """
        self._run, self._parts, self._train = run, parts, run.config.train
        self._directory = workdir / "checkpoints"
        self._checkpoints = Checkpoints(self._directory)
        closing.callback(self._checkpoints.close)
        self._batches = iter(parts.loader)
        closing.callback(self._batches.close)
        self._state = init_train_state(
            jax.random.key(self._train.seed),
            parts.model,
            run.config.model,
            parts.optimizer,
            self._train.bucket.lanes,
            run.data.vocabulary.size,
            run.layout,
        )
        self.progress, self._sums = Progress(), Sums()
        self._is_compiled = False
        step = processes.first_says(self._checkpoints.latest_step())
        if step is not None:
            self._restore(step)
            print(f"resuming from step {step}")
        elif run.continued is not None:
            self._state = start_state(run.continued, self._state, run.data, self._train.fit_on)
        self.step = self._saved = int(self._state.step)

    def _restore(self, step: int) -> None:
        self._state = self._checkpoints.restore(
            step,
            self._state,
            lambda saved: differences(saved, self._run.saved),
            self._train.model_parallelism,
            earlier_states(self._state, self._parts.optimizer.rows),
        )
        require_step(self._directory / str(step), self._state, step)
        saved = self._checkpoints.read(step, "loader")
        try:
            self._take_up(saved, step)
        except ValueError as error:
            raise CheckpointError(
                f"{self._directory}/{step}: loader: {error}; "
                "remove this checkpoint to resume from the one before it"
            ) from error

    def _take_up(self, saved: dict[str, Any], step: int) -> None:
        """Sets the loader, the progress and the sums to those of a checkpoint."""
        for name in ("batches", "progress", "sums"):
            if name not in saved:
                raise ValueError(f"{name}: missing")
        # Settings may be missing, for they have defaults; a run's progress may not.
        for name, kind in (("progress", Progress), ("sums", Sums)):
            values = saved[name] if isinstance(saved[name], dict) else {}
            for field in fields_of(kind):
                if values and field.name not in values:
                    raise ValueError(f"{name}.{field.name}: missing")
        self.progress = Progress.from_dict(saved["progress"], "progress")
        if self.progress.validation_due and self._train.fit_on != "train":
            raise ValueError("progress.validation_due=True: this run does not validate")
        self._sums = Sums.from_dict(saved["sums"], "sums")
        require_state(saved["batches"], self._batches.get_state(), step)
        self._batches.set_state(saved["batches"])

    def open_journal(self, workdir: Path, closing: contextlib.ExitStack) -> None:
        """Drops the journal's lines after the current step, and opens it for more."""
        self._journal: Journal | NoJournal = NoJournal()
        if processes.is_first():
            self._journal = Journal(
                workdir,
                self.step,
                self.progress.validation_due,
                self._run.config.hyperparameters(),
                ("train/loss", f"valid/{self._train.monitor}"),
            )
        closing.callback(self._journal.close)
        per_epoch, bad_steps = self._run.plan.steps_per_epoch, self._train.max_bad_steps
        self._shown = closing.enter_context(
            Shown(
                "training",
                "steps",
                self._run.plan.total_steps,
                self.step,
                shown=processes.is_first(),
            )
        )
        self._meter = Meter(self._journal, self._shown, per_epoch, self._sums, bad_steps)

    def has_work_left(self) -> bool:
        """Whether the run has steps or a validation left."""
        ended = self.progress.stops(self._train.number("patience"))
        return self.progress.validation_due or (
            self.step < self._run.plan.total_steps and not ended
        )

    def advance(self, validates: bool) -> bool:
        """Takes one step, unless a validation is due; returns whether to save.

        Args:
          validates: Whether there is something to validate on.

        Raises:
          BadStepsError: Too many steps in a row were skipped.
        """
        if self.progress.validation_due:
            return False
        plan, config = self._run.plan, self._train
        batch, info = next(self._batches)
        batch = place_batch(batch, self._run.layout)
        compiles, started = not self._is_compiled, time.monotonic()
        if compiles:
            self._shown.note("compiling")
            self._say("compiling the training step")
        self._state, metrics = self._parts.step(self._state, batch, self._parts.sources)
        if compiles:
            self._is_compiled = True
            self._say(f"compiled in {time.monotonic() - started:.1f} s")
        self.step += 1
        self._meter.add(self.step, metrics, info.user_bs)
        ends = self.step % plan.eval_every == 0 or self.step == plan.total_steps
        every = config.checkpoint_every_steps
        saves = ends or (every > 0 and self.step % every == 0)
        if saves or self.step % config.log_every_steps == 0:
            self._meter.write(self.step)
        self.progress.validation_due = ends and validates
        return saves

    def judge(self, validate: Validator, stop: StopSignals) -> float | None:
        """Validates; returns the monitored metric, or None if a stop cut it short."""

        def between_batches(events: int) -> None:
            del events
            if stop.asked:
                raise _CutShortError

        self._shown.note("validating")
        try:
            values = validate(self._state, between_batches)
        except _CutShortError:
            return None
        monitor = self._train.monitor
        self.progress.validation_due = False
        self.progress.judge(values[monitor], self._train.monitored)
        self._journal.write(self.step, "valid", values)
        best = "" if self.progress.evaluations_since_best else ", the best so far"
        epoch = self.step / self._run.plan.steps_per_epoch
        self._say(
            f"step {self.step}, epoch {epoch:.3g}: valid {monitor} {values[monitor]:.4f}{best}"
        )
        return values[monitor]

    def save(self, monitored: float | None = None) -> None:
        """Saves. Call it before drawing the next batch, so that the loader's state fits this step.

        Raises:
          BadStepsError: Too many steps in a row were skipped; nothing is saved.
        """
        loader = {
            "batches": merge_states(processes.gather_json(self._batches.get_state())),
            "progress": dataclasses.asdict(self.progress),
            "sums": dataclasses.asdict(self._meter.read()),
        }
        self._journal.sync()
        self._checkpoints.save(
            self.step,
            self._state,
            loader,
            self._run.saved,
            monitored,
            self._train.monitored.lower_is_better,
        )
        self._saved = self.step
        give_back_freed_memory()
        self._meter.resume()

    def save_if_behind(self) -> None:
        """Saves the last step, unless it is saved already."""
        if self._saved != self.step:
            self.save()

    def say_end(self) -> None:
        """Says why the run ended, if it did before its plan was done."""
        patience = self._train.number("patience")
        if self.progress.stops(patience) and self.step < self._run.plan.total_steps:
            self._say(
                f"stopped early, at step {self.step:,} of {self._run.plan.total_steps:,}: "
                f"{patience} validation{'' if patience == 1 else 's'} without a better "
                f"{self._train.monitor}"
            )

    def _say(self, text: str) -> None:
        if processes.is_first():
            say(text)

    def explain(self, error: BadStepsError) -> NonFiniteError:
        """Builds the error for too many skipped steps."""
        return error.explain(self._run.data, self._state.params)


class _CutShortError(Exception):
    """A stop signal cut a validation short."""
