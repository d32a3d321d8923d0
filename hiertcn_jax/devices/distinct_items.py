"""The items of a batch on several devices, where no process knows them all.

In `rows` mode of several processes the distinct items are found on the device: a process knows the
items of its own lanes only, and the lazy optimizer needs each row of the batch once. The ids of all
lanes are small beside their embeddings, so the devices exchange those.

In `given` mode each process brings the rows of its own lanes' items, and the devices hand them each
other, so that each has one list of the items of all lanes: candidates are compared with the targets
of every lane, and an item has to be the same one for all of them.
"""

import jax
import jax.numpy as jnp

from hiertcn_jax.batch import PADDING_ID, UNKNOWN_ID, Batch, GivenItems, ListedItems, RowItems
from hiertcn_jax.devices.mesh import Layout, replicated

_SIZE_QUANTUM = 128
"""The room for distinct items is a multiple of this: rows fill the tiles of an accelerator."""


def resolve_items(batch: Batch, layout: Layout) -> Batch:
    """`given` mode: what the batch brings of its items on every device, ids places in that.

    Of an item that several processes have listed the first place counts, so equal items have equal
    ids; padding and unknown, which begin every list, stay at 0 and 1.

    Args:
      batch: What it brings of its items lies over `data`.
      layout: Where the batch lies.

    Returns:
      A batch of `GivenItems`. One whose items are of another kind stays as it is.
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
    places = {
        name: order_u[jnp.searchsorted(sorted_u, ids)].astype(jnp.int32)
        for name, ids in batch.ids.items()
    }
    return batch.replace(items=GivenItems(items.table_ud, items.log_q_mu), **places)


def with_distinct_rows(batch: Batch, layout: Layout) -> Batch:
    """A batch of `RowItems` from one of `TableItems`.

    What `data_pipelines.lanes.distinct_items.to_local_ids` gives on the host, for the lanes of all
    processes.

    Args:
      batch: With ids of the table.
      layout: Where batch and table lie.
    """
    fields = batch.ids
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
    return batch.replace(items=RowItems(distinct_u), **changes)
