"""The items of a batch on several devices, where no process knows them all.

In `rows` mode of several processes the distinct items are found on the device: a process knows the
items of its own lanes only, and the lazy optimizer needs each row of the batch once. The ids of all
lanes are small beside their embeddings, so the devices exchange those.

In `given` mode each process brings the rows of its own lanes' items, and the devices hand them each
other, so that each has one list of the items of all lanes: candidates are compared with the targets
of every lane, and an item has to be the same one for all of them.
"""

from typing import Any

import jax
import jax.numpy as jnp

from hiertcn_jax.batch import PADDING_ID, UNKNOWN_ID, Batch
from hiertcn_jax.devices.mesh import Layout, replicated

_SIZE_QUANTUM = 128
"""The room for distinct items is a multiple of this: rows fill the tiles of an accelerator."""


def with_listed_rows(batch: Batch, layout: Layout) -> Batch:
    """`given` mode: what the batch brings of its items on every device; ids are places in that.

    Of an item that several processes have listed the first place counts, so equal items have equal
    ids; padding and unknown, which begin every list, stay at 0 and 1.

    Args:
      batch: Its items' rows lie over `data`. Without `item_table_ud` it stays as it is.
      layout: Where the batch lies.
    """
    if batch.item_table_ud is None:
        return batch
    whole = replicated(layout.mesh)
    names = ("item_table_ud", "log_q_mu", "listed_u")
    brought = {name: getattr(batch, name) for name in names if getattr(batch, name) is not None}
    batch = batch.replace(
        **jax.lax.with_sharding_constraint(brought, jax.tree.map(lambda _: whole, brought))
    )
    if batch.listed_u is None:
        return batch
    order_u = jnp.argsort(batch.listed_u, stable=True)
    sorted_u = batch.listed_u[order_u]
    places = {
        name: order_u[jnp.searchsorted(sorted_u, ids)].astype(jnp.int32)
        for name, ids in _ids(batch).items()
    }
    return batch.replace(**places)


def with_distinct_rows(batch: Batch, layout: Layout) -> Batch:
    """Sets `distinct_u`, and makes the other ids of a batch places in it.

    What `data_pipelines.lanes.distinct_items.to_local_ids` gives on the host, for the lanes of all
    processes.

    Args:
      batch: With ids of the table.
      layout: Where batch and table lie.
    """
    fields = _ids(batch)
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


def _ids(batch: Batch) -> dict[str, Any]:
    """The fields that hold ids of events and negatives."""
    names = ("item_ids_bl", "negatives_k", "negatives_blk")
    return {name: ids for name in names if (ids := getattr(batch, name)) is not None}
