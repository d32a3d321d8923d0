"""Converts epochs to steps; how many depends on how full the batches of a log are."""

import math
from typing import NamedTuple

from data_pipelines.lanes.loaders import useful_slots
from data_pipelines.lanes.replay import Replay
from experiments.runs.config import RunConfig
from experiments.runs.data import Data
from experiments.runs.loader import run_loader

_SURVEYED_BATCHES = 50
"""Batches to look at for this."""


class Plan(NamedTuple):
    """Epochs as steps.

    Attributes:
      steps_per_epoch: Steps of one pass over the fitted events.
      total_steps: Steps of the run.
      eval_every: Steps between validations.
    """

    steps_per_epoch: int
    total_steps: int
    eval_every: int


def make_plan(run: RunConfig, data: Data, replay: Replay | None = None) -> Plan:
    """The plan of a run, the same for all of its processes.

    Args:
      run: Its settings.
      data: Its log.
      replay: What it learns, if it continues another run.

    Raises:
      ValueError: The data has nothing to train on.
    """
    bucket = run.train.bucket
    slots = bucket.lanes * bucket.events
    loader = run_loader(run, data, replay=replay)
    events_per_step = useful_slots(loader, _SURVEYED_BATCHES) * slots
    events = data.fitted_events(run.train.fit_on) if replay is None else replay.events
    steps_per_epoch = math.ceil(events / events_per_step)
    return Plan(
        steps_per_epoch,
        run.train.steps or run.train.number("epochs") * steps_per_epoch,
        max(1, round(run.train.eval_every_epochs * steps_per_epoch)),
    )
