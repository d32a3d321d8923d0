"""Groups the events of a log into sessions, by a column or by idle gaps."""

import dataclasses
from typing import NamedTuple

import numpy as np

from data_pipelines.raw.log import Log, sorted_places
from data_pipelines.sessions.overlaps import Merged, merge_overlapping


@dataclasses.dataclass(frozen=True, eq=False)
class Events:
    """Events sorted by user, then session, then time.

    A user's times never decrease. Within a session, events at equal times keep the order of the
    input.

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
        """int64 [n]. Index of each event's session, counted from 0 over all users."""
        return np.cumsum(self.starts_session) - 1

    def keep(self, kept: np.ndarray) -> "Events":
        """The events where `kept` [n] is true. A session then starts at its first kept event."""
        sessions = self.sessions[kept]
        return Events(
            self.users[kept], self.items[kept], self.times_ms[kept], _starts_of_runs(sessions)
        )


DEFAULT_GAP_MINUTES = 30.0


class Sessionized(NamedTuple):
    """A log grouped into sessions.

    Attributes:
      events: The events.
      collapsed: Number of events that `collapse_repeats` dropped.
      merged: Counts of sessions that overlapped others.
    """

    events: Events
    collapsed: int
    merged: Merged


def to_sessions(log: Log, gap_minutes: float | None, collapses_repeats: bool) -> Sessionized:
    """Groups a log into sessions: by session id if the log has them, otherwise by idle gaps.

    Args:
      log: The log.
      gap_minutes: A longer idle time starts a new session, also within one session id. None:
        `DEFAULT_GAP_MINUTES` for a log without ids, and no limit for a log with ids.
      collapses_repeats: Whether to apply `collapse_repeats`.
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
    """Starts a session at each event that follows its user's last one by more than `gap_minutes`.

    Example:
      >>> code, minutes = np.zeros(3, np.int32), np.asarray([0, 10, 50])
      >>> log = Log(["user"], ["item"], code, code, minutes * 60_000, sessions=None)
      >>> by_gap(log, gap_minutes=30).starts_session
      array([ True, False,  True])
    """
    order = sorted_places(log.users, log.times_ms)
    users, times_ms = log.users[order], log.times_ms[order]
    starts = _starts_of_runs(users)
    starts[1:] |= np.diff(times_ms) > gap_minutes * 60_000
    return Events(users, log.items[order], times_ms, starts)


def by_column(log: Log, gap_minutes: float | None = None) -> tuple[Events, Merged]:
    """Makes a session of a user's events with the same session id, then merges overlapping ones.

    Args:
      log: The log.
      gap_minutes: A longer idle time within an id starts a new session, for logs that reuse ids.
        None: it never does.

    Returns:
      The events, and counts of what `merge_overlapping` merged.

    Raises:
      ValueError: The log has no session ids.
    """
    if log.sessions is None:
        raise ValueError("sessions=None: the log was read without a session column")
    order = sorted_places(log.users, log.times_ms)
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
    """Drops each event whose item is that of the event just before it in the same session."""
    repeats = np.zeros(len(events), bool)
    repeats[1:] = (np.diff(events.items) == 0) & ~events.starts_session[1:]
    return events.keep(~repeats)


def _starts_of_runs(values: np.ndarray) -> np.ndarray:
    """True at the first value and wherever a value differs from the one before it."""
    starts = np.ones(len(values), bool)
    starts[1:] = np.diff(values) != 0
    return starts
