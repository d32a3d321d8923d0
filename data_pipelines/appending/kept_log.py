"""The events of a prepared log as they were read, kept in D/log/ so that more can be appended.

events.parquet     user, item (codes), time_ms, session (a code; only with session ids): what
                   was read, before any filter, sorted by user and time
users.parquet      user_id of each code, those with a history first, in the order of the
                   histories; fingerprint of the history, or null
items.parquet      item_id of each code
sessions.parquet   session_id of each code; only with session ids
facts.json         the unit of the times, the types of the ids
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.histories.prepared_files import read_json
from data_pipelines.raw.log import Log, sorted_places
from data_pipelines.raw.log_facts import LogFacts
from data_pipelines.raw.parquet import read_parquet

FOLDER = "log"

_EVENTS = {"user": pl.Int32, "item": pl.Int32, "time_ms": pl.Int64}
_SESSION = {"session": pl.Int32}


@dataclasses.dataclass(frozen=True, eq=False)
class KeptLog:
    """What D/log/ holds.

    Attributes:
      log: The events, sorted by user and time. Users with a history come first among its users.
      fingerprints: uint64 [histories]. See `fingerprints.fingerprints`.
    """

    log: Log
    fingerprints: np.ndarray

    @property
    def newest_ms(self) -> int:
        """The time of the last event, milliseconds."""
        return int(self.log.times_ms.max())


def sorted_for_keeping(log: Log, with_history: np.ndarray) -> Log:
    """The log sorted by user and time, with the users that have a history first.

    Args:
      log: Events in any order; those at one time keep theirs.
      with_history: Codes of the users that have a history, in the order of the histories.
    """
    others = np.ones(len(log.user_ids), bool)
    others[with_history] = False
    order = np.concatenate([with_history, np.flatnonzero(others)])
    code_of = np.empty(len(order), np.int32)
    code_of[order] = np.arange(len(order))
    users = code_of[log.users]
    place_n = sorted_places(users, log.times_ms)
    return dataclasses.replace(
        log,
        user_ids=log.user_ids.gather(order),
        users=users[place_n],
        items=log.items[place_n],
        times_ms=log.times_ms[place_n],
        sessions=None if log.sessions is None else log.sessions[place_n],
    )


def save_kept_log(directory: Path, kept: KeptLog) -> None:
    """Writes D/log/."""
    folder = directory / FOLDER
    folder.mkdir()
    log = kept.log
    columns = [log.users, log.items, log.times_ms]
    types = dict(_EVENTS)
    if log.sessions is not None and log.session_ids is not None:
        columns.append(log.sessions)
        types |= _SESSION
        log.session_ids.rename("session_id").to_frame().write_parquet(folder / "sessions.parquet")
    events = pl.DataFrame(dict(zip(types, columns, strict=True)), schema=types)
    events.write_parquet(folder / "events.parquet")
    without = len(log.user_ids) - len(kept.fingerprints)
    prints = pl.Series(kept.fingerprints, dtype=pl.UInt64).extend_constant(None, without)
    users = pl.DataFrame({"user_id": log.user_ids, "fingerprint": prints})
    users.write_parquet(folder / "users.parquet")
    log.item_ids.rename("item_id").to_frame().write_parquet(folder / "items.parquet")
    (folder / "facts.json").write_text(json.dumps(log.facts.to_json()), encoding="utf-8")


def load_kept_log(directory: Path, has_sessions: bool) -> KeptLog:
    """Reads D/log/, whose files are unchanged.

    Args:
      directory: A prepared directory.
      has_sessions: Whether it was prepared with session ids.

    Raises:
      DataError: They are not what `save_kept_log` writes.
    """
    folder = directory / FOLDER
    types = _EVENTS | (_SESSION if has_sessions else {})
    events = _read(folder / "events.parquet", types)
    users = _read(
        folder / "users.parquet", {"user_id": pl.String, "fingerprint": pl.UInt64}, nulls=True
    )
    items = _read(folder / "items.parquet", {"item_id": pl.String})
    session_ids = None
    if has_sessions:
        session_ids = _read(folder / "sessions.parquet", {"session_id": pl.String})["session_id"]
    log = Log(
        user_ids=users["user_id"],
        item_ids=items["item_id"],
        users=events["user"].to_numpy(),
        items=events["item"].to_numpy(),
        times_ms=events["time_ms"].to_numpy(),
        sessions=events["session"].to_numpy() if has_sessions else None,
        session_ids=session_ids,
        facts=LogFacts.from_json(read_json(folder / "facts.json")),
    )
    return KeptLog(log, users["fingerprint"].drop_nulls().to_numpy())


def _read(path: Path, types: Mapping[str, Any], nulls: bool = False) -> pl.DataFrame:
    frame = read_parquet(path, list(types), lambda found: None)
    if frame.schema != pl.Schema(types) or (not nulls and sum(frame.null_count().row(0))):
        raise DataError(f"{path}: is not as this version writes it; prepare it again")
    return frame
