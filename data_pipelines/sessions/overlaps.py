"""Merges sessions of one user that overlap in time, as two open browser tabs record them.

Kept apart, one after the other, an event of the second session would have later events of the
first one in its context.
"""

import dataclasses

import numpy as np
import polars as pl


@dataclasses.dataclass(frozen=True)
class Merged:
    """Counts of the sessions that overlapped others of the same user.

    Attributes:
      users: Users with such sessions.
      sessions: Sessions that overlapped another.
      into: Number of sessions that these became.
      events: Events in them.
    """

    users: int = 0
    sessions: int = 0
    into: int = 0
    events: int = 0


def merge_overlapping(
    users: np.ndarray, times_ms: np.ndarray, sessions: np.ndarray
) -> tuple[np.ndarray, Merged]:
    """Merges each session that starts before the running end into the session before it.

    The running end is the latest time in all sessions of the user that started earlier. A session
    that starts exactly at the running end stays separate. Sessions that lie at one and the same
    moment stay separate too. Of sessions with the same start the shorter comes first: a session of
    a single moment comes before another that starts then, whatever the order of the input. So no
    event of a session is later than any event of a later session.

    Args:
      users: int32 [n]. The user of each event; sorted by user, then by time.
      times_ms: int64 [n].
      sessions: int64 [n]. Index of each event's session. A session has one user; every index below
        the greatest occurs.

    Returns:
      int64 [n], the index of each event's session after merging, sessions in order of user and
      start; and counts of what was merged.
    """
    if not len(users):
        return np.zeros(0, np.int64), Merged()
    _, first, lengths = np.unique(sessions, return_index=True, return_counts=True)
    end = np.empty(len(first), np.int64)
    end[sessions] = times_ms  # numpy keeps the last value of each session: its latest time.
    table = pl.DataFrame(
        {
            "session": np.arange(len(first)),
            "user": users[first],
            "start": times_ms[first],
            "end": end,
            "first": first,
            "events": lengths,
        }
    ).sort("user", "start", "end", "first")
    running_end = pl.col("end").cum_max().shift(1).over("user")
    table = table.with_columns(
        merged=(pl.col("start") >= running_end).fill_null(True).cum_sum().cast(pl.Int64) - 1
    )
    merged_of = np.empty(len(table), np.int64)
    merged_of[table["session"].to_numpy()] = table["merged"].to_numpy()
    overlapping = table.filter(pl.len().over("merged") > 1)
    merged = Merged(
        users=overlapping["user"].n_unique(),
        sessions=len(overlapping),
        into=overlapping["merged"].n_unique(),
        events=int(overlapping["events"].sum()),
    )
    return merged_of[sessions], merged
