"""Sessions of one user that overlap in time become one: nobody reads two pages in turn, in order.

Kept whole, one after the other, an event of the second would have later events of the first in its
context.
"""

import dataclasses

import numpy as np
import polars as pl


@dataclasses.dataclass(frozen=True)
class Merged:
    """How many sessions overlapped others of their user.

    Attributes:
      users: Users who have such sessions.
      sessions: Sessions that overlap another.
      into: Sessions that they became.
      events: Their events.
    """

    users: int = 0
    sessions: int = 0
    into: int = 0
    events: int = 0


def merge_overlapping(
    users: np.ndarray, times_ms: np.ndarray, sessions: np.ndarray
) -> tuple[np.ndarray, Merged]:
    """Joins the sessions of a user that start before the running end of those before them.

    The running end is the latest time of all the user's sessions that started earlier. A session
    that starts exactly then is one of its own, and so are sessions that each lie at one and the
    same moment. Of sessions with the same start the shorter is first: one of a single moment at
    the start of another comes before it, whatever the order of the input. So no event of a session
    is later than any of the sessions after it.

    Args:
      users: int32 [n]. Of each event; users in order, the events of each in order of time.
      times_ms: int64 [n].
      sessions: int64 [n]. Index of each event's session, which has one user; every index below the
        greatest occurs.

    Returns:
      int64 [n], the index of each event's session as merged, sessions in order of user and start;
      and what was merged.
    """
    if not len(users):
        return np.zeros(0, np.int64), Merged()
    _, first, lengths = np.unique(sessions, return_index=True, return_counts=True)
    end = np.empty(len(first), np.int64)
    end[sessions] = times_ms  # Of several, numpy keeps the last one, which is the latest.
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
