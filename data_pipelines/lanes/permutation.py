"""A random permutation that computes single entries and is never held in memory.

It is a Feistel network over pairs of digits, applied again until the result is below the size.
grain's own `index_shuffle` (0.2.18) is not usable: below 65,536 entries it tries about 65,536 / n
values for each entry, and for 65,537 entries it repeats some and omits others.
"""

import math

import numpy as np

from data_pipelines.hashing import scramble

ROUNDS = 6
"""Four rounds suffice for a random round function; this one is weaker and gets two more."""


def permutation_keys(seed: int, epoch: int) -> np.ndarray:
    """The keys of the permutation of one epoch, uint64 [ROUNDS]."""
    return np.random.SeedSequence([seed, epoch]).generate_state(ROUNDS, np.uint64)


def permute(place_n: np.ndarray, size: int, key_nr: np.ndarray) -> np.ndarray:
    """Where each of the indices 0..size-1 goes.

    Args:
      place_n: int64. Indices, each below `size`.
      size: Number of indices.
      key_nr: uint64 [n, ROUNDS]. The keys of the permutation to use for each index.

    Returns:
      int64 [n]. With equal keys, different indices go to different indices.

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
    """One permutation of 0..side^2-1."""
    high_n, low_n = np.divmod(place_n, side)
    for key_n in key_nr.T:
        high_n, low_n = low_n, (high_n + scramble(low_n ^ key_n) % side) % side
    return high_n * side + low_n
