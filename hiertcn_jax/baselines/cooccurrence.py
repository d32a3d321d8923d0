"""Which items are picked in the same sessions, as sparse matrices.

A session of n items has n^2 pairs: a crawler's 8,000 views would be 64 million. So pairs are either
counted a few rows at a time, or those of long sessions are never made.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from hiertcn_jax.baselines.events import FittedEvents

_PAIRS_AT_ONCE = 1 << 21
"""Pairs in memory at a time, at most, but for one row's."""

_MOST_PAIRED_ITEMS = 256
"""A session of more distinct items is kept as its items, which are fewer numbers than its pairs."""


class Cooccurrence(NamedTuple):
    """Counts of sessions.

    Attributes:
      pairs_vv: Sessions of few items that hold both items; symmetric, its diagonal is empty.
      sessions_v: float64. Sessions that hold the item, of few items or of many.
      long_mv: The sessions of many items: 1 where one holds an item.
    """

    pairs_vv: sparse.csr_array
    sessions_v: np.ndarray
    long_mv: sparse.csr_array


def session_items(events: FittedEvents, rows: int) -> sparse.csr_array:
    """[m, v]: 1 where a session holds an item, also where it was picked more than once.

    Args:
      events: The fitted part.
      rows: `v`, rows of the item table.
    """
    shape = (len(events.session_end_m), rows)
    ones_n = np.ones(len(events.item_n))
    holds_mv = sparse.csr_array((ones_n, (events.session_n, events.item_n)), shape)
    holds_mv.sum_duplicates()
    holds_mv.data[:] = 1
    return holds_mv


def pairs_by_rows(holds_mv: sparse.csr_array) -> Iterator[tuple[int, sparse.csr_array]]:
    """Counts the sessions that hold both items of a pair, some rows at a time.

    Args:
      holds_mv: See `session_items`.

    Yields:
      The first row of a block, and the block [i, v]; an item makes no pair with itself.
    """
    rows = holds_mv.shape[1]
    by_item_vm = sparse.csr_array(holds_mv.T)
    most_v = np.minimum(by_item_vm @ np.diff(holds_mv.indptr).astype(np.float64), rows)
    end_v = np.cumsum(most_v)
    first = 0
    while first < rows:
        before = end_v[first - 1] if first else 0
        end = int(np.searchsorted(end_v, before + _PAIRS_AT_ONCE, side="right"))
        end = max(end, first + 1)
        yield first, _off_diagonal(by_item_vm[first:end] @ holds_mv, first)
        first = end


def cooccurrence(events: FittedEvents, rows: int) -> Cooccurrence:
    """Counts pairs of items by the sessions that hold both, but for sessions of many items.

    Args:
      events: The fitted part.
      rows: `v`, rows of the item table.
    """
    holds_mv = session_items(events, rows)
    is_long_m = np.diff(holds_mv.indptr) > _MOST_PAIRED_ITEMS
    short_mv, long_mv = holds_mv[~is_long_m], holds_mv[is_long_m]
    return Cooccurrence(
        _off_diagonal(short_mv.T @ short_mv, 0), holds_mv.sum(axis=0), sparse.csr_array(long_mv)
    )


def sum_cooccurrence(blocks: Iterable[FittedEvents], rows: int) -> Cooccurrence:
    """`cooccurrence` of events that come in blocks, the sessions of each its own.

    Args:
      blocks: At least one.
      rows: `v`, rows of the item table.
    """
    counts = (cooccurrence(events, rows) for events in blocks)
    total = next(counts)
    for more in counts:
        total = Cooccurrence(
            sparse.csr_array(total.pairs_vv + more.pairs_vv),
            total.sessions_v + more.sessions_v,
            sparse.csr_array(sparse.vstack([total.long_mv, more.long_mv])),
        )
    return total


def _off_diagonal(pairs_iv: sparse.sparray, first: int) -> sparse.csr_array:
    """The pairs of rows from `first` on, without those of an item with itself."""
    pairs = sparse.coo_array(pairs_iv)
    kept_n = pairs.col != pairs.row + first
    kept = (pairs.data[kept_n], (pairs.row[kept_n], pairs.col[kept_n]))
    return sparse.csr_array(kept, pairs.shape)
