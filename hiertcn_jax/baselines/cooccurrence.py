"""Counts which items occur in the same sessions, as sparse matrices.

A session of n items has n^2 pairs; a crawler's 8,000 views would give 64 million. So pairs are
counted a few rows at a time, or long sessions are stored without making pairs.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from hiertcn_jax.baselines.events import FittedEvents

_PAIRS_AT_ONCE = 1 << 21
"""Most pairs in memory at a time, except for a single row with more."""

_MOST_PAIRED_ITEMS = 256
"""A session with more distinct items is stored as its items, which are fewer than its pairs."""


class Cooccurrence(NamedTuple):
    """Counts of sessions.

    Attributes:
      pairs_vv: Number of short sessions that contain both items; symmetric, with an empty diagonal.
      sessions_v: float64. Number of sessions that contain the item, short or long.
      long_mv: The long sessions: 1 if the session contains the item.
    """

    pairs_vv: sparse.csr_array
    sessions_v: np.ndarray
    long_mv: sparse.csr_array


def session_items(events: FittedEvents, rows: int) -> sparse.csr_array:
    """[m, v]: 1 if a session contains an item, however often.

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
    """Counts the sessions that contain both items of a pair, some rows at a time.

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
    """Counts the short sessions that contain both items of a pair, and collects the long ones.

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
    """`cooccurrence` of events in blocks. No session spans two blocks.

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
    """The pairs in rows from `first` on, without pairs of an item with itself."""
    pairs = sparse.coo_array(pairs_iv)
    kept_n = pairs.col != pairs.row + first
    kept = (pairs.data[kept_n], (pairs.row[kept_n], pairs.col[kept_n]))
    return sparse.csr_array(kept, pairs.shape)
