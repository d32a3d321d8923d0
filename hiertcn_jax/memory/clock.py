"""What is known of an event's moment: the time of day and of the week, the session so far."""

from collections.abc import Sequence
from typing import Any

import numpy as np

DAY = 24 * 3600
_MONDAY = 4 * DAY
"""Seconds from the epoch (a Thursday) to a Monday."""
_FAR = 8
"""Events after which the position in the session no longer matters."""


def clock(time_n: np.ndarray | Sequence[int]) -> np.ndarray:
    """float32 [n, 4]. Hour of the day and hour of the week, each as sine and cosine, in UTC.

    >>> clock([0]).astype(float).round(2).tolist()  # a Thursday, 0:00
    [[0.0, 1.0, 0.43, -0.9]]
    """
    time_n = np.asarray(time_n)
    turns = [(time_n % DAY) / DAY, ((time_n - _MONDAY) % (7 * DAY)) / (7 * DAY)]
    waves = [wave(2 * np.pi * turn) for turn in turns for wave in (np.sin, np.cos)]
    return np.stack(waves, axis=-1).astype(np.float32)


def session_progress(position: Any, gap_hours: Any) -> Any:
    """float32 [*e, 4]. How far each event's session has come, scaled to about 1.

    Whether it is the first or the second of its session, how far the session has come, and the
    logarithm of the hours since the previous session (0 unless it is the first).

    Args:
      position: int32 [*e]. Index in the session; an array of numpy or JAX, and so is the result.
      gap_hours: float32 [*e]. Hours since the previous session.

    >>> session_progress(np.array([4]), np.array([0.0])).tolist()
    [[0.0, 0.0, 0.5, 0.0]]
    """
    xp = position.__array_namespace__()
    # Only for the first event: a row that continues a session does not know its gap.
    known = (
        position == 0,
        position == 1,
        xp.minimum(position, _FAR) / _FAR,
        xp.where(position == 0, xp.log1p(xp.maximum(gap_hours, 0)) / 4, 0),
    )
    return xp.stack([value.astype(np.float32) for value in known], axis=-1)
