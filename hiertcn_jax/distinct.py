"""`rows` mode on several processes: the distinct items of a batch, found on the device.

A process knows the items of its own lanes only, and the lazy optimizer needs each row of the batch
once. The ids of all lanes are small beside their embeddings, so the devices exchange those.
"""

import jax
import jax.numpy as jnp

from hiertcn_jax.batch import PADDING_ID, UNKNOWN_ID, Batch
from hiertcn_jax.mesh import Layout, replicated

_SIZE_QUANTUM = 128
"""The room for distinct items is a multiple of this: rows fill the tiles of an accelerator."""


def with_distinct_rows(batch: Batch, layout: Layout) -> Batch:
    """Sets `distinct_u`, and makes the other ids of a batch places in it.

    What `data_pipelines.distinct.to_local_ids` gives on the host, for the lanes of all processes.

    Args:
      batch: With ids of the table.
      layout: Where batch and table lie.
    """
    fields = {
        name: ids
        for name in ("item_ids_bl", "negatives_k", "negatives_blk")
        if (ids := getattr(batch, name)) is not None
    }
    # Padding and unknown are the smallest ids, so they come to stand at 0 and 1.
    always = jnp.asarray([PADDING_ID, UNKNOWN_ID], jnp.int32)
    ids_n = jnp.concatenate([always, *(ids.ravel() for ids in fields.values())])
    ids_n = jax.lax.with_sharding_constraint(ids_n, replicated(layout.mesh))
    room = -(-min(layout.rows, ids_n.size) // _SIZE_QUANTUM) * _SIZE_QUANTUM
    distinct_u, place_n = jnp.unique(ids_n, size=room, fill_value=PADDING_ID, return_inverse=True)
    changes, start = {}, len(always)
    for name, ids in fields.items():
        changes[name] = place_n[start : start + ids.size].reshape(ids.shape).astype(jnp.int32)
        start += ids.size
    return batch.replace(distinct_u=distinct_u, **changes)
