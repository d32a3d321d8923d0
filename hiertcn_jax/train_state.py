"""Everything that a training step reads and writes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from hiertcn_jax.batch import Batch
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.embedding import init_item_table
from hiertcn_jax.models import Model
from hiertcn_jax.optimizer import Optimizer, OptimizerState


class TrainState(NamedTuple):
    """State of a run behind `step` steps.

    Attributes:
      step: int32, steps done.
      params: `{"model": the Linen parameters, "items": ItemTable}`.
      opt_state: Moments.
      carry: The model's carry of every training lane.
    """

    step: Int[Array, ""]
    params: dict[str, Any]
    opt_state: OptimizerState
    carry: Any


def init_train_state(
    key: jax.Array, model: Model, config: ModelConfig, optimizer: Optimizer, batch: Batch, rows: int
) -> TrainState:
    """A fresh state.

    Args:
      key: PRNG key of the parameters.
      model: The model.
      config: Its config.
      optimizer: Its optimizer.
      batch: Any batch of the shape to be trained on.
      rows: Rows of the item table, `v`.
    """
    model_key, items_key = jax.random.split(key)
    items = init_item_table(items_key, rows, config)
    lanes = batch.item_ids_bl.shape[0]
    carry = model.init_carry(lanes)
    # Shapes decide the parameters, not the table's content: two rows stand for all.
    probe = batch.replace(
        item_ids_bl=jnp.zeros_like(batch.item_ids_bl), item_table_ud=items.input_vd[:2]
    )
    params = {"model": model.init(model_key, probe, carry)["params"], "items": items}
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), carry)
