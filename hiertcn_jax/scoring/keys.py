"""Makes the keys of an item table: the rows and biases with which its items are scored."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from hiertcn_jax.config import ModelConfig
from hiertcn_jax.layers.masking import safe_l2_normalize
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.scores import Keys


def item_keys(
    items: ItemTable, config: ModelConfig, ids: Int[Array, "*batch"] | None = None
) -> Keys:
    """The keys of the items of a table.

    Args:
      items: The table.
      config: `normalize` decides whether rows are L2-normalized.
      ids: The rows to use; None for all.
    """
    table_vd = items.input_vd if items.output_vd is None else items.output_vd
    rows = table_vd if ids is None else jnp.take(table_vd, ids, axis=0)
    bias = items.bias_v
    if bias is not None and ids is not None:
        bias = jnp.take(bias, ids, axis=0)
    return Keys(safe_l2_normalize(rows) if config.normalize == "both" else rows, bias)
