"""Flags that say on which devices, and in which processes, a run is used."""

from typing import NamedTuple

from absl import flags

from experiments.processes.cluster import Cluster

HELP_TOPIC = "devices and processes"

FLAGS = flags.FLAGS

CLUSTER_FLAGS = ("coordinator_address", "num_processes", "process_id")
"""The flags of `define_cluster_flags`."""

_AUTO = "auto"


class Devices(NamedTuple):
    """The devices on which to use a trained run.

    Attributes:
      data_parallelism: Devices that share the lanes, over all processes.
      model_parallelism: Devices that share the item table, for each of these.
      cluster: Where the processes meet; None: there is only one.
    """

    data_parallelism: int = 1
    model_parallelism: int = 1
    cluster: Cluster | None = None

    @property
    def parallelism(self) -> tuple[int, int]:
        """The numbers of devices on `data` and on `model`."""
        return self.data_parallelism, self.model_parallelism


def define_device_flags() -> None:
    """Defines the flags of `Devices`, with the same names as in training."""
    for name, shared in (
        (
            "data_parallelism",
            "lanes, over all processes (1 of several: all of their devices); it "
            "divides the run's eval_lanes",
        ),
        ("model_parallelism", "rows of the item table, for each of --data_parallelism"),
    ):
        flags.DEFINE_integer(name, 1, f"Devices that share the {shared}.", lower_bound=1)
    define_cluster_flags()


def read_devices() -> Devices:
    """The `Devices` that the parsed flags give.

    Raises:
      flags.IllegalFlagValueError: They do not say where processes meet.
    """
    return Devices(FLAGS.data_parallelism, FLAGS.model_parallelism, read_cluster())


def define_cluster_flags() -> None:
    """Defines the flags of a command that can run as several processes."""
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "Run as one of several processes. host:port of the first process, where all meet. "
        f"{_AUTO}: from the cluster's environment (Cloud TPU, Slurm, Open MPI).",
    )
    flags.DEFINE_integer(
        "num_processes", None, "Number of processes that run together.", lower_bound=1
    )
    flags.DEFINE_integer(
        "process_id", None, "Number of this process among --num_processes, from 0.", lower_bound=0
    )


def read_cluster() -> Cluster | None:
    """Where the processes of this run meet; None for a single process.

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
