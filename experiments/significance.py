"""Paired bootstrap over users: how sure a difference between two models is."""

from typing import NamedTuple

import numpy as np

_SAMPLES_AT_A_TIME = 100
"""Samples drawn at once: their weights take samples * users numbers."""


class Interval(NamedTuple):
    """A difference and its 95 % interval.

    Attributes:
      difference: First minus second, over all events.
      low: 2.5th percentile over the samples.
      high: 97.5th percentile.
    """

    difference: float
    low: float
    high: float


def paired_bootstrap(
    first_n: np.ndarray,
    second_n: np.ndarray,
    user_n: np.ndarray,
    samples: int = 1000,
    seed: int = 0,
) -> Interval:
    """The difference of two means over the same events, with users drawn with replacement.

    Users are drawn, not events: the events of one user are not independent of each other.

    Args:
      first_n: Metric of each event under the first model.
      second_n: Under the second, in the same order.
      user_n: Whose event it is; any values.
      samples: Bootstrap samples.
      seed: Of the draws.

    Raises:
      ValueError: The lengths differ, or there is no event.
    """
    if not len(first_n) == len(second_n) == len(user_n) > 0:
        raise ValueError(
            f"events: {len(first_n)}, {len(second_n)} and {len(user_n)}; must be equal and > 0"
        )
    _, place_n = np.unique(user_n, return_inverse=True)
    events_u = np.bincount(place_n).astype(np.float64)
    difference_u = np.bincount(place_n, np.asarray(first_n, float) - np.asarray(second_n, float))
    users, rng = len(events_u), np.random.default_rng(seed)
    drawn = []
    for start in range(0, samples, _SAMPLES_AT_A_TIME):
        size = min(_SAMPLES_AT_A_TIME, samples - start)
        weight_su = rng.multinomial(users, np.full(users, 1 / users), size)
        drawn.append(weight_su @ difference_u / (weight_su @ events_u))
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5])
    return Interval(float(difference_u.sum() / events_u.sum()), float(low), float(high))
