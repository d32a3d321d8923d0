"""Which items are picked in the same sessions, as sparse matrices."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import sparse

from hiertcn_jax.baselines.events import FittedEvents


class Cooccurrence(NamedTuple):
    """Counts of sessions.

    Attributes:
      pairs_vv: Sessions that hold both items; symmetric, its diagonal is empty.
      sessions_v: float64. Sessions that hold the item.
    """

    pairs_vv: sparse.csr_array
    sessions_v: np.ndarray


def cooccurrence(events: FittedEvents, rows: int) -> Cooccurrence:
    """Counts pairs of items by the sessions that hold both.

    Args:
      events: The fitted part.
      rows: `v`, rows of the item table.
    """
    shape = (len(events.session_end_m), rows)
    ones_n = np.ones(len(events.item_n))
    holds_mv = sparse.csr_array((ones_n, (events.session_n, events.item_n)), shape)
    # An item picked twice in a session is held once.
    holds_mv.sum_duplicates()
    holds_mv.data[:] = 1
    pairs_vv = sparse.csr_array(holds_mv.T @ holds_mv)
    sessions_v = pairs_vv.diagonal()
    pairs_vv.setdiag(0)
    pairs_vv.eliminate_zeros()
    return Cooccurrence(pairs_vv, sessions_v)


def sum_cooccurrence(blocks: Iterable[FittedEvents], rows: int) -> Cooccurrence:
    """`cooccurrence` of events that come in blocks, the sessions of each its own.

    Args:
      blocks: At least one.
      rows: `v`, rows of the item table.
    """
    counts = (cooccurrence(events, rows) for events in blocks)
    total = next(counts)
    for more in counts:
        pairs_vv = sparse.csr_array(total.pairs_vv + more.pairs_vv)
        total = Cooccurrence(pairs_vv, total.sessions_v + more.sessions_v)
    return total
