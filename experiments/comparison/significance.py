"""Paired bootstrap over users: how certain a difference between two models is."""

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
    difference_nm: np.ndarray, user_n: np.ndarray, samples: int = 1000, seed: int = 0
) -> list[Interval]:
    """Means of differences over the same events, with users drawn with replacement.

    Draws users instead of events, because the events of one user are not independent.

    Args:
      difference_nm: A column per pair of models: metric of each event under the first, minus that
        under the second.
      user_n: The user of each event; any values.
      samples: Bootstrap samples, the same for all columns.
      seed: Seed of the draws.

    Returns:
      One interval a column.

    Raises:
      ValueError: The lengths differ, or there is no event.

    Example:
      Both users gain by half of their two events, so no sample of users differs:

      >>> gain_nm = np.array([[1.0], [0.0], [1.0], [0.0]])
      >>> paired_bootstrap(gain_nm, user_n=np.array(["ann", "ann", "bob", "bob"]))
      [Interval(difference=0.5, low=0.5, high=0.5)]
    """
    if not len(difference_nm) == len(user_n) > 0:
        raise ValueError(f"events: {len(difference_nm)} and {len(user_n)}; must be equal and > 0")
    _, place_n = np.unique(user_n, return_inverse=True)
    events_u = np.bincount(place_n).astype(np.float64)
    sum_um = np.stack([np.bincount(place_n, column) for column in difference_nm.T], axis=1)
    users, rng = len(events_u), np.random.default_rng(seed)
    drawn = []
    for start in range(0, samples, _SAMPLES_AT_A_TIME):
        size = min(_SAMPLES_AT_A_TIME, samples - start)
        weight_su = rng.multinomial(users, np.full(users, 1 / users), size)
        drawn.append(weight_su @ sum_um / (weight_su @ events_u)[:, None])
    low_m, high_m = np.percentile(np.concatenate(drawn), [2.5, 97.5], axis=0)
    mean_m = sum_um.sum(axis=0) / events_u.sum()
    return [Interval(*map(float, of_pair)) for of_pair in zip(mean_m, low_m, high_m, strict=True)]
