"""Divides what waits into batches, and puts states and lists of rows together."""

from collections.abc import Sequence

import numpy as np

from experiments.server.requests import Ask
from hiertcn_jax.item_ids import PADDING_ID
from hiertcn_jax.serving.user_states import UserStates

_USERS_MOST = 64
"""Users whose items are scored at a time."""


def rounds(user_index_n: np.ndarray) -> list[np.ndarray]:
    """Indices of events in rounds, in each at most one of a user, in order."""
    turn_of: dict[int, int] = {}
    found: list[list[int]] = []
    for number, user_index in enumerate(user_index_n.tolist()):
        turn = turn_of.get(user_index, 0)
        turn_of[user_index] = turn + 1
        if turn == len(found):
            found.append([])
        found[turn].append(number)
    return [np.array(one) for one in found]


def taken(states: UserStates, index_n: np.ndarray) -> UserStates:
    """`UserStates.take`, which copies; the states themselves if all are taken in their order."""
    if np.array_equal(index_n, np.arange(states.users)):
        return states
    return states.take(index_n)


def with_states(states: UserStates, part_m: np.ndarray, new: UserStates) -> UserStates:
    """The states with some of them replaced."""
    arrays = []
    for array, values in zip(states.arrays, new.arrays, strict=True):
        array = array.copy()
        array[part_m] = values
        arrays.append(array)
    return states.with_arrays(arrays)


def by_candidates(asks: Sequence[Ask]) -> list[np.ndarray]:
    """Indices of asks that choose from the same items, as many as are scored at a time."""
    groups: dict[frozenset[str] | None, list[int]] = {}
    for number, one in enumerate(asks):
        groups.setdefault(one.candidates, []).append(number)
    return [
        np.array(group[start : start + _USERS_MOST])
        for group in groups.values()
        for start in range(0, len(group), _USERS_MOST)
    ]


def filled(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Lists side by side, filled up with PADDING_ID."""
    filled_ne = np.full((len(rows), max([1, *(len(one) for one in rows)])), PADDING_ID, np.int32)
    for row_e, one in zip(filled_ne, rows, strict=True):
        row_e[: len(one)] = one
    return filled_ne


def session_starts(
    states: UserStates,
    time_n: np.ndarray,
    sessions: Sequence[str | None],
    running: Sequence[str | None],
    gap_seconds: float,
) -> np.ndarray:
    """Whether events start sessions, bool [n]: by ids where both have one, else by the pause.

    Args:
      states: The users' before the events.
      time_n: int64. Of the events, seconds.
      sessions: Ids of the events' sessions.
      running: Ids of the users' running sessions.
      gap_seconds: A pause longer than this ends a session.
    """
    by_pause_n = time_n - states.last_time_n > gap_seconds
    starts_n = np.array(
        [
            paused if one is None or last is None else one != last
            for one, last, paused in zip(sessions, running, by_pause_n, strict=True)
        ],
        bool,
    )
    return starts_n | (states.events_n == 0)
