"""The training loop: read from top to bottom, it is what a run does."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from experiments.data import Data
from experiments.evaluation import Evaluator, flat_metrics
from experiments.flags import RunConfig
from experiments.journal import Journal
from experiments.locking import lock_workdir
from experiments.meter import Meter
from experiments.resume import leave_whole
from experiments.setup import Parts, assemble, binding_configs, saved_configs
from hiertcn_jax.checkpoint import Checkpoints
from hiertcn_jax.train_state import TrainState, init_train_state


@dataclasses.dataclass
class Progress:
    """What the loop has to remember besides the state; saved with the loader's.

    Attributes:
      events: Training events seen.
      best: Best value of the monitored metric so far.
      evaluations_since_best: Validations since then.
    """

    events: int = 0
    best: float | None = None
    evaluations_since_best: int = 0

    def judge(self, value: float) -> None:
        """Takes in the monitored metric of a validation."""
        better = self.best is None or value > self.best
        self.best = value if better else self.best
        self.evaluations_since_best = 0 if better else self.evaluations_since_best + 1

    def stops(self, patience: int) -> bool:
        """Whether validation has not got better for `patience` times."""
        return 0 < patience <= self.evaluations_since_best


def train(
    run: RunConfig,
    data: Data,
    workdir: Path,
    on_start: Callable[[], None] = lambda: None,
    allow_older: bool = False,
) -> None:
    """Trains until the plan is done, or until validation stops getting better.

    Goes on from the newest checkpoint in `workdir`, where there is one.

    Args:
      run: The configs.
      data: What to train on.
      workdir: The run's directory.
      on_start: Called once it is certain that a run that is there goes on with these configs.
      allow_older: Whether an older checkpoint serves where the newest is damaged.

    Raises:
      BlockingIOError: Another process trains in `workdir`.
      CheckpointError: The checkpoint is of a run with other settings, or damaged, or none can be
        written.
      DataError: Nothing in valid can be monitored.
      ValueError: The data has nothing to train on.
    """
    parts = assemble(run, data)
    plan, config = parts.plan, run.train
    validate = _validator(run, data, parts)
    # Whatever ends the run: what is being written is written to its end, and threads stop.
    with contextlib.ExitStack() as closing:
        closing.enter_context(lock_workdir(workdir))
        directory = workdir / "checkpoints"
        leave_whole(directory, allow_older)
        checkpoints = Checkpoints(directory)
        closing.callback(checkpoints.close)
        batches = iter(parts.loader)
        closing.callback(batches.close)
        state, progress = _start(run, data, parts, checkpoints, batches)
        step = int(state.step)
        on_start()
        journal = Journal(workdir, step)
        closing.callback(journal.close)
        bar = closing.enter_context(_progress_bar(step, plan.total_steps))
        meter = Meter(journal, bar, plan.steps_per_epoch, progress.events)

        while step < plan.total_steps and not progress.stops(config.patience):
            state, metrics = parts.step(state, next(batches).batch, parts.sources)
            step += 1
            meter.add(metrics)
            validates = step % plan.eval_every == 0 or step == plan.total_steps
            every = config.checkpoint_every_steps
            saves = validates or (every > 0 and step % every == 0)
            if saves or step % config.log_every_steps == 0:
                meter.write(step)
            monitored = None
            if validates and validate is not None:
                values = validate(state)
                monitored = values[config.monitor]
                progress.judge(monitored)
                journal.write(step, "valid", values)
                tqdm.write(f"step {step}: valid {config.monitor} {monitored:.4f}")
            if saves:
                # Before the next batch is drawn, so that the loader's state is that of this step.
                progress.events = meter.events
                loader = {"batches": batches.get_state(), "progress": dataclasses.asdict(progress)}
                checkpoints.save(step, state, loader, saved_configs(run, data), monitored)
                meter.resume()


def _progress_bar(step: int, total: int) -> tqdm:
    return tqdm(total=total, initial=step, unit="step", disable=None, dynamic_ncols=True)


def _validator(
    run: RunConfig, data: Data, parts: Parts
) -> Callable[[TrainState], dict[str, float]] | None:
    """A function from the state to validation metrics; None where valid is trained on."""
    if run.train.fit_on != "train":
        return None
    counts, group = data.manifest["counts"]["splits"]["valid"], run.train.monitor.split("/")[0]
    if counts["events"][group] == counts["unknown_items"][group]:
        raise DataError(
            f"{data.directory}: valid has no events of the group {group} on known items, so "
            f"monitor={run.train.monitor} has no value"
        )
    evaluator = Evaluator(parts.model, run.model, run.evaluation, data, Split.VALID)

    return lambda state: flat_metrics(evaluator(state.params).metrics)


def _start(
    run: RunConfig, data: Data, parts: Parts, checkpoints: Checkpoints, batches: Any
) -> tuple[TrainState, Progress]:
    """Where the run begins.

    1. From the newest checkpoint in the workdir, if it was made with the same settings.
    2. Without a checkpoint, afresh from the seed.
    """
    key, rows = jax.random.key(run.train.seed), data.vocabulary.size
    lanes = run.train.lanes
    fresh = init_train_state(key, parts.model, run.model, parts.optimizer, lanes, rows)
    step = checkpoints.latest_step()
    if step is None:
        return fresh, Progress()
    state = checkpoints.restore(step, fresh, binding_configs(run, data))
    saved = checkpoints.read(step, "loader")
    batches.set_state(saved["batches"])
    print(f"going on from step {step}")
    return state, Progress(**saved["progress"])
