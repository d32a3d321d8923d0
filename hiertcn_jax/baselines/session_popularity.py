"""Rankers of items that the user already picked: in the current session, or just before."""

from collections.abc import Iterable

import numpy as np

from hiertcn_jax.baselines import Context, FittedHistory
from hiertcn_jax.baselines.events import known_items
from hiertcn_jax.baselines.popularity import Popularity


class SessionPopularity:
    """Ranks items by their count in the current session, and equal counts by popularity.

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
        # Below one, so that it decides only between equal counts in the session.
        self._share_v = counts_v / (1 + counts_v.max(initial=0))

    def score(self, context: Context) -> np.ndarray:
        """Count in the session, plus a share below one."""
        items = known_items(context, context.session_start)
        return np.bincount(items, minlength=self._rows) + self._share_v


class RepeatLast:
    """Ranks the item that the user picked last first, and all others equally.

    The plainest form of recency, which Anderson et al. 2014 (The dynamics of repeat consumption)
    found to say most about repeated picks. At a session's first event it uses the last item of the
    previous session. Causal: it uses no other users.

    Args:
      rows: `v`, rows of the item table.
    """

    causal = True

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Does nothing: there is nothing to learn."""
        del histories

    def score(self, context: Context) -> np.ndarray:
        """One for the last known item, zero for all others."""
        scores_v = np.zeros(self._rows)
        scores_v[known_items(context)[-1:]] = 1
        return scores_v
