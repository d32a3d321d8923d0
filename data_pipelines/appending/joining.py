"""Joins new events to a kept log, as if all had been read at once."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from data_pipelines.appending.kept_log import KeptLog
from data_pipelines.errors import DataError
from data_pipelines.raw.bad_rows import OnBadRow
from data_pipelines.raw.ids import merged
from data_pipelines.raw.log import Log, codes_of, sorted_places
from data_pipelines.raw.times import to_iso


class Joined(NamedTuple):
    """A kept log with new events.

    Attributes:
      log: All events, sorted by user and time. New ids follow the old ones, sorted.
      new: The new events alone, with the codes of `log`.
      duplicates: Events that were in the kept log already, and are left out.
      late: Events before the kept log's last one, which are left out.
    """

    log: Log
    new: Log
    duplicates: int
    late: int


def join(kept: KeptLog, read: Log, name: str, on_bad_row: OnBadRow) -> Joined:
    """Adds events after a kept log.

    An event up to the time of the kept log's last one is a duplicate if the kept log has the same
    user, item and time (and session id). Any other event before that time is late: a bad row.

    Args:
      kept: The earlier events.
      read: The new events, read with the facts of the earlier ones.
      name: The directory of the kept log, for messages.
      on_bad_row: What to do with late events.

    Raises:
      DataError: Nothing new is left; there are late events and the action is `error`; ids are
        written in another way.
    """
    new, ids = _encoded(kept.log, read, name)
    newest = kept.newest_ms
    duplicate_n = _duplicates(kept.log, new, newest)
    late_n = ~duplicate_n & (new.times_ms < newest)
    if late_n.any() and on_bad_row == "error":
        first = int(np.argmax(late_n))
        user = ids.user_ids[int(new.users[first])]
        raise DataError(
            f"{int(late_n.sum()):,} of {len(new):,} new events are earlier than the last one in "
            f"{name} ({to_iso(newest)}), such as that of user {user} "
            f"at {to_iso(int(new.times_ms[first]))}; append in order of time, prepare everything "
            "at once, or leave them out with --on_bad_row=skip"
        )
    kept_n = ~duplicate_n & ~late_n
    if not kept_n.any():
        raise DataError(
            f"nothing to append: {int(duplicate_n.sum()):,} of {len(new):,} events are in {name} "
            f"already, {int(late_n.sum()):,} are earlier than its last one ({to_iso(newest)}); "
            "was this file appended before? Give the next one"
        )
    new = _taken(new, np.flatnonzero(kept_n))
    return Joined(_together(ids, new), new, int(duplicate_n.sum()), int(late_n.sum()))


def _encoded(kept: Log, read: Log, name: str) -> tuple[Log, Log]:
    """The new events with the codes of the kept log, and the kept log with the new ids."""
    ids: dict[str, Any] = {}
    code_of: dict[str, np.ndarray] = {}
    for column in ("user_ids", "item_ids", "session_ids"):
        old, found = getattr(kept, column), getattr(read, column)
        if old is None or found is None:
            continue
        kind = column.removesuffix("s")
        if not merged(old, read.facts.ids_of(kind)).equals(old):
            raise DataError(
                f"{name}: has {kind}s such as 7.0, which are the same as 7 in the new events; "
                "write them as there, or prepare everything at once"
            )
        codes = codes_of(found, old)
        is_new = codes.is_null()
        fresh = found.filter(is_new)
        code_n = codes.fill_null(0).to_numpy().copy()
        code_n[is_new.to_numpy()] = len(old) + np.arange(len(fresh))
        ids[column] = pl.concat([old, fresh])
        code_of[column] = code_n.astype(np.int32)
    sessions = None
    if read.sessions is not None and "session_ids" in code_of:
        sessions = code_of["session_ids"][read.sessions]
    new = dataclasses.replace(
        read,
        **ids,
        users=code_of["user_ids"][read.users],
        items=code_of["item_ids"][read.items],
        sessions=sessions,
    )
    return new, dataclasses.replace(kept, **ids, facts=read.facts)


def _duplicates(kept: Log, new: Log, newest: int) -> np.ndarray:
    """Bool [n]. Which new events the kept log has."""
    duplicate_n = np.zeros(len(new), bool)
    place_n = np.flatnonzero(new.times_ms <= newest)
    if len(place_n):
        since = int(new.times_ms.min())
        events = _frame(_taken(kept, np.flatnonzero(kept.times_ms >= since)))
        found = _frame(_taken(new, place_n)).with_columns(place=place_n)
        again = found.join(events, on=events.columns, how="semi")
        duplicate_n[again["place"].to_numpy()] = True
    return duplicate_n


def _frame(log: Log) -> pl.DataFrame:
    columns = {"user": log.users, "item": log.items, "time_ms": log.times_ms}
    return pl.DataFrame(columns if log.sessions is None else columns | {"session": log.sessions})


def _taken(log: Log, place_n: np.ndarray) -> Log:
    return dataclasses.replace(
        log,
        users=log.users[place_n],
        items=log.items[place_n],
        times_ms=log.times_ms[place_n],
        sessions=None if log.sessions is None else log.sessions[place_n],
    )


def _together(kept: Log, new: Log) -> Log:
    """Both, sorted by user and time. No new event is earlier than a kept one."""
    new = _taken(new, sorted_places(new.users, new.times_ms))
    # Two sorted runs: a stable sort merges them in one pass.
    users = np.concatenate([kept.users, new.users])
    place_n = np.argsort(users, kind="stable")
    both = dataclasses.replace(
        kept,
        users=users,
        items=np.concatenate([kept.items, new.items]),
        times_ms=np.concatenate([kept.times_ms, new.times_ms]),
        sessions=None
        if kept.sessions is None or new.sessions is None
        else np.concatenate([kept.sessions, new.sessions]),
    )
    return _taken(both, place_n)
