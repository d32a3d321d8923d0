"""What events change of what the host knows of users, one event after another.

numba compiles these loops, because numpy takes longer to start its operations than one event takes.
"""

from typing import Any

import numba
import numpy as np

njit = numba.njit(cache=True, nogil=True)

_SECONDS_MOST = 2**31 - 1


@njit
def move_on(
    facts: Any,
    time_m: np.ndarray,
    count_n: np.ndarray,
    gap_seconds: float,
    starts_m: np.ndarray,
    known: tuple[np.ndarray, ...],
) -> None:
    """Writes the facts of the events after their items, and moves what is known of the users on.

    Args:
      facts: `event_rows.EventFacts` with the items; the rest is filled in.
      time_m: Seconds.
      count_n: Events of each user.
      gap_seconds: A pause longer than this ends a session.
      starts_m: Where sessions start; empty: after a pause longer than the gap.
      known: The arrays of `UserStates` after its carry.
    """
    position_n, events_n, first_time_n, last_time_n, own_nm = known
    m = 0
    for n in range(len(count_n)):
        for _ in range(count_n[n]):
            is_first = events_n[n] == 0
            time = time_m[m] if is_first else max(time_m[m], last_time_n[n])
            if is_first:
                first_time_n[n] = last_time_n[n] = time
            pause = time - last_time_n[n]
            starts = is_first or (starts_m[m] if len(starts_m) else pause > gap_seconds)
            if starts:
                position_n[n] = 0
            facts.position_m[m] = position_n[n]
            facts.user_position_m[m] = events_n[n]
            facts.seconds_m[m] = min(time - first_time_n[n], _SECONDS_MOST)
            facts.starts_m[m] = starts
            facts.starts_user_m[m] = is_first
            facts.gap_hours_m[m] = pause / 3600 if starts else 0
            position_n[n] += 1
            events_n[n] += 1
            last_time_n[n] = time
            m += 1
        # The newest first; events beyond the room push out all earlier ones.
        room = own_nm.shape[1]
        new = min(count_n[n], room)
        for slot in range(room - 1, new - 1, -1):
            own_nm[n, slot] = own_nm[n, slot - new]
        for slot in range(new):
            own_nm[n, slot] = facts.item_m[m - 1 - slot]


@njit
def describe_next(
    moments: Any,
    time_n: np.ndarray,
    gap_seconds: float,
    starts_n: np.ndarray,
    known: tuple[np.ndarray, ...],
) -> None:
    """Fills in `event_rows.Moments`; the other arguments are as in `move_on`."""
    position_n, events_n, first_time_n, last_time_n = known
    for n in range(len(time_n)):
        is_first = events_n[n] == 0
        pause = 0 if is_first else max(time_n[n] - last_time_n[n], 0)
        starts = is_first or (starts_n[n] if len(starts_n) else pause > gap_seconds)
        moments.position_n[n] = 0 if starts else position_n[n]
        seconds = 0 if is_first else last_time_n[n] + pause - first_time_n[n]
        moments.seconds_n[n] = min(seconds, _SECONDS_MOST)
        moments.gap_hours_n[n] = pause / 3600 if starts else 0
