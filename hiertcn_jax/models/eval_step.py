"""The evaluation step: a model's predictions for a batch, jitted once per bucket."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from hiertcn_jax.batch import Batch
from hiertcn_jax.devices.distinct_items import resolve_items
from hiertcn_jax.devices.mesh import Layout, lane_shardings
from hiertcn_jax.models import Model
from hiertcn_jax.models.queries import batch_queries
from hiertcn_jax.scoring.scores import Queries

EvalStep = Callable[[dict[str, Any], Batch, Any], tuple[Queries, Any]]


@functools.lru_cache(maxsize=16)
def make_eval_step(model: Model, layout: Layout | None = None) -> EvalStep:
    """The jitted `(params, batch, carry) -> (queries, carry)`; it donates the old carry.

    Equal arguments give the same step, so validation and the final evaluations compile it once.

    Args:
      model: The model.
      layout: Where parameters and batch are, if on several devices.
    """

    def step(params: dict[str, Any], batch: Batch, carry: Any) -> tuple[Queries, Any]:
        if layout is not None:
            batch = resolve_items(batch, layout)
        batch = batch.with_embeddings(params["items"].with_given(batch.items).input_vd)
        out = batch_queries(model, params["model"], batch, carry)
        if layout is not None:
            out = jax.lax.with_sharding_constraint(out, lane_shardings(out, layout.mesh))
        return out

    return jax.jit(step, donate_argnums=2)
