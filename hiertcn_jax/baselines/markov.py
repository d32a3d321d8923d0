"""First-order Markov chain: what followed the last item."""

from collections.abc import Iterable

import numpy as np
from scipy import sparse

from hiertcn_jax.baselines import Context, FittedHistory
from hiertcn_jax.baselines.events import fitted_events, query_items


class Markov:
    """How often an item directly followed the last one, in the fitted sessions.

    MC of Ludewig & Jannach 2018 (Evaluation of session-based recommendation algorithms), as in
    session-rec (`baselines/markov.py`) without its cut at 20 followers: the score of j after i is
    the share of i's followers that are j. At a session's first event the last item of the session
    before is i. Not causal: all fitted sessions count, whenever they were.

    Args:
      rows: `v`, rows of the item table.
    """

    causal = False

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.fit(())

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Counts the pairs of neighbouring items within sessions."""
        events = fitted_events(histories)
        within_n = events.session_n[1:] == events.session_n[:-1]
        pairs = (events.item_n[:-1][within_n], events.item_n[1:][within_n])
        counts = (np.ones(len(pairs[0])), pairs)
        # Counts of the same pair are added up.
        self._followers_vv = sparse.csr_array(counts, (self._rows, self._rows))

    def score(self, context: Context) -> np.ndarray:
        """Share of each item among the followers of the last one."""
        scores_v = np.zeros(self._rows)
        for item in query_items(context)[-1:]:
            part = slice(*self._followers_vv.indptr[item : item + 2])
            counts = self._followers_vv.data[part]
            scores_v[self._followers_vv.indices[part]] = counts / max(counts.sum(), 1)
        return scores_v
