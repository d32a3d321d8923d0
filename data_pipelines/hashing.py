"""Mixes the bits of whole numbers, the same on every machine."""

import numpy as np


def scramble(value_n: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    value_n = (value_n ^ (value_n >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value_n = (value_n ^ (value_n >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value_n ^ (value_n >> np.uint64(31))


def scrambled_rows(*columns: np.ndarray) -> np.ndarray:
    """uint64 [n]. A number for each row of whole numbers; it depends on their order.

    Each column is mixed before the next is added, so that no two can make up for each other.
    """
    odd = np.uint64(0x9E3779B97F4A7C15)
    hash_n = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        hash_n = scramble(hash_n + column.astype(np.uint64) * odd + odd)
    return hash_n
