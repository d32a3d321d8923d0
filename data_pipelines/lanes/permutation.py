"""Shuffling places one by one: a permutation that is never held in memory.

A Feistel network over pairs of digits, walked along until it falls on a place that exists. grain's
own `index_shuffle` (0.2.18) is not used: below 65,536 places it tries about 65,536 / n values for
each place, and for 65,537 places it repeats some and leaves others out.
"""

import math

import numpy as np

ROUNDS = 6
"""Four make it as good as random for a random round function; two more as this one is not."""


def permutation_keys(seed: int, epoch: int) -> np.ndarray:
    """The keys of the permutation of one epoch, uint64 [ROUNDS]."""
    return np.random.SeedSequence([seed, epoch]).generate_state(ROUNDS, np.uint64)


def permute(place_n: np.ndarray, size: int, key_nr: np.ndarray) -> np.ndarray:
    """Where each place of 0..size-1 goes.

    Args:
      place_n: int64. Places, each below `size`.
      size: Number of places.
      key_nr: uint64 [n, ROUNDS]. The keys of the permutation that each is looked up in.

    Returns:
      int64 [n]. For equal keys, other places go to other places.

    Example:
      >>> keys = permutation_keys(seed=0, epoch=0)
      >>> permute(np.arange(8), size=8, key_nr=np.tile(keys, (8, 1)))
      array([6, 5, 3, 0, 4, 2, 1, 7])
    """
    side = np.uint64(math.isqrt(size - 1) + 1)
    result_n = _feistel(place_n.astype(np.uint64), side, key_nr)
    while len(outside := np.flatnonzero(result_n >= size)):
        result_n[outside] = _feistel(result_n[outside], side, key_nr[outside])
    return result_n.astype(np.int64)


def _feistel(place_n: np.ndarray, side: np.uint64, key_nr: np.ndarray) -> np.ndarray:
    """One of the permutations of 0..side^2-1."""
    high_n, low_n = np.divmod(place_n, side)
    for key_n in key_nr.T:
        high_n, low_n = low_n, (high_n + scramble(low_n ^ key_n) % side) % side
    return high_n * side + low_n


def scramble(value_n: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    value_n = (value_n ^ (value_n >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value_n = (value_n ^ (value_n >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value_n ^ (value_n >> np.uint64(31))
