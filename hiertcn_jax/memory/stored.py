"""Checks counts that come from a file: compiled loops read and write at their indices unchecked."""

from typing import TypeVar

import numpy as np

from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.memory.event_log import LISTED, LogArrays, empty_log
from hiertcn_jax.memory.followers import FollowerArrays, empty_followers

ArraysT = TypeVar("ArraysT", LogArrays, FollowerArrays)


def stored_log(arrays: dict[str, np.ndarray]) -> LogArrays:
    """The log of `Memory.arrays`, copied.

    Raises:
      ValueError: An array is missing, of another type or shape, or holds an index out of range.
    """
    rows, events = (len(_found(arrays, f"log/{name}")) for name in ("last_v", "item_n"))
    log = _copies(arrays, "log", empty_log(rows, events, SIZES))
    for name in ("item_n", "top_qm", "listed_cj"):
        _require_within(log, "log", name, 0, rows)
    for name in ("item_before_n", "last_v"):
        _require_within(log, "log", name, -1, events)
    _require_within(log, "log", "rank_cv", -1, LISTED)
    _require_earlier(log.item_before_n, "log/item_before_n")
    if np.any(np.diff(log.time_n) < 0):
        raise ValueError("memory: log/time_n goes back in time")
    return log


def stored_followers(arrays: dict[str, np.ndarray], rows: int) -> FollowerArrays:
    """The followers of `Memory.arrays`, copied.

    Args:
      arrays: See `Memory.arrays`.
      rows: `v`, rows of the item table.

    Raises:
      ValueError: As for `stored_log`.
    """
    records = len(_found(arrays, "followers/owner_r"))
    found = _copies(arrays, "followers", empty_followers(rows, records, SIZES))
    for name in ("owner_r", "item_rj"):
        _require_within(found, "followers", name, 0, rows)
    for name in ("before_r", "newest_v", "open_v"):
        _require_within(found, "followers", name, -1, records)
    _require_within(found, "followers", "used", 0, records + 1)
    _require_earlier(found.before_r, "followers/before_r")
    return found


def _found(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    array = arrays.get(name)
    if array is None or not array.ndim:
        raise ValueError(f"memory: {name} is missing or of another type")
    return array


def _copies(arrays: dict[str, np.ndarray], prefix: str, like: ArraysT) -> ArraysT:
    copies = {}
    for name, expected in like._asdict().items():
        array = _found(arrays, f"{prefix}/{name}")
        if array.dtype != expected.dtype or array.shape != expected.shape:
            raise ValueError(f"memory: {prefix}/{name} is missing or of another type")
        copies[name] = array.copy()
    return like._replace(**copies)


def _require_within(arrays: ArraysT, prefix: str, name: str, low: int, end: int) -> None:
    array = getattr(arrays, name)
    if array.size and not low <= array.min() <= array.max() < end:
        raise ValueError(f"memory: {prefix}/{name} must be from {low} to {end - 1}")


def _require_earlier(before_n: np.ndarray, name: str) -> None:
    """Checks that each refers to an earlier one, so that the chain ends."""
    if np.any(before_n >= np.arange(len(before_n))):
        raise ValueError(f"memory: {name} must be earlier than the event itself")
