"""The items of the highest scores of one event, on the host."""

from collections.abc import Sequence

import numpy as np

from hiertcn_jax.batch import FIRST_ITEM_ID

_GROUP = 32
"""Neighbouring rows whose highest score decides whether they are looked at one by one."""


def top_items(scores_v: np.ndarray, k: int, seen_k: Sequence[int] | np.ndarray = ()) -> np.ndarray:
    """The rows of the k highest scores, highest first; of equal ones the lower row comes first.

    Args:
      scores_v: A score for each row of the item table, no NaN; compared in float32. Rows before
        FIRST_ITEM_ID are no items.
      k: Items wanted; fewer are given where there are fewer.
      seen_k: Rows that are left out.

    Example:
      >>> top_items(np.array([9.0, 9.0, 0.5, 0.7, 0.5]), k=2)
      array([3, 2])
    """
    rows, seen = len(scores_v), np.unique(np.asarray(seen_k, np.int64))
    seen = seen[seen >= FIRST_ITEM_ID]
    most = min(k, rows - FIRST_ITEM_ID - len(seen))
    if most < 1:
        return np.zeros(0, np.int64)
    padded_v = np.full(-(-rows // _GROUP) * _GROUP, -np.inf, np.float32)
    padded_v[FIRST_ITEM_ID:rows] = scores_v[FIRST_ITEM_ID:]
    padded_v[seen] = -np.inf
    highest_g = padded_v.reshape(-1, _GROUP).max(1)
    # So many items score at least this: one in each of the groups with the highest maxima.
    groups = min(most, len(highest_g))
    least = np.partition(highest_g, -groups)[-groups] if groups == most else -np.inf
    above = np.flatnonzero(padded_v > least)
    above = above[np.argsort(-padded_v[above], kind="stable")][:most]
    if len(above) < most:
        level_v = padded_v[:rows] == least
        level_v[:FIRST_ITEM_ID] = level_v[seen] = False
        above = np.concatenate([above, np.flatnonzero(level_v)[: most - len(above)]])
    return above
