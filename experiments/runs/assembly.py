"""Builds the parts of a training run: loader, model, optimizer, step."""

import functools
from typing import NamedTuple

import grain
import jax

from experiments.runs.loader import run_loader
from experiments.runs.recall import recall_of
from experiments.runs.resolve import ResolvedRun
from hiertcn_jax.batch import LaneBatch
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.devices.mesh import Layout, place, replicated
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.negatives import Source
from hiertcn_jax.learning.objective import make_sources
from hiertcn_jax.learning.optimizer import Optimizer, OptimizerConfig, learning_rate_schedule
from hiertcn_jax.learning.train_step import TrainStep, make_train_step
from hiertcn_jax.models import Model, build


class Parts(NamedTuple):
    """The parts of a training run.

    Attributes:
      loader: Endless batches, this process's lanes of them.
      model: The model.
      optimizer: Its optimizer.
      step: The jitted training step.
      sources: The negatives that the step draws.
    """

    loader: grain.IterDataset[LaneBatch]
    model: Model
    optimizer: Optimizer
    step: TrainStep
    sources: tuple[Source, ...]


def assemble(run: ResolvedRun) -> Parts:
    """Builds all parts."""
    config, data, plan = run.config, run.data, run.plan
    recall = recall_of(data, config.model, config.train.fit_on)
    replay = None if run.continued is None else run.continued.replay
    loader = run_loader(
        config, data, run.item_rows, recall, replay, jax.process_index(), jax.process_count()
    )
    # A constant learning rate depends on no number of steps.
    constant = config.optimizer.schedule == "constant"
    steps = (0, 0) if constant else (plan.total_steps, plan.steps_per_epoch)
    model, optimizer, step = _program(
        config.model, config.loss, config.optimizer, steps, config.train.seed, run.layout
    )
    given = config.model.item_mode == "given"
    counts_v = None if given else data.counts_v(config.train.fit_on)
    sources = make_sources(config.loss, counts_v)
    if run.layout is not None:
        mesh = run.layout.mesh
        sources = place(sources, jax.tree.map(lambda _: replicated(mesh), sources))
    return Parts(loader, model, optimizer, step, sources)


@functools.lru_cache(maxsize=8)
def _program(
    config: ModelConfig,
    loss: LossConfig,
    optimizer_config: OptimizerConfig,
    steps: tuple[int, int],
    seed: int,
    layout: Layout | None,
) -> tuple[Model, Optimizer, TrainStep]:
    """Equal arguments give the same step, so equal runs in one process compile it once."""
    model = build(config)
    schedule = learning_rate_schedule(optimizer_config, *steps)
    optimizer = Optimizer(optimizer_config, schedule, rows=config.item_mode == "rows")
    return model, optimizer, make_train_step(model, config, loss, optimizer, seed, layout)
