"""Builds the parts of a training run: loader, model, optimizer, step."""

from typing import NamedTuple

import grain
import jax

from experiments.runs.loader import run_loader
from experiments.runs.recall import recall_of
from experiments.runs.resolve import ResolvedRun
from hiertcn_jax.batch import LaneBatch
from hiertcn_jax.devices.mesh import place, replicated
from hiertcn_jax.learning.negatives import Source
from hiertcn_jax.learning.objective import make_sources
from hiertcn_jax.learning.optimizer import Optimizer, learning_rate_schedule
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
    loader = run_loader(
        config, data, run.item_rows, recall, jax.process_index(), jax.process_count()
    )
    model, mode = build(config.model), config.model.item_mode
    schedule = learning_rate_schedule(config.optimizer, plan.total_steps, plan.steps_per_epoch)
    optimizer = Optimizer(config.optimizer, schedule, rows=mode == "rows")
    step = make_train_step(
        model, config.model, config.loss, optimizer, config.train.seed, run.layout
    )
    counts_v = None if mode == "given" else data.counts_v(config.train.fit_on)
    sources = make_sources(config.loss, counts_v)
    if run.layout is not None:
        mesh = run.layout.mesh
        sources = place(sources, jax.tree.map(lambda _: replicated(mesh), sources))
    return Parts(loader, model, optimizer, step, sources)
