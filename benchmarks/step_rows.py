"""Rows of the training benchmark: a model with its compiled step, state and batches."""

import dataclasses
import functools
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from benchmarks.flops import train_step_flops
from benchmarks.grid import grid_batches, with_grid_rows
from benchmarks.hiergru_grid import HierGRUGrid
from benchmarks.program import accessed_bytes, sequential_steps, temporary_bytes
from benchmarks.users import UserSource
from data_pipelines.histories.record import Split
from data_pipelines.lanes.distinct_items import ItemRows
from data_pipelines.lanes.loaders import train_loader
from data_pipelines.lanes.memory_lists import remember
from hiertcn_jax.batch import FIRST_ITEM_ID, Batch, Bucket, LaneBatch
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.objective import make_sources
from hiertcn_jax.learning.optimizer import Optimizer, OptimizerConfig
from hiertcn_jax.learning.train_state import TrainState, init_train_state
from hiertcn_jax.learning.train_step import make_train_step
from hiertcn_jax.memory.config import KINDS
from hiertcn_jax.models import build, model_config
from hiertcn_jax.models.budget import count_parameters, fit_to_budget
from hiertcn_jax.models.common import SequenceModel
from hiertcn_jax.models.hiergru import HierGRUConfig

ROWS = {
    "hiertcn": "chunks",
    "hiergru": "chunks",
    "gru_user": "chunks",
    "tcn_user": "chunks",
    "sasrec": "chunks",
    "esasrec": "chunks",
    "hstu": "chunks",
    "hiertcn_memory": "chunks",
    "esasrec_memory": "chunks",
    "hstu_memory": "chunks",
    "hiertcn_grid": "grid",
    "hiergru_grid": "grid",
    "hiertcn_grid_tight": "tight",
}
"""The layout of each row's batches. The part of the name before "_grid" is the model."""

_MEMORY = "_memory"
"""Ends the name of a row with terms of memory of all kinds."""

GRID_SESSIONS, GRID_EVENTS = 10, 20
"""The default of the authors' release."""

_LEARNING_RATE = 1e-3
SEED = 0


Shapes = tuple[tuple[int, ...], ...]
"""Shapes of the arrays of a batch: each set of them is a program of its own."""


class Settings(NamedTuple):
    """What to measure.

    Attributes:
      models: Rows, from `ROWS`.
      bucket: Shape of batches of rows on chunks.
      grid_lanes: Lanes of rows on a grid.
      items: Size of the catalogue.
      negatives: Negatives shared by the events of a batch.
      config: Config of hiertcn; the other models get its widths, scaled to as many parameters.
      users: How many to draw; batches read them again and again.
      batches: Different batches of each row.
      rounds: Turns.
      seconds: Approximate time of a row in each turn.
    """

    models: tuple[str, ...]
    bucket: Bucket
    grid_lanes: int
    items: int
    negatives: int
    config: ModelConfig
    users: int
    batches: int
    rounds: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        values = {"bucket": dataclasses.asdict(self.bucket), "config": self.config.to_dict()}
        return self._asdict() | values


class Row:
    """One model with its step, state and batches.

    Attributes:
      config: The model's config.
      layout: From `ROWS`.
      batches: Used in turns; of several shapes if the grid is tight, or with memory in `rows` mode.
      step: The jitted step; its arguments are `arguments`.
      compile_s: Seconds of tracing and compiling all shapes; 0 before `compile`.
    """

    def __init__(self, name: str, settings: Settings, users: UserSource) -> None:
        self.layout = ROWS[name]
        self._settings = settings
        self.config = row_config(name, settings.config)
        elements = make_batches(self.layout, self.config, settings, users)
        self.batches = [element.batch for element in elements]
        self._events = [np.count_nonzero(element.info.item_ids_bl) for element in elements]
        self._model = build_model(self.config, self.layout)
        rows, lanes = settings.items + FIRST_ITEM_ID, self.batches[0].bucket.lanes
        is_rows = self.config.item_mode == "rows"
        schedule = optax.constant_schedule(_LEARNING_RATE)
        optimizer = Optimizer(OptimizerConfig(), schedule, is_rows)
        loss = LossConfig(negatives=(("uniform", settings.negatives),))
        counts_v = np.ones(rows)
        counts_v[:FIRST_ITEM_ID] = 0
        self._sources = make_sources(loss, counts_v)
        self.step: Any = make_train_step(self._model, self.config, loss, optimizer, SEED)
        key = jax.random.key(SEED)
        self._init = functools.partial(
            init_train_state, key, self._model, self.config, optimizer, lanes, rows
        )
        # Only shapes until `compile`, so that looking at the step costs no state.
        self._state: TrainState = jax.eval_shape(self._init)
        self._next = itertools.cycle(range(len(self.batches)))
        self._programs: dict[Shapes, Any] = {}
        self.compile_s = 0.0

    def arguments(self, batch: Batch) -> tuple[TrainState, Batch, Any]:
        """Arguments of the step; before `compile` the state is only shapes."""
        return self._state, batch, self._sources

    def compile(self) -> None:
        """Compiles the step for all shapes of the batches, and makes the state."""
        clock = time.perf_counter()
        for batch in self.batches:
            if _shapes(batch) not in self._programs:
                lowered = self.step.lower(*self.arguments(batch))
                self._programs[_shapes(batch)] = lowered.compile()
        self.compile_s = time.perf_counter() - clock
        self._state = self._init()

    def program_texts(self) -> list[str]:
        """The compiled programs as HLO, one per shape."""
        return [program.as_text() for program in self._programs.values()]

    def run(self, steps: int) -> tuple[int, float]:
        """Real events of this many steps, and the seconds that they took."""
        indices = list(itertools.islice(self._next, steps))
        clock = time.perf_counter()
        for index in indices:
            batch = self.batches[index]
            self._state, _ = self._programs[_shapes(batch)](self._state, batch, self._sources)
        jax.block_until_ready(self._state)
        return sum(self._events[index] for index in indices), time.perf_counter() - clock

    def warm_up(self) -> int:
        """Runs each program once, and returns how many steps fill the seconds of a turn."""
        self.run(len(self.batches))
        _, seconds = self.run(len(self.batches))
        return max(1, round(self._settings.seconds * len(self.batches) / seconds))

    def figures(self) -> dict[str, float]:
        """Figures that do not depend on the clock, and the compilation time."""
        events, slots, flops = sum(self._events), 0, 0
        cost = {shapes: accessed_bytes(program) for shapes, program in self._programs.items()}
        # All or nothing: with some compilers XLA counts no bytes.
        moved = [cost[_shapes(batch)] for batch in self.batches]
        counted = sum(one for one in moved if one is not None) if None not in moved else None
        for batch in self.batches:
            bucket = batch.bucket
            slots += bucket.lanes * bucket.events
            flops += train_step_flops(
                self.config, bucket, self._settings.negatives, self.layout != "chunks"
            )
        return {
            "useful_slots": round(events / slots, 4),
            "events_per_step": round(events / len(self.batches)),
            "parameters": count_parameters(self.config),
            "compile_s": round(self.compile_s, 2),
            "flops_per_event": round(flops / events),
            **({} if counted is None else {"bytes_per_event": round(counted / events)}),
            "peak_bytes": max(map(temporary_bytes, self._programs.values())),
            "sequential_steps": self.sequential_steps(),
        }

    def sequential_steps(self) -> int:
        """Steps of a batch's forward pass that have to wait for one another."""
        params, batch = self._state.params, self.batches[0]
        batch = batch.with_embeddings(params["items"].input_vd)
        traced = jax.make_jaxpr(self._model.apply)(
            {"params": params["model"]}, batch, self._state.carry
        )
        return sequential_steps(traced.jaxpr)


def _shapes(batch: Batch) -> Shapes:
    return tuple(np.shape(array) for array in jax.tree.leaves(batch))


def model_name(row: str) -> str:
    """The model of a row."""
    return row.partition("_grid")[0].removesuffix(_MEMORY)


def row_config(row: str, hiertcn: ModelConfig) -> ModelConfig:
    """The config of a row's model; terms of memory come on top of its equal number of parameters.

    Raises:
      ValueError: As `equal_config`.
    """
    config = equal_config(model_name(row), hiertcn)
    return dataclasses.replace(config, memory=KINDS) if row.endswith(_MEMORY) else config


def equal_config(name: str, hiertcn: ModelConfig) -> ModelConfig:
    """The model's config with as many parameters as hiertcn, not counting the item table.

    Raises:
      ValueError: The smallest model of this name has more.
    """
    if name == "hiertcn":
        return hiertcn
    config = model_config(
        name,
        item_dim=hiertcn.item_dim,
        item_mode=hiertcn.item_mode,
        dropout=hiertcn.dropout,
        dtype=hiertcn.dtype,
    )
    return fit_to_budget(config, count_parameters(hiertcn))


def build_model(config: ModelConfig, layout: str) -> SequenceModel:
    """The cheapest form of the model for batches of this layout."""
    if isinstance(config, HierGRUConfig) and layout != "chunks":
        return HierGRUGrid(config)
    return build(config)


def make_batches(
    layout: str, config: ModelConfig, settings: Settings, users: UserSource
) -> Sequence[LaneBatch]:
    """The batches of a row."""
    rows = settings.items + FIRST_ITEM_ID
    items = ItemRows(rows, settings.negatives) if config.item_mode == "rows" else None
    if layout == "chunks":
        recall = remember(users, rows, Split.TRAIN) if config.memory else None
        loader = train_loader(
            users, settings.bucket, seed=SEED, item_rows=items, recall=recall, prefetch=0
        )
        return list(itertools.islice(loader, settings.batches))
    # A grid's batch holds fewer events, so more batches are needed to meet as many sessions.
    endless: Iterator[LaneBatch] = grid_batches(
        users,
        settings.grid_lanes,
        GRID_SESSIONS,
        GRID_EVENTS,
        seed=SEED,
        tight=layout == "tight",
    )
    batches = list(itertools.islice(endless, 2 * settings.batches))
    return batches if items is None else with_grid_rows(batches, items, settings.grid_lanes, SEED)
