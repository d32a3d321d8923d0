"""Popularity: every event is scored by how often items were picked in the fitted part."""

from collections.abc import Iterable

import numpy as np

from hiertcn_jax.baselines import Context, FittedHistory


class Popularity:
    """Counts of the fitted part, the same for everyone. Not causal: it counts other users' later
    events of the fitted part too.

    Args:
      rows: `v`, rows of the item table.
    """

    def __init__(self, rows: int) -> None:
        self._counts_v = np.zeros(rows)

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Counts the items."""
        for history in histories:
            self._counts_v += np.bincount(history.item_ids_n, minlength=len(self._counts_v))

    def score(self, context: Context) -> np.ndarray:
        """The counts, whatever the context."""
        del context
        return self._counts_v
