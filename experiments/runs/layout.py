"""Places a run on one device or several."""

from hiertcn_jax.devices.mesh import DATA, Layout, MeshError, make_mesh


def make_layout(
    parallelism: tuple[int, int], rows: int, given: bool, **lanes: int
) -> Layout | None:
    """The layout of a run; None on one device.

    Args:
      parallelism: Devices on `data` and on `model`, see `make_mesh`.
      rows: `v`, rows of the item table.
      given: Whether embeddings are given, so that no table is on a device.
      **lanes: Numbers of lanes that the devices on `data` share, by the names of their flags.

    Raises:
      MeshError: There are not enough devices, they cannot share the lanes evenly, or there is no
        table for them to share.
    """
    data_parallelism, model_parallelism = parallelism
    if given and model_parallelism > 1:
        raise MeshError(
            f"model_parallelism={model_parallelism}: must be 1 with given embeddings "
            "(item_embeddings): no table is on the devices for them to share"
        )
    mesh = make_mesh(data_parallelism, model_parallelism)
    if mesh is None:
        return None
    shards = mesh.shape[DATA]
    for name, count in lanes.items():
        if count % shards:
            raise MeshError(f"data_parallelism={shards}: must divide {name}={count}")
    return Layout(mesh, rows)
