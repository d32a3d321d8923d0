"""Stretches of an array, laid end to end."""

import numpy as np


def places_of(first_k: np.ndarray, size_k: np.ndarray) -> np.ndarray:
    """int64 [n]. The indices of several stretches of an array, one stretch after the other.

    Args:
      first_k: int64. First index of each stretch.
      size_k: int64. Its length.
    >>> places_of(np.array([7, 3]), np.array([2, 3])).tolist()
    [7, 8, 3, 4, 5]
    """
    return np.repeat(first_k - (np.cumsum(size_k) - size_k), size_k) + np.arange(size_k.sum())
