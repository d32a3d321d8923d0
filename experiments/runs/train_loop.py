"""The training loop: read from top to bottom, it is what a run does."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from experiments.judging.collector import flat_metrics
from experiments.judging.evaluation import Evaluator
from experiments.processes.stopping import StopSignals
from experiments.runs.assembly import Parts, assemble
from experiments.runs.bad_steps import BadStepsError
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
    """Trains until the plan is done, or until validation stops getting better.

    Goes on from the newest checkpoint in `workdir`, where there is one. SIGTERM and SIGINT end the
    run behind the step that is being done; a validation is cut short, and made up for at the start
    of the run that goes on.

    Args:
      run: What to train, and on what.
      workdir: The run's directory; who calls holds its lock (`lock_workdir`).
      on_start: Called once it is certain that a run that is there goes on with these configs.
      allow_older: Whether an older checkpoint serves where the newest is damaged.

    Raises:
      CheckpointError: The checkpoint is of a run with other settings, or damaged, or none can be
        written.
      DataError: Nothing in valid can be monitored.
      NonFiniteError: The loss or the gradient was not finite in too many steps in a row. Nothing is
        saved behind the checkpoint before.
      StoppedError: A signal asked to stop; the last step is saved.
    """
    parts = assemble(run)
    validate = _validator(run, parts)
    # Whatever ends the run: what is being written is written to its end, and threads stop.
    with contextlib.ExitStack() as closing:
        stop = closing.enter_context(StopSignals())
        training = begin(run, parts, workdir, closing, on_start, allow_older)
        try:
            _go_through(training, validate, stop)
        except BadStepsError as error:
            raise training.explain(error) from error
        if stop.asked:
            stop.end(training.step)


def begin(
    run: ResolvedRun,
    parts: Parts,
    workdir: Path,
    closing: contextlib.ExitStack,
    on_start: Callable[[], None] = lambda: None,
    allow_older: bool = False,
) -> Training:
    """A run in front of its next step; nothing is compiled for steps yet.

    Args:
      run: What to train, and on what.
      parts: What the run is made of.
      workdir: The run's directory.
      closing: Gets what has to be closed at the end.
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
    """All steps that are left, until a signal asks to stop; the last step is saved."""
    while training.goes_on() and not stop.asked:
        saves = training.advance(validates=validate is not None)
        monitored = None
        if validate is not None and training.progress.validation_due:
            monitored = training.judge(validate, stop)
        if saves or monitored is not None:
            training.save(monitored)
    if stop.asked:
        training.save_if_behind()


def _validator(resolved: ResolvedRun, parts: Parts) -> Validator | None:
    """The validation of a run; None where valid is trained on."""
    run, data = resolved.config, resolved.data
    if run.train.fit_on != "train":
        return None
    counts, group = data.manifest["counts"]["splits"]["valid"], run.train.monitor.split("/")[0]
    if counts["events"][group] == counts["unknown_items"][group]:
        raise DataError(
            f"{data.directory}: valid has no events of the group {group} on known items, so "
            f"monitor={run.train.monitor} has no value; monitor another group, such as all/mrr, or "
            "prepare the log with more in valid"
        )
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
