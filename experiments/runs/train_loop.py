"""The training loop. Read from top to bottom, it shows everything that a run does."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from data_pipelines.histories.record import Split
from experiments.judging.collector import flat_metrics
from experiments.judging.evaluation import Evaluator
from experiments.processes.stopping import StopSignals
from experiments.runs.assembly import Parts, assemble
from experiments.runs.bad_steps import BadStepsError
from experiments.runs.data import require_monitored
from experiments.runs.recall import recall_of
from experiments.runs.resolve import ResolvedRun
from experiments.runs.resume import leave_whole
from experiments.runs.training_run import Training, Validator
from hiertcn_jax.devices import processes


def train(
    run: ResolvedRun,
    workdir: Path,
    on_start: Callable[[], None] = lambda: None,
    allow_older: bool = False,
) -> None:
    """Trains until the plan is done, or until validation stops improving.

    Resumes from the newest checkpoint in `workdir`, if there is one. SIGTERM and SIGINT end the run
    after the current step. They cut a validation short; the resumed run repeats it first.

    Args:
      run: The resolved run.
      workdir: The run's directory; the caller holds its lock (`lock_workdir`).
      on_start: Called once it is certain that an existing run can resume with these configs.
      allow_older: Whether to use an older checkpoint if the newest is damaged.

    Raises:
      CheckpointError: The checkpoint has other settings or is damaged, or none can be written.
      DataError: Nothing in valid can be monitored.
      NonFiniteError: The loss or the gradient was not finite in too many steps in a row. Nothing is
        saved after the previous checkpoint.
      StoppedError: A signal asked to stop; the last step is saved.
    """
    parts = assemble(run)
    validate = _validator(run, parts)
    # However the run ends, pending writes are completed, and threads stop.
    with contextlib.ExitStack() as closing:
        stop = closing.enter_context(StopSignals())
        training = begin(run, parts, workdir, closing, on_start, allow_older)
        try:
            _go_through(training, validate, stop)
        except BadStepsError as error:
            raise training.explain(error) from error
        if stop.asked:
            stop.end(training.step)
        training.say_end()


def begin(
    run: ResolvedRun,
    parts: Parts,
    workdir: Path,
    closing: contextlib.ExitStack,
    on_start: Callable[[], None] = lambda: None,
    allow_older: bool = False,
) -> Training:
    """Prepares a run before its next step, without compiling any step.

    Args:
      run: The resolved run.
      parts: The parts of the run.
      workdir: The run's directory.
      closing: Receives everything that must be closed at the end.
      on_start: As for `train`.
      allow_older: As for `train`.

    Raises:
      CheckpointError: As for `train`.
      OSError: metrics.jsonl or TensorBoard's files cannot be written.
    """
    if processes.is_first():
        leave_whole(workdir / "checkpoints", allow_older)
    training = Training(run, parts, workdir, closing)
    if processes.is_first():
        on_start()
    training.open_journal(workdir, closing)
    return training


def _go_through(training: Training, validate: Validator | None, stop: StopSignals) -> None:
    """Takes all remaining steps, until a signal asks to stop; saves the last step."""
    while training.has_work_left() and not stop.asked:
        saves = training.advance(validates=validate is not None)
        monitored = None
        if validate is not None and training.progress.validation_due:
            monitored = training.judge(validate, stop)
        if saves or monitored is not None:
            training.save(monitored)
    if stop.asked:
        training.save_if_behind()


def _validator(resolved: ResolvedRun, parts: Parts) -> Validator | None:
    """The validation of a run; None if it trains on valid."""
    run, data = resolved.config, resolved.data
    if run.train.fit_on != "train":
        return None
    require_monitored(data, run.train.monitor)
    evaluator = Evaluator(
        parts.model,
        run.model,
        run.evaluation,
        data,
        Split.VALID,
        resolved.layout,
        recall_of(data, run.model, run.train.fit_on),
    )
    return lambda state, between: flat_metrics(evaluator(state.params, between).metrics)
