"""Everything that a training step reads and writes."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from hiertcn_jax.batch import Bucket, padding_batch
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.devices.mesh import Layout, lane_shardings, parameter_shardings, replicated
from hiertcn_jax.learning.optimizer import Optimizer
from hiertcn_jax.models import Model
from hiertcn_jax.scoring.item_table import init_item_table


class TrainState(NamedTuple):
    """State of a run after `step` steps.

    Attributes:
      step: int32, steps done.
      params: `{"model": the Linen parameters, "items": ItemTable}`.
      opt_state: The optimizer's state.
      carry: The model's carry of every training lane.
    """

    step: Int[Array, ""]
    params: dict[str, Any]
    opt_state: optax.OptState
    carry: Any


def state_shardings(state: TrainState, layout: Layout) -> Any:
    """The sharding of each array of a state, as a `TrainState`."""
    mesh = layout.mesh
    step: Any = replicated(mesh)
    return TrainState(
        step,
        parameter_shardings(state.params, mesh),
        parameter_shardings(state.opt_state, mesh),
        lane_shardings(state.carry, mesh),
    )


def init_train_state(
    key: jax.Array,
    model: Model,
    config: ModelConfig,
    optimizer: Optimizer,
    lanes: int,
    rows: int,
    layout: Layout | None = None,
) -> TrainState:
    """A fresh state.

    Args:
      key: PRNG key of the parameters.
      model: The model.
      config: Its config.
      optimizer: Its optimizer.
      lanes: `b`, lanes of a training batch.
      rows: `v`, rows of the item table.
      layout: Where the state is, if on several devices. The numbers are the same as on one.
    """
    return _make_init(model, config, optimizer, lanes, rows, layout)(key)


@functools.lru_cache(maxsize=8)
def _make_init(
    model: Model,
    config: ModelConfig,
    optimizer: Optimizer,
    lanes: int,
    rows: int,
    layout: Layout | None,
) -> Callable[[jax.Array], TrainState]:
    """The jitted `key -> state`. Equal arguments give the same, so it is compiled once."""

    def init(key: jax.Array) -> TrainState:
        model_key, items_key = jax.random.split(key)
        items = init_item_table(items_key, rows, config)
        if layout is not None:
            items = jax.tree.map(
                lambda table: jnp.pad(
                    table, [(0, layout.table_rows - rows)] + [(0, 0)] * (table.ndim - 1)
                ),
                items,
            )
        # Parameters depend only on widths, so no event and one row of the table suffice.
        probe = padding_batch(Bucket(1, 1, 1)).with_embeddings(items.input_vd[:1])
        variables = model.init(model_key, probe, model.init_carry(1))
        params = {"model": variables["params"], "items": items}
        return TrainState(
            jnp.zeros((), jnp.int32), params, optimizer.init(params), model.init_carry(lanes)
        )

    shardings = None
    if layout is not None:
        shardings = state_shardings(jax.eval_shape(init, jax.random.key(0)), layout)
    # One program compiles several times as fast as its single operations.
    return jax.jit(init, out_shardings=shardings)
