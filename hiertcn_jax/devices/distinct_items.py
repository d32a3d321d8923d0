"""Finds the distinct items of a batch on several devices, where no process knows them all.

In `rows` mode with several processes, each process knows only the items of its own lanes, and the
lazy optimizer needs each row of the batch once. So the devices find the distinct items. They
exchange the ids of all lanes, which are small compared to embeddings.

In `given` mode each process brings the rows of its own lanes' items, and the devices exchange them,
so that each has the same list of the items of all lanes: candidates are compared with the targets
of every lane, and an item must have the same id on all devices.
"""

import jax
import jax.numpy as jnp

from hiertcn_jax.batch import PADDING_ID, UNKNOWN_ID, Batch, GivenItems, ListedItems, RowItems
from hiertcn_jax.devices.mesh import Layout, replicated

_SIZE_QUANTUM = 128
"""The room for distinct items is a multiple of this, so that rows fill an accelerator's tiles."""


def resolve_items(batch: Batch, layout: Layout) -> Batch:
    """`given` mode: gathers the batch's embeddings on every device; ids become positions in them.

    If several processes list an item, its first position counts, so equal items have equal ids.
    Padding and unknown, which begin every list, stay at 0 and 1.

    Args:
      batch: Its embeddings are sharded over `data`.
      layout: Where the batch is.

    Returns:
      A batch of `GivenItems`. A batch with items of another kind is returned unchanged.
    """
    if not isinstance(batch.items, GivenItems | ListedItems):
        return batch
    items = jax.lax.with_sharding_constraint(
        batch.items, jax.tree.map(lambda _: replicated(layout.mesh), batch.items)
    )
    if isinstance(items, GivenItems):
        return batch.replace(items=items)
    order_u = jnp.argsort(items.listed_u, stable=True)
    sorted_u = items.listed_u[order_u]
    local_ids = {
        name: order_u[jnp.searchsorted(sorted_u, ids)].astype(jnp.int32)
        for name, ids in batch.ids.items()
    }
    return batch.replace(items=GivenItems(items.table_ud, items.log_q_mu), **local_ids)


def with_distinct_rows(batch: Batch, layout: Layout) -> Batch:
    """Turns a batch of `TableItems` into one of `RowItems`.

    Equals `data_pipelines.lanes.distinct_items.to_local_ids` on the host, for the lanes of all
    processes.

    Args:
      batch: With ids of the table.
      layout: Where batch and table are.
    """
    fields = batch.ids
    # Padding and unknown are the smallest ids, so they get positions 0 and 1.
    always = jnp.asarray([PADDING_ID, UNKNOWN_ID], jnp.int32)
    ids_n = jnp.concatenate([always, *(ids.ravel() for ids in fields.values())])
    ids_n = jax.lax.with_sharding_constraint(ids_n, replicated(layout.mesh))
    room = -(-min(layout.rows, ids_n.size) // _SIZE_QUANTUM) * _SIZE_QUANTUM
    distinct_u, place_n = jnp.unique(ids_n, size=room, fill_value=PADDING_ID, return_inverse=True)
    changes, start = {}, len(always)
    for name, ids in fields.items():
        changes[name] = place_n[start : start + ids.size].reshape(ids.shape).astype(jnp.int32)
        start += ids.size
    return batch.replace(items=RowItems(distinct_u), **changes)
