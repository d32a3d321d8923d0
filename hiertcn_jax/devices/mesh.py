"""Where arrays are on many devices: lanes over the axis `data`, item table rows over `model`.

One mesh holds all devices of all processes. A device holds the lanes of its index on `data` and the
table rows of its index on `model`; everything else is on every device. Steps are written for whole
arrays, and XLA partitions them; where XLA must not gather an array, the code maps over devices
explicitly.

If `model` does not divide the rows of a table, rows of zeros fill it up; no id refers to them.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hiertcn_jax.batch import Batch, GivenItems, ListedItems
from hiertcn_jax.scoring.item_table import ItemTable

DATA, MODEL = "data", "model"

REPLICATED, LANES, ROWS = PartitionSpec(), PartitionSpec(DATA), PartitionSpec(MODEL)


class MeshError(ValueError):
    """There are not enough devices for a mesh, or not the right ones; the message is one line."""


def devices_on_data(data: int, model: int) -> int:
    """How many devices share the lanes; arguments as of `make_mesh`."""
    all_of_several = data == 1 and jax.process_count() > 1
    return max(1, jax.device_count() // model) if all_of_several else data


def make_mesh(data: int, model: int) -> Mesh | None:
    """The mesh of `data` x `model` devices; None for one device, which needs none.

    Devices of a process are neighbours on `data`, in the order of the processes: process p of P
    holds the lanes p*b/P.., and the whole table.

    Args:
      data: Devices that share the lanes. With several processes all their devices must be in the
        mesh, and 1 means as many as there are.
      model: Devices that share the table, for each of these.

    Raises:
      MeshError: There are too few devices; or there are several processes, and the mesh leaves
        devices out, or divides the table between processes.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if jax.process_count() > 1:
        if jax.local_device_count() % model:
            raise MeshError(
                f"model_parallelism={model}: must divide the {jax.local_device_count()} devices of "
                "a process"
            )
        data = devices_on_data(data, model)
    asked = f"data_parallelism={data}, model_parallelism={model}: a mesh of {data * model} devices"
    if data * model > len(devices):
        raise MeshError(f"{asked}, but there are {len(devices)}; ask for fewer")
    if jax.process_count() > 1 and data * model < len(devices):
        raise MeshError(
            f"{asked}, but the {jax.process_count()} processes have {len(devices)}, and all must "
            "be in it; set data_parallelism=1 for all of them"
        )
    if data * model == 1:
        return None
    grid = np.asarray(devices[: data * model]).reshape(data, model)
    return Mesh(grid, (DATA, MODEL), axis_types=(AxisType.Auto, AxisType.Auto))


class Layout(NamedTuple):
    """Where the arrays of a run are.

    Attributes:
      mesh: The devices.
      rows: `v`, rows of the item table without those that fill it up.
    """

    mesh: Mesh
    rows: int

    @property
    def table_rows(self) -> int:
        """Rows of the item table, including those that fill it up."""
        parts = self.mesh.shape[MODEL]
        return -(-self.rows // parts) * parts


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays that every device holds."""
    return NamedSharding(mesh, REPLICATED)


def batch_shardings(batch: Batch, mesh: Mesh) -> Batch:
    """The sharding of each field of a batch: lanes over `data`, shared fields on every device.

    In `given` mode the batch's embeddings are sharded over `data` too: they come from the host
    once, and the devices exchange them.
    """
    over_data = {"b", "u"} if isinstance(batch.items, GivenItems | ListedItems) else {"b"}

    def sharding(path: Any, _: Any) -> NamedSharding:
        spec = PartitionSpec(*(DATA if axis in over_data else None for axis in _axes(path)))
        return _sharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(sharding, batch)


def lane_shardings(carry: Any, mesh: Mesh) -> Any:
    """The sharding of arrays whose first axis is `b`."""
    return jax.tree.map(lambda _: _sharding(mesh, LANES), carry)


def parameter_shardings(tree: Any, mesh: Mesh) -> Any:
    """The sharding of parameters, moments and gradients: item tables by rows, the rest everywhere.

    Args:
      tree: Any tree; each `ItemTable` in it is a table.
      mesh: The mesh.
    """

    def shardings(part: Any) -> Any:
        spec = ROWS if isinstance(part, ItemTable) else REPLICATED
        return jax.tree.map(lambda _: _sharding(mesh, spec), part)

    return jax.tree.map(shardings, tree, is_leaf=lambda part: isinstance(part, ItemTable))


def _sharding(mesh: Mesh, spec: PartitionSpec) -> NamedSharding:
    """A sharding in the form in which programs return it; another form would compile the next step.

    It leaves out mesh axes of one device, and trailing axes that are not sharded.
    """
    axes = [axis if axis and mesh.shape[axis] > 1 else None for axis in spec]
    while axes and axes[-1] is None:
        axes.pop()
    return NamedSharding(mesh, PartitionSpec(*axes))


def place(tree: Any, shardings: Any) -> Any:
    """Turns this process's arrays into its part of arrays over all processes.

    Args:
      tree: For sharded arrays, this process's part; for arrays on every device, the whole, which
        must be the same in every process.
      shardings: The sharding of each.
    """
    return jax.tree.map(
        lambda part, sharding: jax.make_array_from_process_local_data(sharding, np.asarray(part)),
        tree,
        shardings,
    )


def place_batch(batch: Batch, layout: Layout | None) -> Batch:
    """Turns this process's part of a batch into its part of the whole batch.

    Args:
      batch: From a loader.
      layout: Where to place it; None: returns the batch unchanged.
    """
    if layout is None:
        return batch
    shards = layout.mesh.shape[DATA] // jax.process_count()
    if isinstance(batch.items, GivenItems | ListedItems):
        batch = batch.replace(items=_filled_up(batch.items, shards))
    return place(batch, batch_shardings(batch, layout.mesh))


def place_lanes(tree: Any, layout: Layout | None) -> Any:
    """Turns this process's arrays with first axis `b` into its part of the arrays of all.

    Args:
      tree: The arrays.
      layout: Where to place them; None: returns them unchanged.
    """
    return tree if layout is None else place(tree, lane_shardings(tree, layout.mesh))


def _axes(path: Any) -> str:
    """The axes of a field, from the end of its name."""
    return path[-1].name.rpartition("_")[2]


def _filled_up(items: GivenItems | ListedItems, shards: int) -> Any:
    """The items, filled up so that they divide evenly; no id refers to the added ones."""

    def fill(path: Any, values: np.ndarray) -> np.ndarray:
        room_u = -len(items.table_ud) % shards
        return np.pad(values, [(0, room_u if axis == "u" else 0) for axis in _axes(path)])

    return jax.tree_util.tree_map_with_path(fill, items) if len(items.table_ud) % shards else items


def own_part(array: jax.Array) -> np.ndarray:
    """This process's part of an array whose first axis is sharded over `data` or on one device."""
    parts = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])
