"""Rows of users' next events: what a model reads of them, and what the host then knows.

A session ends after a pause longer than a gap, or where the caller says that a new one starts. An
event that comes with a time before the user's newest one counts as if it came with that.
"""

from typing import NamedTuple

import numpy as np

from hiertcn_jax.item_ids import PADDING_ID
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.memory.memory import Lists, Memory
from hiertcn_jax.serving.user_states import Events, UserStates

_SECONDS_MOST = 2**31 - 1


class EventRows(NamedTuple):
    """The next events of n users, a row each; `Batch` has the fields of the same names.

    Attributes:
      item_ids_nl: int32. Rows of the item table; PADDING_ID after a user's last event.
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


def event_rows(
    states: UserStates,
    item_rows_nl: np.ndarray,
    time_nl: np.ndarray,
    count_n: np.ndarray,
    gap_seconds: float,
    starts_nl: np.ndarray | None = None,
) -> tuple[EventRows, UserStates]:
    """The next events of n users, and what the host knows after them.

    Args:
      states: Before the events.
      item_rows_nl: int32. Rows of the item table; UNKNOWN_ID for an item that is not in it.
      time_nl: int64. Seconds, in the order of the events.
      count_n: Events of each user; what stands after them is not read.
      gap_seconds: A pause longer than this ends a session.
      starts_nl: bool. Where sessions start, if the caller knows; then the gap is not used. A
        user's first event always starts one.

    Returns:
      The rows, and the states without their carry: that is the old one, as it was.
    """
    users, events = item_rows_nl.shape
    lanes_n = np.arange(users)
    held_nl = np.arange(events) < count_n[:, None]
    first_nl = held_nl & (states.events_n[:, None] + np.arange(events) == 0)
    known_n1 = np.where(states.events_n > 0, states.last_time_n, time_nl[:, 0])[:, None]
    newest_nl = np.maximum.accumulate(
        np.concatenate([known_n1, np.where(held_nl, time_nl, known_n1)], 1), axis=1
    )
    now_nl, before_nl = newest_nl[:, 1:], newest_nl[:, :-1]
    pause_nl = now_nl - before_nl
    begins_nl = held_nl & (pause_nl > gap_seconds if starts_nl is None else starts_nl)
    begins_nl |= first_nl
    number_nl = np.arange(events)
    last_start_nl = np.maximum.accumulate(np.where(begins_nl, number_nl, -1), axis=1)
    position_nl = np.where(
        last_start_nl >= 0, number_nl - last_start_nl, states.position_n[:, None] + number_nl
    )
    session_nl: np.ndarray = np.cumsum(begins_nl, axis=1) - begins_nl[:, :1]
    first_time_n = np.where(states.events_n > 0, states.first_time_n, now_nl[:, 0])
    seconds_nl = np.minimum(now_nl - first_time_n[:, None], _SECONDS_MOST)
    gap_nl = np.where(begins_nl & ~first_nl, pause_nl / 3600, 0)

    def by_session(value_nl: np.ndarray) -> np.ndarray:
        value_ns = np.zeros((users, events), value_nl.dtype)
        lane_m, place_m = np.nonzero(begins_nl)
        value_ns[lane_m, session_nl[lane_m, place_m]] = value_nl[lane_m, place_m]
        return value_ns

    def held(value_nl: np.ndarray) -> np.ndarray:
        return np.where(held_nl, value_nl, PADDING_ID).astype(np.int32)

    rows = EventRows(
        held(item_rows_nl),
        held(position_nl),
        held(states.events_n[:, None] + number_nl),
        held(seconds_nl),
        held(session_nl),
        by_session(begins_nl),
        by_session(first_nl),
        by_session(gap_nl).astype(np.float32),
    )
    some_n = count_n > 0
    last_n = np.maximum(count_n - 1, 0)
    most = states.own_nm.shape[1]
    joined_nm = np.concatenate([item_rows_nl[:, ::-1], states.own_nm], 1)
    own_nm = joined_nm[lanes_n[:, None], events - count_n[:, None] + np.arange(most)]
    after = UserStates(
        states.carry,
        np.where(some_n, position_nl[lanes_n, last_n] + 1, states.position_n).astype(np.int32),
        (states.events_n + count_n).astype(np.int32),
        np.where(some_n, first_time_n, states.first_time_n),
        np.where(some_n, now_nl[lanes_n, last_n], states.last_time_n),
        own_nm.astype(np.int32),
    )
    return rows, after


def next_event(
    states: UserStates, time_n: np.ndarray, gap_seconds: float, starts_n: np.ndarray | None = None
) -> Moments:
    """What is known of the users' next events, if they happen at these times.

    Args:
      states: Of the users.
      time_n: int64. Seconds; before a user's newest event counts as its time.
      gap_seconds: See `event_rows`.
      starts_n: bool. Whether each starts a session, if the caller knows.
    """
    none_n = states.events_n == 0
    pause_n = np.where(none_n, 0, np.maximum(time_n - states.last_time_n, 0))
    starts_n = pause_n > gap_seconds if starts_n is None else starts_n
    starts_n = starts_n | none_n
    seconds_n = np.where(none_n, 0, states.last_time_n + pause_n - states.first_time_n)
    return Moments(
        np.where(starts_n, 0, states.position_n).astype(np.int32),
        states.events_n,
        np.minimum(seconds_n, _SECONDS_MOST).astype(np.int32),
        np.where(starts_n, pause_n / 3600, 0).astype(np.float32),
    )


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
