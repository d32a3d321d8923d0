"""What a training run is made of, from its configs and its data."""

import dataclasses
import functools
import math
from typing import NamedTuple

import grain
import jax
import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.lanes.distinct_items import ItemRows
from data_pipelines.lanes.loaders import train_loader, useful_slots
from experiments.runs.config import RunConfig
from experiments.runs.data import Data, require_width
from hiertcn_jax.batch import FIRST_ITEM_ID, Bucket, LaneBatch
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.devices.mesh import DATA, Layout, MeshError, make_mesh, place, replicated
from hiertcn_jax.learning.item_mode import choose_item_mode
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.negatives import Source
from hiertcn_jax.learning.objective import make_sources
from hiertcn_jax.learning.optimizer import Optimizer, learning_rate_schedule
from hiertcn_jax.learning.train_step import TrainStep, make_train_step
from hiertcn_jax.models import Model, build

_SURVEYED_BATCHES = 50
"""Batches that are looked at to turn epochs into steps."""


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


class Parts(NamedTuple):
    """The parts of a training run.

    Attributes:
      loader: Batches without end.
      plan: How many of them.
      model: The model.
      optimizer: Its optimizer.
      step: The jitted training step.
      sources: The negatives that the step draws.
      config: The model's, its item mode chosen.
      layout: Where it all lies, if on several devices.
    """

    loader: grain.IterDataset[LaneBatch]
    plan: Plan
    model: Model
    optimizer: Optimizer
    step: TrainStep
    sources: tuple[Source, ...]
    config: ModelConfig
    layout: Layout | None


def make_layout(
    parallelism: tuple[int, int], rows: int, given: bool, **lanes: int
) -> Layout | None:
    """Where a run lies; None on one device.

    Args:
      parallelism: Devices on `data` and on `model`, see `make_mesh`.
      rows: `v`, rows of the item table.
      given: Whether embeddings are given, so that no table is on a device.
      **lanes: Numbers of lanes that the devices on `data` share, by the names of their flags.

    Raises:
      MeshError: There are no such devices, they do not share the lanes evenly, or there is no
        table for them to share.
    """
    data_parallelism, model_parallelism = parallelism
    if given and model_parallelism > 1:
        raise MeshError(
            f"model_parallelism={model_parallelism}: must be 1 with given embeddings "
            "(item_embeddings): no table is on the devices for them to share"
        )
    mesh = make_mesh(data_parallelism, model_parallelism)
    if mesh is None:
        return None
    shards = mesh.shape[DATA]
    for name, count in lanes.items():
        if count % shards:
            raise MeshError(f"data_parallelism={shards}: must divide {name}={count}")
    return Layout(mesh, rows)


def assemble(run: RunConfig, data: Data) -> Parts:
    """All parts.

    Raises:
      MeshError: There are no such devices.
      ValueError: A config is out of range, or the data has nothing to train on.
      DataError: The loss asks for impressions that the data does not have.
    """
    _require_impressions(run, data)
    run, config = with_item_mode(run, data), run.train
    is_given = run.model.item_mode == "given"
    layout = make_layout(
        (config.data_parallelism, config.model_parallelism),
        data.vocabulary.size,
        is_given,
        lanes=config.lanes,
        eval_lanes=run.evaluation.lanes,
    )
    make_loader = functools.partial(
        train_loader,
        data.histories,
        Bucket(config.lanes, config.events, config.sessions),
        seed=config.seed,
        fit_on=config.fit_on,
        impressions=run.loss.impressions,
    )
    loader = make_loader(
        item_rows=_item_rows(run, data),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    # What the items of a batch are does not matter to the plan, which is that of all processes.
    plan = _make_plan(run, data, make_loader())
    model = build(run.model)
    schedule = learning_rate_schedule(run.optimizer, plan.total_steps, plan.steps_per_epoch)
    optimizer = Optimizer(run.optimizer, schedule, rows=run.model.item_mode == "rows")
    step = make_train_step(model, run.model, run.loss, optimizer, config.seed, layout)
    sources = make_sources(run.loss, None if is_given else data.counts_v(config.fit_on))
    if layout is not None:
        sources = place(sources, jax.tree.map(lambda _: replicated(layout.mesh), sources))
    return Parts(loader, plan, model, optimizer, step, sources, run.model, layout)


def _require_impressions(run: RunConfig, data: Data) -> None:
    asked, kept = run.loss.impressions, data.manifest.get("impressions", {}).get("cap", 0)
    if asked and not kept:
        raise DataError(
            f"{data.directory}: has no impressions for negatives=impressions:{asked}; prepare it "
            "with --impressions"
        )
    if asked > kept:
        raise DataError(
            f"{data.directory}: keeps {kept} impressions of an event at most (--impression_cap), "
            f"not the {asked} of negatives=impressions:{asked}; ask for fewer, or prepare with a "
            "higher --impression_cap"
        )


def with_item_mode(run: RunConfig, data: Data) -> RunConfig:
    """The run with its item mode chosen for its data.

    Raises:
      DataError: Embeddings are of another width, or some are missing that cannot be learned.
      ValueError: The mode does not go with the rest.
    """
    given = data.embeddings is not None
    require_width(data.embeddings, run.model.item_dim)
    unseen = int(np.sum(data.counts_v(run.train.fit_on)[FIRST_ITEM_ID:] == 0))
    if unseen and not given:
        raise DataError(
            f"{data.directory}: {unseen:,} items of the catalogue have no event to learn from; "
            "they need item_embeddings, or prepare it without --catalogue"
        )
    return run._replace(model=choose_item_mode(run.model, run.loss, data.vocabulary.size, given))


def _make_plan(run: RunConfig, data: Data, loader: grain.IterDataset[LaneBatch]) -> Plan:
    slots = run.train.lanes * run.train.events
    events_per_step = useful_slots(loader, _SURVEYED_BATCHES) * slots
    steps_per_epoch = math.ceil(data.fitted_events(run.train.fit_on) / events_per_step)
    return Plan(
        steps_per_epoch,
        run.train.steps or run.train.epochs * steps_per_epoch,
        max(1, round(run.train.eval_every_epochs * steps_per_epoch)),
    )


def _item_rows(run: RunConfig, data: Data) -> ItemRows | None:
    """What the loader draws in `rows` and `given` mode; None in `dense` mode: the step draws."""
    if run.model.item_mode == "dense":
        return None
    counts_v = data.counts_v(run.train.fit_on)
    sources, own = run.loss.drawn_negatives, run.loss.impressions
    drawn = [pair for pair in sources if pair[0] != "in_batch"]
    rows = ItemRows(len(counts_v), impressions=own)
    if drawn:
        total = sum(count for _, count in drawn)
        # Draws from the mixture of the sources are in expectation draws from each by its share.
        weight_v = np.zeros(len(counts_v))
        for source, count in drawn:
            weight_v += count / total * _source_share(run.loss, source, counts_v)
        rows = ItemRows(len(counts_v), total, not run.loss.own_negatives, weight_v, own)
    if data.embeddings is None:
        return rows
    with np.errstate(divide="ignore"):
        log_q_mv = tuple(
            np.log(_source_share(run.loss, source, counts_v)).astype(np.float32)
            for source, _ in sources
        )
    return dataclasses.replace(rows, given=data.embeddings, log_q_mv=log_q_mv)


def _source_share(loss: LossConfig, source: str, counts_v: np.ndarray) -> np.ndarray:
    """float64 [v]. The probability of each row of the item table under a source of negatives."""
    alpha = {"uniform": 0.0, "in_batch": 1.0}.get(source, loss.popularity_alpha)
    share_v = (counts_v > 0) * counts_v**alpha
    return share_v / share_v.sum()
