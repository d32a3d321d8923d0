"""Scores what a workdir holds, and baselines beside it, and writes the results."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import polars as pl

from data_pipelines.histories.record import Split
from data_pipelines.loaders import eval_loader
from experiments.data import Data, open_data
from experiments.evaluation import Collector, Evaluation, Evaluator, scored_events
from hiertcn_jax.baselines import Context, FittedHistory, Ranker
from hiertcn_jax.batch import FIRST_ITEM_ID, Bucket
from hiertcn_jax.checkpoint import CheckpointError, Checkpoints
from hiertcn_jax.config import EvalConfig, ModelConfig
from hiertcn_jax.embedding import init_item_table
from hiertcn_jax.models import Model, build

_READ_USERS = 1024
"""Histories that are read at a time."""


class Restored(NamedTuple):
    """A trained model.

    Attributes:
      model: The module.
      config: Its config, from the checkpoint.
      params: Its parameters, from the checkpoint.
      step: The checkpoint's step.
      data_hash: Of the data that it was trained on.
      fit_on: The part that it was fitted on.
      data_dir: Where that data was.
    """

    model: Model
    config: ModelConfig
    params: dict[str, Any]
    step: int
    data_hash: str
    fit_on: str
    data_dir: Path


def restore_run(workdir: Path, checkpoint: str) -> Restored:
    """The model of a run, with the weights of one of its checkpoints.

    Args:
      workdir: The run's directory.
      checkpoint: `best`, `last` or a step.

    Raises:
      CheckpointError: There is no such checkpoint, or it cannot be read.
    """
    directory = workdir / "checkpoints"
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such directory; was {workdir} trained?")
    monitor = _monitor(directory)
    checkpoints = Checkpoints(directory, monitor, read_only=True)
    step = _step(checkpoints, checkpoint, directory)
    configs = checkpoints.read(step, "config")
    config = ModelConfig.from_dict(configs["model"])
    model = build(config)
    optimizer = Optimizer(
        OptimizerConfig.from_dict(configs["optimizer"]), lambda _: 0.0, config.item_mode == "rows"
    )
    lanes, rows = configs["train"]["lanes"], configs["data"]["rows"]
    like = jax.eval_shape(
        lambda: init_train_state(jax.random.key(0), model, config, optimizer, lanes, rows)
    )
    state = checkpoints.restore(step, like, {"model": configs["model"]})
    checkpoints.close()
    return Restored(model, config, state.params, step, configs)
