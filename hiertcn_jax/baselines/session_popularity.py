"""Rankers of what the user picked already: in the running session, or just before."""

from collections.abc import Iterable

import numpy as np

from hiertcn_jax.baselines import Context, FittedHistory
from hiertcn_jax.baselines.events import known_items
from hiertcn_jax.baselines.popularity import Popularity


class SessionPopularity:
    """How often an item was picked in the running session; of equal counts the more popular first.

    S-POP of Hidasi et al. 2016 (Session-based recommendations with recurrent neural networks). At
    a session's first event it is popularity. Not causal: the popularity is that of the fitted part.

    Args:
      rows: `v`, rows of the item table.
    """

    causal = False

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.fit(())

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Counts the items."""
        popularity = Popularity(self._rows)
        popularity.fit(histories)
        counts_v = popularity.counts_v
        # Below one, so that it only decides where the session's counts are equal.
        self._share_v = counts_v / (1 + counts_v.max(initial=0))

    def score(self, context: Context) -> np.ndarray:
        """Count in the session, plus a share below one."""
        items = known_items(context, context.session_start)
        return np.bincount(items, minlength=self._rows) + self._share_v


class RepeatLast:
    """The item that the user picked last, and all others equal.

    Recency at its plainest, which Anderson et al. 2014 (The dynamics of repeat consumption) found
    to say most about what is picked again. At a session's first event this is the last item of the
    session before. Causal: nothing of other users is looked at.

    Args:
      rows: `v`, rows of the item table.
    """

    causal = True

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """There is nothing to learn."""
        del histories

    def score(self, context: Context) -> np.ndarray:
        """One for the last known item, zero for all others."""
        scores_v = np.zeros(self._rows)
        scores_v[known_items(context)[-1:]] = 1
        return scores_v
