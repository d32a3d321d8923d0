"""Resolves a run once: the data decides what flags leave open, and the result is what is saved."""

from typing import Any, NamedTuple

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.lanes.distinct_items import ItemRows
from experiments.runs.config import RunConfig
from experiments.runs.continuing import Continued
from experiments.runs.data import Data, require_width
from experiments.runs.fitted_sizes import fit_sizes
from experiments.runs.layout import make_layout
from experiments.runs.negatives import item_rows, require_impressions
from experiments.runs.plan import Plan, make_plan
from experiments.runs.saved_configs import saved_configs
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.devices.mesh import Layout, devices_on_data
from hiertcn_jax.learning.item_mode import choose_item_mode


class ResolvedRun(NamedTuple):
    """A training run with everything decided.

    Attributes:
      config: Its settings, with the item mode chosen and sizes fitted to the log.
      data: The data to train on.
      plan: Epochs as steps.
      layout: Its layout on devices; None: on one device.
      item_rows: Settings of the loader in `rows` and `given` mode; None: the step draws.
      continued: The run that it continues; None: it starts from its seed.
    """

    config: RunConfig
    data: Data
    plan: Plan
    layout: Layout | None
    item_rows: ItemRows | None
    continued: Continued | None = None

    @property
    def saved(self) -> dict[str, Any]:
        """The JSON values that a checkpoint keeps of it."""
        saved = saved_configs(self.config, self.data)
        return saved if self.continued is None else saved | {"continued": self.continued.saved}


def resolve(run: RunConfig, data: Data, continued: Continued | None = None) -> ResolvedRun:
    """Decides everything that the flags leave to the data.

    Args:
      run: The settings.
      data: The log.
      continued: See `ResolvedRun`.

    Raises:
      DataError: The data lacks what the run needs: impressions, embeddings, or their width.
      MeshError: There are not enough devices, or they cannot share lanes or table.
      ValueError: Settings contradict each other, or the data has nothing to train on.
    """
    run = resolve_config(run, data, 0 if continued is None else continued.rows)
    layout = make_layout(
        (run.train.data_parallelism, run.train.model_parallelism),
        data.vocabulary.size,
        run.model.item_mode == "given",
        lanes=run.train.bucket.lanes,
        eval_lanes=run.evaluation.lanes,
    )
    plan = make_plan(run, data, None if continued is None else continued.replay)
    return ResolvedRun(run, data, plan, layout, item_rows(run, data), continued)


def resolve_config(run: RunConfig, data: Data, learned_rows: int = 0) -> RunConfig:
    """The settings with the item mode chosen and sizes fitted, and without other models' settings.

    Args:
      run: The settings.
      data: The log.
      learned_rows: Rows that the run's item table has from another run.

    Raises:
      DataError: As `resolve`.
      ValueError: The mode contradicts the other settings.
    """
    require_impressions(run, data)
    require_width(data.embeddings, run.model.item_dim)
    given = data.embeddings is not None
    first = max(FIRST_ITEM_ID, learned_rows)
    unseen = int(np.sum(data.counts_v(run.train.fit_on)[first:] == 0))
    if unseen and not given:
        raise DataError(
            f"{data.directory}: {unseen:,} items of the catalogue have no event to learn from; "
            "they need item_embeddings, or prepare it without --catalogue"
        )
    model = choose_item_mode(run.model, run.loss, data.vocabulary.size, given)
    fit_on = run.train.fit_on
    shares = devices_on_data(run.train.data_parallelism, run.train.model_parallelism)
    train = fit_sizes(run.train, data.fitted_events(fit_on), data.fitted_sessions(fit_on), shares)
    return run._replace(model=model, train=train, others={})
