"""Users' next events: what a model reads of them, and what the host then knows.

A session ends after a pause longer than a gap, or where the caller says that a new one starts. An
event that comes with a time before the user's newest one counts as if it came with that.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hiertcn_jax.item_ids import PADDING_ID
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.memory.memory import Lists, Memory
from hiertcn_jax.serving.following import describe_next, move_on
from hiertcn_jax.serving.user_states import Events, UserStates


class EventFacts(NamedTuple):
    """The next m events of some users, one user's after another's.

    Attributes:
      item_m: int32. Rows of the item table.
      position_m: int32. Index in the session.
      user_position_m: int32. Index in the user's history.
      seconds_m: int32. Since the user's first event.
      starts_m: bool. Whether it starts a session.
      starts_user_m: bool. Whether it is the user's first.
      gap_hours_m: float32. Hours since the session before, if it starts another one; else 0.
    """

    item_m: np.ndarray
    position_m: np.ndarray
    user_position_m: np.ndarray
    seconds_m: np.ndarray
    starts_m: np.ndarray
    starts_user_m: np.ndarray
    gap_hours_m: np.ndarray


class EventRows(NamedTuple):
    """Some of these events, a row for each of n users; `Batch` has the fields of the same names.

    Attributes:
      item_ids_nl: int32. Rows of the item table; PADDING_ID after a row's last event.
      position_nl: int32. Index in the session.
      user_position_nl: int32. Index in the user's history.
      seconds_nl: int32. Since the user's first event.
      session_nl: int32. Index of the session in the row.
      starts_session_ns: bool. Whether it starts in this row.
      starts_user_ns: bool. Whether the user starts with it.
      gap_hours_ns: float32. Hours since the session before; 0 where there is none.
    """

    item_ids_nl: np.ndarray
    position_nl: np.ndarray
    user_position_nl: np.ndarray
    seconds_nl: np.ndarray
    session_nl: np.ndarray
    starts_session_ns: np.ndarray
    starts_user_ns: np.ndarray
    gap_hours_ns: np.ndarray


class Moments(NamedTuple):
    """What is known of the next event of n users; `NextEvent` has the fields of the same names.

    Attributes:
      position_n: int32. Its index in its session; 0 starts one.
      user_position_n: int32. Its index in the user's history.
      seconds_n: int32. Since the user's first event.
      gap_hours_n: float32. Hours since the session before, if it starts one.
    """

    position_n: np.ndarray
    user_position_n: np.ndarray
    seconds_n: np.ndarray
    gap_hours_n: np.ndarray


def end_to_end(
    events: Sequence[Events],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Rows of items, times, how many are of each user, and where sessions start, for `follow`.

    Raises:
      ValueError: Some say where sessions start and others do not.
    """
    said = [one.starts for one in events if one.starts is not None]
    if said and len(said) < len(events):
        raise ValueError("events: either all or none say where sessions start")
    return (
        np.concatenate([one.item_rows for one in events]),
        np.concatenate([one.times for one in events]),
        np.array([len(one.item_rows) for one in events]),
        np.concatenate(said) if said else None,
    )


def follow(
    states: UserStates,
    item_m: np.ndarray,
    time_m: np.ndarray,
    count_n: np.ndarray,
    gap_seconds: float,
    starts_m: np.ndarray | None = None,
) -> tuple[EventFacts, UserStates]:
    """The next events of n users, and what the host knows after them.

    Args:
      states: Before the events.
      item_m: int32. Rows of the item table, one user's after another's; UNKNOWN_ID for an item that
        is not in it.
      time_m: int64. Seconds, in the order of the events.
      count_n: Events of each user.
      gap_seconds: A pause longer than this ends a session.
      starts_m: bool. Where sessions start, if the caller knows; then the gap is not used. A user's
        first event always starts one.

    Returns:
      The events, and the states without their carry: that is the old one, as it was.
    """
    facts = EventFacts(
        np.asarray(item_m, np.int32),
        *[np.empty(len(item_m), dtype) for dtype in _FACTS],
    )
    after = UserStates(states.carry, *[array.copy() for array in states[1:]])
    move_on(
        facts,
        np.asarray(time_m, np.int64),
        np.asarray(count_n, np.int64),
        float(gap_seconds),
        _NOT_SAID if starts_m is None else starts_m,
        after[1:],
    )
    return facts, after


_FACTS = (np.int32, np.int32, np.int32, np.bool_, np.bool_, np.float32)
_NOT_SAID = np.zeros(0, np.bool_)


def event_rows(
    facts: EventFacts, begin_n: np.ndarray, end_n: np.ndarray, events: int, sessions: int
) -> tuple[EventRows, np.ndarray]:
    """A row of events for each of n users.

    Args:
      facts: Of the events of many users.
      begin_n: int64. Where each user's events begin there.
      end_n: int64. Where they end; a row without events where they begin.
      events: `l`, events that a row has at most.
      sessions: `s`, sessions that it touches at most.

    Returns:
      The rows, and how many events each has.
    """
    index_nl = begin_n[:, None] + np.arange(events)
    held_nl = index_nl < end_n[:, None]
    index_nl = np.minimum(index_nl, len(facts.item_m) - 1)
    begins_nl = facts.starts_m[index_nl] & held_nl
    session_nl: np.ndarray = np.cumsum(begins_nl, axis=1) - begins_nl[:, :1]
    held_nl &= session_nl < sessions
    lane_k, place_k = np.nonzero(begins_nl & held_nl)
    index_k, session_k = index_nl[lane_k, place_k], session_nl[lane_k, place_k]

    def held(value_nl: np.ndarray) -> np.ndarray:
        return np.where(held_nl, value_nl, PADDING_ID).astype(np.int32)

    def by_session(value_m: np.ndarray) -> np.ndarray:
        value_ns = np.zeros((len(begin_n), sessions), value_m.dtype)
        value_ns[lane_k, session_k] = value_m[index_k]
        return value_ns

    rows = EventRows(
        held(facts.item_m[index_nl]),
        held(facts.position_m[index_nl]),
        held(facts.user_position_m[index_nl]),
        held(facts.seconds_m[index_nl]),
        held(session_nl),
        by_session(facts.starts_m),
        by_session(facts.starts_user_m),
        by_session(facts.gap_hours_m),
    )
    return rows, held_nl.sum(axis=1)


def next_event(
    states: UserStates, time_n: np.ndarray, gap_seconds: float, starts_n: np.ndarray | None = None
) -> Moments:
    """What is known of the users' next events, if they happen at these times.

    Args:
      states: Of the users.
      time_n: int64. Seconds; before a user's newest event counts as its time.
      gap_seconds: See `follow`.
      starts_n: bool. Whether each starts a session, if the caller knows.
    """
    users = states.users
    moments = Moments(
        np.empty(users, np.int32),
        states.events_n,
        np.empty(users, np.int32),
        np.empty(users, np.float32),
    )
    describe_next(
        moments,
        np.asarray(time_n, np.int64),
        float(gap_seconds),
        _NOT_SAID if starts_n is None else starts_n,
        states[1:5],
    )
    return moments


def memory_lists(
    states: UserStates, time_n: np.ndarray, position_n: np.ndarray, memory: Memory
) -> Lists:
    """Memory's lists for the next events of users.

    Args:
      states: Of the users.
      time_n: int64. When the events would happen, seconds; not before a user's newest event.
      position_n: int32. Their indices in their sessions.
      memory: What everybody did so far.
    """
    position_n = np.minimum(position_n, SIZES.own_events).astype(np.int32)
    return memory.lists(time_n, states.own_nm, position_n)


def padded(array: np.ndarray, size: int) -> np.ndarray:
    """An array with its first axis filled up to a size by its first entry."""
    index_n = np.minimum(np.arange(size), len(array) - 1)
    return array[np.where(np.arange(size) < len(array), index_n, 0)]


def counted_events(
    events: Events, start: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What memory counts of a user's events from one on: the arguments of `Memory.observe`.

    Args:
      events: All events of the user, with where sessions start.
      start: The first that counts.
    """
    assert events.starts is not None
    number_n = np.arange(len(events.item_rows))
    position_n = number_n - np.maximum.accumulate(np.where(events.starts, number_n, 0))
    before_nm = number_n[start:, None] - 1 - np.arange(SIZES.own_events)
    items_nm = np.where(before_nm >= 0, events.item_rows[np.maximum(before_nm, 0)], PADDING_ID)
    return (
        events.item_rows[start:].astype(np.int32),
        events.times[start:],
        items_nm.astype(np.int32),
        position_n[start:].astype(np.int32),
    )
