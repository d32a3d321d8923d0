"""Popularity: scores items by how often they were picked in the fitted part."""

from collections.abc import Iterable

import numpy as np

from hiertcn_jax.baselines import Context, FittedHistory
from hiertcn_jax.baselines.events import fitted_events


class Popularity:
    """Counts of the fitted part, the same for everyone.

    POP of Hidasi et al. 2016 (Session-based recommendations with recurrent neural networks). Not
    causal: it counts other users' later events of the fitted part too.

    Args:
      rows: `v`, rows of the item table.

    Attributes:
      counts_v: float64. How often each item was picked in the fitted part.
    """

    causal = False

    def __init__(self, rows: int) -> None:
        self.counts_v = np.zeros(rows)

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Counts the items."""
        item_n = fitted_events(histories).item_n
        self.counts_v = np.bincount(item_n, minlength=len(self.counts_v)).astype(np.float64)

    def score(self, context: Context) -> np.ndarray:
        """The counts, for any context."""
        del context
        return self.counts_v
