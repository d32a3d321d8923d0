"""Events of a log to sessions, by a column or by idle gaps."""

import dataclasses
from typing import NamedTuple

import numpy as np

from data_pipelines.raw.log import Log
from data_pipelines.sessions.overlaps import Merged, merge_overlapping


@dataclasses.dataclass(frozen=True, eq=False)
class Events:
    """Events user by user, session by session, in order of time.

    No event of a user is earlier than the one before it. In a session, equal times keep the order
    of the input.

    Attributes:
      users: int32 [n]. Code of each event's user, never decreasing.
      items: int32 [n]. Code of each event's item.
      times_ms: int64 [n]. Milliseconds since the epoch.
      starts_session: bool [n]. True at the first event of each session.
    """

    users: np.ndarray
    items: np.ndarray
    times_ms: np.ndarray
    starts_session: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    @property
    def sessions(self) -> np.ndarray:
        """int64 [n]. Index of each event's session among all, from 0."""
        return np.cumsum(self.starts_session) - 1

    def keep(self, kept: np.ndarray) -> "Events":
        """The events where `kept` [n] holds; a session starts at the first that is left of it."""
        sessions = self.sessions[kept]
        return Events(
            self.users[kept], self.items[kept], self.times_ms[kept], _starts_of_runs(sessions)
        )


DEFAULT_GAP_MINUTES = 30.0


class Sessionized(NamedTuple):
    """A log as sessions.

    Attributes:
      events: The events.
      collapsed: Events that `collapse_repeats` dropped.
      merged: Sessions that overlapped others.
    """

    events: Events
    collapsed: int
    merged: Merged


def to_sessions(log: Log, gap_minutes: float | None, collapses_repeats: bool) -> Sessionized:
    """The sessions of a log: by their ids where it has them, else by idle gaps.

    Args:
      log: The log.
      gap_minutes: A longer idle time starts a session, within an id too. None: without ids
        `DEFAULT_GAP_MINUTES`, with ids no time is too long.
      collapses_repeats: Whether to `collapse_repeats`.
    """
    if log.sessions is not None:
        events, merged = by_column(log, gap_minutes)
    else:
        events, merged = by_gap(log, gap_minutes or DEFAULT_GAP_MINUTES), Merged()
    if not collapses_repeats:
        return Sessionized(events, 0, merged)
    collapsed = collapse_repeats(events)
    return Sessionized(collapsed, len(events) - len(collapsed), merged)


def by_gap(log: Log, gap_minutes: float) -> Events:
    """A user's next event starts a session where it comes more than `gap_minutes` later."""
    order = np.lexsort((log.times_ms, log.users))
    users, times_ms = log.users[order], log.times_ms[order]
    starts = _starts_of_runs(users)
    starts[1:] |= np.diff(times_ms) > gap_minutes * 60_000
    return Events(users, log.items[order], times_ms, starts)


def by_column(log: Log, gap_minutes: float | None = None) -> tuple[Events, Merged]:
    """Events of a user with the same session id are a session; those that overlap become one.

    Args:
      log: The log.
      gap_minutes: An id's next event starts a session where it comes more than this later, as where
        ids are used again; None: never.

    Returns:
      The events, and what `merge_overlapping` merged.

    Raises:
      ValueError: The log has no session ids.
    """
    if log.sessions is None:
        raise ValueError("sessions=None: the log was read without a session column")
    order = np.lexsort((log.times_ms, log.users))
    users, times_ms = log.users[order], log.times_ms[order]
    keys = users.astype(np.int64) << 32 | log.sessions[order]
    together = np.argsort(keys, kind="stable")
    starts = _starts_of_runs(keys[together])
    if gap_minutes is not None:
        starts[1:] |= np.diff(times_ms[together]) > gap_minutes * 60_000
    sessions = np.empty(len(order), np.int64)
    sessions[together] = np.cumsum(starts) - 1
    sessions, merged = merge_overlapping(users, times_ms, sessions)
    by_session = np.argsort(sessions, kind="stable")
    order, sessions = order[by_session], sessions[by_session]
    events = Events(
        log.users[order], log.items[order], log.times_ms[order], _starts_of_runs(sessions)
    )
    return events, merged


def collapse_repeats(events: Events) -> Events:
    """Drops events on the item of the event just before them in their session."""
    repeats = np.zeros(len(events), bool)
    repeats[1:] = (np.diff(events.items) == 0) & ~events.starts_session[1:]
    return events.keep(~repeats)


def _starts_of_runs(values: np.ndarray) -> np.ndarray:
    """True where a value differs from the one before it, and at the first."""
    starts = np.ones(len(values), bool)
    starts[1:] = np.diff(values) != 0
    return starts
