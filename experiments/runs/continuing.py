"""A run that continues another one on a log that goes on: what it starts from, what it learns."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax

from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from data_pipelines.lanes.loaders import fit_stream
from data_pipelines.lanes.replay import Replay, find_neighbours, find_replay
from data_pipelines.raw.times import to_iso
from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig, TrainConfig
from experiments.runs.data import Data
from experiments.runs.recall import last_counted
from experiments.runs.restore import Restored, restore_training
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.learning.growing import NewItems, continued_state
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.learning.train_state import TrainState

REPLAY_SHARE = 0.3
"""Default share of older events among those to learn."""

_ONE_PASS: dict[str, Any] = {"epochs": 1, "steps": 0, "patience": 0}
"""What a run does not take from the one before: how long to train."""


class Continued(NamedTuple):
    """What a run continues.

    Attributes:
      workdir: The run to start from.
      step: Its checkpoint.
      data_hash: The content hash of its log.
      rows: Rows of its item table.
      share: Share of older events among those to learn.
      replay: Which events to learn.
    """

    workdir: Path
    step: int
    data_hash: str
    rows: int
    share: float
    replay: Replay

    @property
    def saved(self) -> dict[str, Any]:
        """The JSON values that a checkpoint keeps of it."""
        return {
            "step": self.step,
            "content_hash": self.data_hash,
            "since": self.replay.since,
            "replay_share": self.share,
        }


def config_of(restored: Restored) -> RunConfig:
    """The settings with which a run is continued, where no others are given."""
    configs = restored.configs
    train = TrainConfig.from_dict(configs["train"])
    return RunConfig(
        restored.config,
        LossConfig.from_dict(configs["loss"]),
        OptimizerConfig.from_dict(configs["optimizer"]),
        dataclasses.replace(train, **_ONE_PASS, data_parallelism=1, model_parallelism=1),
        EvalConfig.from_dict(configs["evaluation"]),
    )


def continue_on(
    restored: Restored, workdir: Path, data: Data, train: TrainConfig, share: float
) -> Continued:
    """Decides what a run learns that continues another one.

    Args:
      restored: The other run.
      workdir: Its directory.
      data: A log that continues the other run's, or that log itself with later cuts.
      train: The settings of the new run.
      share: See `Continued`.

    Raises:
      DataError: The log does not continue the other run's, is not split by time, or has no new
        events; or the run is to be on several devices.
    """
    since = fitted_until(restored, workdir, data)
    continued = continue_since(restored, workdir, data, train, share, since)
    if continued is None:
        until = data.cut(last_counted(train.fit_on))
        raise DataError(
            f"{data.directory}: nothing to learn: {workdir} was fitted on the events before "
            f"{to_iso(1000 * since)}, and this log is fitted until "
            f"{'its end' if until is None else to_iso(1000 * until)}; append with later "
            "--valid_after and --test_after, or add --fit_on=train_valid"
        )
    return continued


def continue_since(
    restored: Restored, workdir: Path, data: Data, train: TrainConfig, share: float, since: int
) -> Continued | None:
    """As `continue_on`, for a run that was fitted on the events before `since`, in seconds.

    None: there are no new events.
    """
    if (train.data_parallelism, train.model_parallelism) != (1, 1):
        raise DataError(
            f"{workdir}: a run is continued on one device; leave --data_parallelism and "
            "--model_parallelism out"
        )
    rows = restored.configs["data"]["rows"]
    if rows > data.vocabulary.size:
        raise DataError(
            f"{data.directory}: has {data.vocabulary.size - FIRST_ITEM_ID:,} items, but {workdir} "
            f"was trained on {rows - FIRST_ITEM_ID:,}; name the log that continues its log"
        )
    last = last_counted(train.fit_on)
    stream = fit_stream(train.fit_on, data.cut(last))
    replay = find_replay(data.histories, stream, since, share, train.seed)
    if not replay.new_events:
        return None
    content_hash = restored.configs["data"]["content_hash"]
    return Continued(workdir, restored.step, content_hash, rows, share, replay)


def start_state(continued: Continued, fresh: TrainState, data: Data, fit_on: str) -> TrainState:
    """The state to start from: that of the other run, with rows for more items.

    Args:
      continued: What the run continues.
      fresh: A fresh state of the run.
      data: Its log.
      fit_on: The part that it is fitted on.
    """
    _, old = restore_training(continued.workdir, str(continued.step))
    counts_v = data.counts_v(fit_on)
    stream = fit_stream(fit_on, data.cut(last_counted(fit_on)))
    users, rows = continued.replay.users, continued.rows
    pairs = find_neighbours(data.histories, users, stream, rows)
    return jax.device_put(continued_state(fresh, old, NewItems(*pairs, counts_v)))


def fitted_until(restored: Restored, workdir: Path, data: Data) -> int:
    """Seconds. No event from then on was fitted by a run.

    Args:
      restored: The run.
      workdir: Its directory, for messages.
      data: The log that it was trained on, or one that continues it.

    Raises:
      DataError: It is another log, or was not split by time.
    """
    manifest, content_hash = data.manifest, restored.configs["data"]["content_hash"]
    last = last_counted(restored.configs["train"]["fit_on"])
    for one in (manifest, *manifest.get("ancestors", [])):
        if one["content_hash"] == content_hash:
            if "cuts" not in one:
                raise DataError(
                    f"{data.directory}: was not split by time, so it is not known which events "
                    "are new; prepare it with --split=time to continue runs"
                )
            return one["cuts"]["valid_after" if last == Split.TRAIN else "test_after"]
    raise DataError(
        f"{data.directory}: does not continue the log that {workdir} was trained on "
        f"({content_hash}); append to that log: hiertcn prepare --previous=..."
    )
