"""First-order Markov chain: scores items by how often they followed the last one."""

from collections.abc import Iterable

import numpy as np
from scipy import sparse

from hiertcn_jax.baselines import Context, FittedHistory
from hiertcn_jax.baselines.events import fitted_events, query_items


class Markov:
    """How often an item directly followed the last one, in the fitted sessions.

    MC of Ludewig & Jannach 2018 (Evaluation of session-based recommendation algorithms), as in
    session-rec (`baselines/markov.py`) without its limit of 20 followers: the score of j after i is
    the share of i's followers that are j. At a session's first event i is the last item of the
    previous session. Not causal: all fitted sessions count, whenever they took place.

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
        # csr_array sums the entries of the same pair.
        self._followers_vv = sparse.csr_array(counts, (self._rows, self._rows))

    def score(self, context: Context) -> np.ndarray:
        """Share of each item among the followers of the last one."""
        scores_v = np.zeros(self._rows)
        for item in query_items(context)[-1:]:
            part = slice(*self._followers_vv.indptr[item : item + 2])
            counts = self._followers_vv.data[part]
            scores_v[self._followers_vv.indices[part]] = counts / max(counts.sum(), 1)
        return scores_v
