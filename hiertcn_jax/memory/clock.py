"""The time of day and of the week at an event, for the weights of memory's terms."""

from collections.abc import Sequence

import numpy as np

DAY = 24 * 3600
_MONDAY = 4 * DAY
"""Seconds from the epoch (a Thursday) to a Monday."""


def clock(time_n: np.ndarray | Sequence[int]) -> np.ndarray:
    """float32 [n, 4]. Hour of the day and hour of the week, each as sine and cosine, in UTC.

    >>> clock([0]).astype(float).round(2).tolist()  # a Thursday, 0:00
    [[0.0, 1.0, 0.43, -0.9]]
    """
    time_n = np.asarray(time_n)
    turns = [(time_n % DAY) / DAY, ((time_n - _MONDAY) % (7 * DAY)) / (7 * DAY)]
    waves = [wave(2 * np.pi * turn) for turn in turns for wave in (np.sin, np.cos)]
    return np.stack(waves, axis=-1).astype(np.float32)
