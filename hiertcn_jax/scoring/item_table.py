"""Item tables: the embeddings that the model reads, and those that it scores items with.

The table is separate from the model's parameters, because a step need not see all of it. In `dense`
mode a batch refers to the whole table, in `rows` mode to the rows that it touches. In `given` mode
the loader brings those rows, and only the rows of padding and unknown are learned.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hiertcn_jax.batch import FIRST_ITEM_ID, GivenItems, Items
from hiertcn_jax.config import ModelConfig


class ItemTable(NamedTuple):
    """Learned rows of all items, or of those in a batch (then u instead of v).

    Attributes:
      input_vd: float32. Embeddings that the model reads.
      output_vd: float32 or None. Embeddings that items are scored with; None: `input_vd`.
      bias_v: float32 or None. Added to an item's score.
    """

    input_vd: Float[Array, "v d"]
    output_vd: Float[Array, "v d"] | None
    bias_v: Float[Array, " v"] | None

    def rows(self, ids_u: Int[Array, " u"]) -> "ItemTable":
        """The table restricted to these rows."""
        return jax.tree.map(lambda table: jnp.take(table, ids_u, axis=0), self)

    def with_given(self, items: Items) -> "ItemTable":
        """The rows that a batch's ids refer to, if this is the table of `given` mode.

        A batch with another kind of items brings no rows: its ids refer to this table.
        """
        if not isinstance(items, GivenItems):
            return self
        given_ud = jnp.asarray(items.table_ud[FIRST_ITEM_ID:], self.input_vd.dtype)
        return self._replace(input_vd=jnp.concatenate([self.input_vd, given_ud]))


def with_later_items(items: ItemTable, rows: int) -> ItemTable:
    """The table with rows for items that it does not have yet: all get the mean of its items' rows.

    A softmax does not change if one vector is added to the rows of all items, so only what sets a
    row apart from the others has a meaning. The mean row says: nothing is known of this item yet.
    What is known, such as its counts, comes as additions.

    Args:
      items: A table of learned rows.
      rows: `v`, rows of the result.
    """
    later = rows - len(items.input_vd)

    def grown(table: jax.Array) -> jax.Array:
        mean = table[FIRST_ITEM_ID:].mean(0, keepdims=True)
        return jnp.concatenate([table, jnp.broadcast_to(mean, (later, *mean.shape[1:]))])

    return jax.tree.map(grown, items)


def init_item_table(key: jax.Array, rows: int, config: ModelConfig) -> ItemTable:
    """Fresh rows, normal with the deviation 1/sqrt(d), so that products of two are about 1/sqrt(d).

    Args:
      key: PRNG key.
      rows: `v`; in `given` mode only the rows of padding and unknown are made.
      config: Uses `item_dim`, `tied_output`, `item_bias` and `item_mode`.
    """
    rows = FIRST_ITEM_ID if config.item_mode == "given" else rows
    input_key, output_key = jax.random.split(key)
    shape, scale = (rows, config.item_dim), config.item_dim**-0.5
    return ItemTable(
        input_vd=scale * jax.random.normal(input_key, shape),
        output_vd=None if config.tied_output else scale * jax.random.normal(output_key, shape),
        bias_v=jnp.zeros(rows) if config.item_bias else None,
    )
