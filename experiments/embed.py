"""Writes the embedding of every user, for uses other than ranking by this program.

    python -m experiments.embed --workdir=W --output=users.parquet

Each row has a user_id and an embedding (float32 [d]): the prediction for the first event of a
session that starts right after the user's last one. The model recommends the items with the highest
inner product with it, plus their bias. The suffix of --output decides the format: .parquet, .csv (a
column per dimension) or .jsonl. Devices share the work as in training.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import polars as pl
from absl import flags

from data_pipelines.commands.command import run_command
from data_pipelines.directories import Kind, require_kind
from data_pipelines.errors import DataError
from data_pipelines.lanes.distinct_items import given_rows
from data_pipelines.lanes.loaders import user_loader
from data_pipelines.outputs import check_file
from data_pipelines.progress import Progress
from experiments.flags.data_flags import DataLocation, define_data_flags, read_data_location
from experiments.flags.device_flags import Devices, define_device_flags, read_devices
from experiments.judging.evaluation import fresh_carry
from experiments.judging.results import table_path, write_table
from experiments.processes.cluster import ClusterError, joined
from experiments.runs.data import Data
from experiments.runs.restore import Restored, open_run_data, restore_run
from hiertcn_jax.batch import Batch, Bucket, NextEvent
from hiertcn_jax.devices import processes
from hiertcn_jax.devices.mesh import MeshError, own_part, place_batch, place_lanes
from hiertcn_jax.models.state_steps import make_state_steps
from hiertcn_jax.saving.checkpoint import CheckpointError

MENDABLE = (DataError, CheckpointError, ClusterError, MeshError, OSError)

_ROW_EVENTS = 16
"""Events in a row. A row holds one user; padding fills up a user's last row."""


class Settings(NamedTuple):
    """What the flags say."""

    workdir: Path
    output: Path
    checkpoint: str
    place: DataLocation
    devices: Devices = Devices()


def embed_users(restored: Restored, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Index of each user's history, int64 [users], and its embedding, float32 [users, d].

    With several processes, each gets the users of all.
    """
    lanes, layout = restored.evaluation.lanes, restored.layout
    steps = make_state_steps(restored.model, layout)
    carry = fresh_carry(restored.model, lanes, layout)()
    users, embeddings = [], []
    loader = user_loader(
        data.histories,
        Bucket(lanes, _ROW_EVENTS, _ROW_EVENTS),
        item_rows=given_rows(data.embeddings),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    total = -(-len(data.histories) // jax.process_count())
    with Progress("embedding", "users", total, shown=processes.is_first()) as progress:
        for batch, info in loader:
            carry = steps.observe(restored.params, place_batch(batch, layout), carry)
            event = place_lanes(_next_session(batch), layout)
            u_bd = steps.predict(restored.params, event, carry)
            lane_n, place_n = np.nonzero(info.ends_user_bl)
            users.append(info.user_bs[lane_n, batch.session_bl[lane_n, place_n]])
            embeddings.append(own_part(u_bd)[lane_n])
            progress.add(len(lane_n))
    user_n, embedding_nd = np.concatenate(users), np.concatenate(embeddings)
    return processes.gather_rows(user_n), processes.gather_rows(embedding_nd)


def _next_session(batch: Batch) -> NextEvent:
    """The start of a session right after each lane's last event in this row."""
    user_position_b = 1 + batch.user_position_bl.max(axis=1)
    return NextEvent(
        position_b=np.zeros_like(user_position_b),
        user_position_b=user_position_b,
        seconds_b=batch.seconds_bl.max(axis=1),
        gap_hours_b=np.zeros(len(user_position_b), np.float32),
    )


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("workdir", None, "Directory of the trained run.", required=True)
    flags.DEFINE_string("output", None, "File to write: .parquet, .csv or .jsonl.", required=True)
    flags.DEFINE_string("checkpoint", "best", "Checkpoint to use: best, last, or a step.")
    define_data_flags()
    define_device_flags()


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: The output has no known format.
    """
    values = flags.FLAGS
    output = table_path("output", values.output)
    return Settings(
        Path(values.workdir), output, values.checkpoint, read_data_location(), read_devices()
    )


def main(settings: Settings) -> None:
    """Restores the run, reads all users, and writes their embeddings."""
    with joined(settings.devices.cluster, MENDABLE):
        if processes.is_first():
            require_kind("workdir", settings.workdir, Kind.RUN, Kind.CELL)
            check_file("output", settings.output)
        restored = restore_run(settings.workdir, settings.checkpoint, *settings.devices.parallelism)
        data = open_run_data(restored, settings.place)
        user_n, embedding_nd = embed_users(restored, data)
        if processes.is_first():
            _write(settings.output, data, user_n, embedding_nd)
        processes.wait_for_all("done")


def _write(output: Path, data: Data, user_n: np.ndarray, embedding_nd: np.ndarray) -> None:
    order = np.argsort(user_n)
    frame = pl.DataFrame(
        {"user_id": data.logged_user_ids(user_n[order]), "embedding": embedding_nd[order]},
        schema_overrides={"embedding": pl.Array(pl.Float32, embedding_nd.shape[1])},
    )
    write_table(output, frame)
    print(f"{output}: {len(frame):,} users, {embedding_nd.shape[1]} dimensions")


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, MENDABLE)
