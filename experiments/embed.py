"""Writes the embedding of every user, for uses other than ranking by this program.

    python -m experiments.embed --workdir=W --output=users.parquet

One row a user: user_id, and embedding (float32 [d]): the prediction for the first event of a
session that would start right after the user's last one. The items of the highest inner product
with it, plus their bias, are what the model recommends then. Devices share the work as in training.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import polars as pl
from absl import flags

from data_pipelines.commands.command import run_command
from data_pipelines.errors import DataError
from data_pipelines.histories.events import HistorySource
from data_pipelines.histories.record import NO_ITEMS, History, Split
from data_pipelines.lanes.distinct_items import given_rows
from data_pipelines.lanes.loaders import eval_loader
from experiments.flags.place_flags import (
    DataPlace,
    Devices,
    define_device_flags,
    define_place_flags,
    read_devices,
    read_place,
)
from experiments.judging.evaluation import fresh_carry
from experiments.judging.results import write_parquet
from experiments.processes.cluster import ClusterError, joined
from experiments.runs.data import Data
from experiments.runs.restore import Restored, open_run_data, restore_run
from hiertcn_jax.batch import UNKNOWN_ID, Bucket
from hiertcn_jax.devices import processes
from hiertcn_jax.devices.mesh import MeshError, own_part, place_batch
from hiertcn_jax.models.eval_step import make_eval_step
from hiertcn_jax.saving.checkpoint import CheckpointError

MENDABLE = (DataError, CheckpointError, ClusterError, MeshError, OSError)

_MARK = -1
"""Time of the event behind each history, which no event of a log has. Its gap counts as 0."""


class Settings(NamedTuple):
    """What the flags say."""

    workdir: Path
    output: Path
    checkpoint: str
    place: DataPlace
    devices: Devices = Devices()


class NextSessions:
    """Histories with one more session behind each: an unknown item, right after the last event.

    What the model predicts there is made from all that the user did, and from nothing else.

    Args:
      source: The histories.
    """

    def __init__(self, source: HistorySource) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitems__(self, indices: Sequence[int], /) -> list[History]:
        """The longer histories of these users."""
        return [_with_next_session(history) for history in self._source.__getitems__(indices)]


def _with_next_session(history: History) -> History:
    return dataclasses.replace(
        history,
        item_ids=np.append(history.item_ids, np.int32(UNKNOWN_ID)),
        times=np.append(history.times, np.int64(_MARK)),
        session_lengths=np.append(history.session_lengths, np.int32(1)),
        session_splits=np.append(history.session_splits, np.uint8(Split.TEST)),
        shown_items=NO_ITEMS,
        shown_counts=NO_ITEMS,
    )


def embed_users(restored: Restored, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Index of each user's history, int64 [users], and its embedding, float32 [users, d].

    Of several processes each gets the users of all.
    """
    config, layout = restored.evaluation, restored.layout
    step = make_eval_step(restored.model, layout)
    carry = fresh_carry(restored.model, config.lanes, layout)()
    users, embeddings = [], []
    loader = eval_loader(
        NextSessions(data.histories),
        Bucket(config.lanes, config.events, config.sessions),
        split=None,
        item_rows=given_rows(data.embeddings),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    for batch, info in loader:
        u_bld, carry = step(restored.params, place_batch(batch, layout), carry)
        marked_bl = info.time_bl == _MARK
        user_bl = np.take_along_axis(info.user_bs, batch.session_bl, axis=1)
        users.append(user_bl[marked_bl])
        embeddings.append(own_part(u_bld)[marked_bl])
    user_n, embedding_nd = np.concatenate(users), np.concatenate(embeddings)
    return processes.gather_rows(user_n), processes.gather_rows(embedding_nd)


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
    flags.DEFINE_string("output", None, "Parquet file to write.", required=True)
    flags.DEFINE_string("checkpoint", "best", "best, last, or a step.")
    define_place_flags()
    define_device_flags()


def read_settings() -> Settings:
    """The settings of the parsed flags."""
    values = flags.FLAGS
    return Settings(
        Path(values.workdir), Path(values.output), values.checkpoint, read_place(), read_devices()
    )


def main(settings: Settings) -> None:
    """Restores, goes through all users, writes."""
    with joined(settings.devices.cluster, MENDABLE):
        restored = restore_run(settings.workdir, settings.checkpoint, *settings.devices.parallelism)
        data = open_run_data(restored, settings.place)
        user_n, embedding_nd = embed_users(restored, data)
        if processes.is_first():
            _write(settings.output, data, user_n, embedding_nd)
        processes.wait_for_all("done")


def _write(output: Path, data: Data, user_n: np.ndarray, embedding_nd: np.ndarray) -> None:
    order = np.argsort(user_n)
    frame = pl.DataFrame(
        {"user_id": data.user_ids(user_n[order]), "embedding": embedding_nd[order]},
        schema_overrides={"embedding": pl.Array(pl.Float32, embedding_nd.shape[1])},
    )
    write_parquet(output, frame)
    print(f"{output}: {len(frame):,} users, {embedding_nd.shape[1]} dimensions")


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, MENDABLE)
