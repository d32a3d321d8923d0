"""Exports a prepared log to the files that the peers read."""

from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.peers.events import RECBOLE_DATASET, Events
from data_pipelines.errors import DataError
from data_pipelines.histories.events import EVENT, HistorySource, encode
from data_pipelines.lanes.loaders import FIT_STREAMS

_USERS_AT_A_TIME = 4096


def read_train_part(histories: HistorySource, rows: int) -> Events:
    """The train part of all users who have one.

    Args:
      histories: All histories.
      rows: Rows of the item table.

    Raises:
      DataError: No user has a train session.
    """
    parts = []
    for start in range(0, len(histories), _USERS_AT_A_TIME):
        users = np.arange(start, min(start + _USERS_AT_A_TIME, len(histories)))
        parts += encode(histories.__getitems__(users.tolist()), users, users, FIT_STREAMS["train"])
    events = np.concatenate(parts).view(EVENT) if parts else np.empty(0, EVENT)
    if not len(events):
        raise DataError("no user has a train session")
    starts_user_n = np.diff(events["user"], prepend=-1) != 0
    starts_session_n = starts_user_n | (np.diff(events["session_in_user"], prepend=-1) != 0)
    return Events(
        item_id_n=events["item_id"].copy(),
        time_n=events["time"].copy(),
        session_n=(np.cumsum(starts_session_n) - 1).astype(np.int32),
        user_n=(np.cumsum(starts_user_n) - 1).astype(np.int32),
        gap_hours_n=events["gap_hours"].copy(),
        rows=rows,
    )


def write_recbole(events: Events, directory: Path) -> None:
    """Writes RecBole's atomic file of interactions of its dataset `RECBOLE_DATASET`.

    RecBole sorts a user's interactions by a float32 time stamp, which cannot tell seconds since
    the epoch apart. So the file has the event's index in its user's history as its time, which
    gives the same order that all others see.
    """
    folder = directory / RECBOLE_DATASET
    folder.mkdir()
    starts = np.cumsum(events.user_lengths) - events.user_lengths
    place_n = np.arange(len(events.user_n)) - starts[events.user_n]
    columns = {
        "user_id:token": events.user_n,
        "item_id:token": events.item_id_n,
        "timestamp:float": place_n,
    }
    pl.DataFrame(columns).write_csv(folder / f"{RECBOLE_DATASET}.inter", separator="\t")
