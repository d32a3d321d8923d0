"""The steps over users' states: update a state with events, and predict the next event."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from hiertcn_jax.batch import Batch, NextEvent
from hiertcn_jax.devices.distinct_items import resolve_items
from hiertcn_jax.devices.mesh import Layout, lane_shardings
from hiertcn_jax.models import Model
from hiertcn_jax.models.queries import next_queries
from hiertcn_jax.scoring.scores import Queries


class StateSteps(NamedTuple):
    """The steps, each jitted once per bucket.

    Attributes:
      observe: `(params, batch, carry) -> carry`; the old carry is donated.
      predict: `(params, next_event, carry) -> u_bd`, the embeddings of the users; the carry stays.
      ask: `(params, next_event, carry) -> queries`: with what memory adds to the scores.
    """

    observe: Callable[[dict[str, Any], Batch, Any], Any]
    predict: Callable[[dict[str, Any], NextEvent, Any], Any]
    ask: Callable[[dict[str, Any], NextEvent, Any], Queries]


def make_state_steps(model: Model, layout: Layout | None = None) -> StateSteps:
    """The steps of a model.

    Args:
      model: The model.
      layout: Where parameters and lanes are, if on several devices.
    """

    def over_lanes(out: Any) -> Any:
        if layout is None:
            return out
        return jax.lax.with_sharding_constraint(out, lane_shardings(out, layout.mesh))

    def observe(params: dict[str, Any], batch: Batch, carry: Any) -> Any:
        if layout is not None:
            batch = resolve_items(batch, layout)
        batch = batch.with_embeddings(params["items"].with_given(batch.items).input_vd)
        variables = {"params": params["model"]}
        return over_lanes(model.apply(variables, batch, carry, method="observe"))

    def predict(params: dict[str, Any], event: NextEvent, carry: Any) -> Any:
        variables = {"params": params["model"]}
        return over_lanes(model.apply(variables, event, carry, method="predict"))

    def ask(params: dict[str, Any], event: NextEvent, carry: Any) -> Queries:
        return over_lanes(next_queries(model, params["model"], event, carry))

    return StateSteps(jax.jit(observe, donate_argnums=2), jax.jit(predict), jax.jit(ask))
