"""The flags that say where a run is used: its data, its devices, its processes."""

from typing import NamedTuple

from absl import flags

from experiments.processes.cluster import Cluster

FLAGS = flags.FLAGS

CLUSTER_FLAGS = ("coordinator_address", "num_processes", "process_id")
"""The flags of `define_cluster_flags`."""

_AUTO = "auto"


class DataPlace(NamedTuple):
    """Where the data of a trained run is now.

    Attributes:
      data_dir: The prepared directory; None: where it was.
      item_embeddings: File of given embeddings; None: that of the run, which has not changed.
      item_embedding_ids: The ids of its rows; None: those of the run.
    """

    data_dir: str | None = None
    item_embeddings: str | None = None
    item_embedding_ids: str | None = None


def define_place_flags() -> None:
    """The flags of `DataPlace`."""
    flags.DEFINE_string("data_dir", None, "Where the run's data is now; default: where it was.")
    flags.DEFINE_string(
        "item_embeddings",
        None,
        "Given embeddings to use instead of the run's: they may have more items, and with them "
        "--data_dir may hold other data.",
    )
    flags.DEFINE_string("item_embedding_ids", None, "The ids of their rows; default: the run's.")


def read_place() -> DataPlace:
    """What the parsed flags of `DataPlace` say.

    Raises:
      ValueError: There are ids without embeddings.
    """
    if FLAGS.item_embedding_ids is not None and FLAGS.item_embeddings is None:
        raise ValueError(
            f"item_embedding_ids={FLAGS.item_embedding_ids}: has no use without item_embeddings"
        )
    return DataPlace(*(FLAGS[name].value for name in DataPlace._fields))


class Devices(NamedTuple):
    """What a trained run is used on.

    Attributes:
      data_parallelism: Devices that share the lanes, over all processes.
      model_parallelism: Devices that share the item table, for each of these.
      cluster: Where the processes meet; None: there is one.
    """

    data_parallelism: int = 1
    model_parallelism: int = 1
    cluster: Cluster | None = None

    @property
    def parallelism(self) -> tuple[int, int]:
        """The devices on `data` and on `model`."""
        return self.data_parallelism, self.model_parallelism


def define_device_flags() -> None:
    """The flags of `Devices`, those of training under the same names."""
    for name, shared in (
        (
            "data_parallelism",
            "lanes, over all processes (1 of several: all of their devices); it "
            "divides the run's eval_lanes",
        ),
        ("model_parallelism", "rows of the item table, for each of these"),
    ):
        flags.DEFINE_integer(name, 1, f"Devices that share the {shared}.", lower_bound=1)
    define_cluster_flags()


def read_devices() -> Devices:
    """What the parsed flags of `Devices` say.

    Raises:
      flags.IllegalFlagValueError: They do not say where processes meet.
    """
    return Devices(FLAGS.data_parallelism, FLAGS.model_parallelism, read_cluster())


def define_cluster_flags() -> None:
    """The flags of a command that runs as several processes."""
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "Run as one of several processes, which meet at this host:port of the first of them. "
        f"{_AUTO}: as the cluster's environment says (Cloud TPU, Slurm, Open MPI).",
    )
    flags.DEFINE_integer("num_processes", None, "How many they are.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Which one this is, from 0 on.", lower_bound=0)


def read_cluster() -> Cluster | None:
    """Where the processes of this run meet; None for a run of one.

    Raises:
      flags.IllegalFlagValueError: The flags do not say it.
    """
    address, count, index = (FLAGS[name].value for name in CLUSTER_FLAGS)
    if address in (None, _AUTO):
        if count is not None or index is not None:
            raise flags.IllegalFlagValueError(
                "flag --num_processes and --process_id: need --coordinator_address=host:port"
            )
        return None if address is None else Cluster(None)
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise flags.IllegalFlagValueError(
            f"flag --coordinator_address={address}: must be host:port, or {_AUTO}"
        )
    if count is None or index is None:
        raise flags.IllegalFlagValueError(
            f"flag --coordinator_address={address}: needs --num_processes and --process_id"
        )
    if index >= count:
        raise flags.IllegalFlagValueError(
            f"flag --process_id={index}: must be below num_processes={count}"
        )
    return Cluster(address, count, index)
