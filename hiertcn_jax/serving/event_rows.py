"""Rows of users' next events: the batch that takes them in, and what the host then knows.

A session ends after a pause longer than a gap, or where the caller says that a new one starts. An
event that comes with a time before the user's newest one counts as if it came with that.
"""

import numpy as np

from hiertcn_jax.batch import PADDING_ID, Batch, NextEvent
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.serving.user_states import Events, UserStates

_SECONDS_MOST = 2**31 - 1


def event_rows(
    states: UserStates,
    item_rows_nl: np.ndarray,
    time_nl: np.ndarray,
    count_n: np.ndarray,
    gap_seconds: float,
    starts_nl: np.ndarray | None = None,
) -> tuple[Batch, UserStates]:
    """A batch of the next events of n users, a lane each.

    Args:
      states: Before the events.
      item_rows_nl: int32. Rows of the item table; UNKNOWN_ID for an item that is not in it.
      time_nl: int64. Seconds, in the order of the events.
      count_n: Events of each user; what stands after them is not read.
      gap_seconds: A pause longer than this ends a session.
      starts_nl: bool. Where sessions start, if the caller knows; then the gap is not used. A
        user's first event always starts one.

    Returns:
      The batch, and the states without their carry: that is the old one, as it was.
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

    batch = Batch(
        item_ids_bl=held(item_rows_nl),
        position_bl=held(position_nl),
        user_position_bl=held(states.events_n[:, None] + number_nl),
        seconds_bl=held(seconds_nl),
        session_bl=held(session_nl),
        starts_session_bs=by_session(begins_nl),
        starts_user_bs=by_session(first_nl),
        gap_hours_bs=by_session(gap_nl).astype(np.float32),
        loss_weight_bl=np.zeros((users, events), np.float32),
        scored_bl=np.zeros((users, events), bool),
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
    return batch, after


def next_event(
    states: UserStates, time_n: np.ndarray, gap_seconds: float, starts_n: np.ndarray | None = None
) -> NextEvent:
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
    return NextEvent(
        position_b=np.where(starts_n, 0, states.position_n).astype(np.int32),
        user_position_b=states.events_n,
        seconds_b=np.minimum(seconds_n, _SECONDS_MOST).astype(np.int32),
        gap_hours_b=np.where(starts_n, pause_n / 3600, 0).astype(np.float32),
    )


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
