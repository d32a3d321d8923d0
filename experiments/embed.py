"""Writes the embedding of every user, for uses other than ranking by this program.

    python -m experiments.embed --workdir=W --output=users.parquet

One row a user: user_id, and embedding (float32 [d]): the prediction for the first event of a
session that would start right after the user's last one. The items of the highest inner product
with it, plus their bias, are what the model recommends then.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from absl import flags

from data_pipelines.command import run_command
from data_pipelines.distinct import given_rows
from data_pipelines.errors import DataError
from data_pipelines.events import HistorySource
from data_pipelines.histories.record import NO_ITEMS, History, Split
from data_pipelines.loaders import eval_loader
from experiments.data import Data
from experiments.flags import DataPlace, define_place_flags, read_place
from experiments.restore import Restored, open_run_data, restore_run
from experiments.results import write_parquet
from hiertcn_jax.batch import UNKNOWN_ID, Bucket
from hiertcn_jax.checkpoint import CheckpointError
from hiertcn_jax.train_step import make_eval_step

_MARK = -1
"""Time of the event behind each history, which no event of a log has. Its gap counts as 0."""


class Settings(NamedTuple):
    """What the flags say."""

    workdir: Path
    output: Path
    checkpoint: str
    place: DataPlace


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
    """Index of each user's history, int64 [users], and its embedding, float32 [users, d]."""
    config = restored.evaluation
    bucket = Bucket(config.lanes, config.events, config.sessions)
    step = make_eval_step(restored.model)
    carry = restored.model.init_carry(config.lanes)
    users, embeddings = [], []
    loader = eval_loader(
        NextSessions(data.histories), bucket, split=None, item_rows=given_rows(data.embeddings)
    )
    for batch, info in loader:
        u_bld, carry = step(restored.params, batch, carry)
        marked_bl = info.time_bl == _MARK
        user_bl = np.take_along_axis(info.user_bs, batch.session_bl, axis=1)
        users.append(user_bl[marked_bl])
        embeddings.append(np.asarray(u_bld)[marked_bl])
    return np.concatenate(users), np.concatenate(embeddings)


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
    flags.DEFINE_string("output", None, "Parquet file to write.", required=True)
    flags.DEFINE_string("checkpoint", "best", "best, last, or a step.")
    define_place_flags()


def read_settings() -> Settings:
    """The settings of the parsed flags."""
    values = flags.FLAGS
    return Settings(Path(values.workdir), Path(values.output), values.checkpoint, read_place())


def main(settings: Settings) -> None:
    """Restores, goes through all users, writes."""
    restored = restore_run(settings.workdir, settings.checkpoint)
    data = open_run_data(restored, settings.place)
    user_n, embedding_nd = embed_users(restored, data)
    order = np.argsort(user_n)
    frame = pl.DataFrame(
        {"user_id": data.user_ids(user_n[order]), "embedding": embedding_nd[order]},
        schema_overrides={"embedding": pl.Array(pl.Float32, embedding_nd.shape[1])},
    )
    write_parquet(settings.output, frame)
    print(f"{settings.output}: {len(frame):,} users, {embedding_nd.shape[1]} dimensions")


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (DataError, CheckpointError, OSError))
