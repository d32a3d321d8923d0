"""Events of a log to sessions, by a column or by idle gaps."""

import dataclasses

import numpy as np

from data_pipelines.raw.log import Log


@dataclasses.dataclass(frozen=True, eq=False)
class Events:
    """Events user by user, session by session, in order of time within a session.

    Sessions of a user are ordered by their first event. Ties in time keep the order of the input.

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

    def in_order(self) -> "Events":
        """Sessions in order of their first event, which may not be the one that they once had."""
        first = np.flatnonzero(self.starts_session)
        place = np.empty(len(first), np.int64)
        place[np.lexsort((self.times_ms[first], self.users[first]))] = np.arange(len(first))
        order = np.argsort(place[self.sessions], kind="stable")
        return Events(
            self.users[order], self.items[order], self.times_ms[order], self.starts_session[order]
        )


DEFAULT_GAP_MINUTES = 30.0


def to_sessions(log: Log, gap_minutes: float | None, collapses_repeats: bool) -> tuple[Events, int]:
    """The sessions of a log: by their ids where it has them, else by idle gaps.

    Args:
      log: The log.
      gap_minutes: See `by_gap`; None: `DEFAULT_GAP_MINUTES`.
      collapses_repeats: Whether `collapse_repeats` is done.

    Returns:
      The events, and how many `collapse_repeats` dropped.
    """
    if log.sessions is not None:
        events = by_column(log)
    else:
        events = by_gap(log, gap_minutes or DEFAULT_GAP_MINUTES)
    if not collapses_repeats:
        return events, 0
    collapsed = collapse_repeats(events)
    return collapsed, len(events) - len(collapsed)


def by_gap(log: Log, gap_minutes: float) -> Events:
    """A user's next event starts a session where it comes more than `gap_minutes` later."""
    order = np.lexsort((log.times_ms, log.users))
    users, times_ms = log.users[order], log.times_ms[order]
    starts = _starts_of_runs(users)
    starts[1:] |= np.diff(times_ms) > gap_minutes * 60_000
    return Events(users, log.items[order], times_ms, starts)


def by_column(log: Log) -> Events:
    """Events of a user with the same session id are a session, also where sessions interleave.

    Raises:
      ValueError: The log has no session ids.
    """
    if log.sessions is None:
        raise ValueError("sessions=None: the log was read without a session column")
    order = np.lexsort((log.times_ms, log.users))
    keys = log.users[order].astype(np.int64) << 32 | log.sessions[order]
    _, first_places, sessions = np.unique(keys, return_index=True, return_inverse=True)
    together = np.argsort(first_places[sessions], kind="stable")
    order, keys = order[together], keys[together]
    return Events(log.users[order], log.items[order], log.times_ms[order], _starts_of_runs(keys))


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
