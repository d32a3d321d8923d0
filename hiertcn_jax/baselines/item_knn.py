"""Item-kNN: items that share sessions with those of the running session."""

from collections.abc import Iterable

import numpy as np
from scipy import sparse

from hiertcn_jax.baselines import Context, FittedHistory
from hiertcn_jax.baselines.checks import at_least, between
from hiertcn_jax.baselines.cooccurrence import cooccurrence
from hiertcn_jax.baselines.events import fitted_events, query_items


class ItemKNN:
    """Cosine of the sessions that hold two items, shrunk for rare ones.

    Item-KNN of Hidasi et al. 2016 and of session-rec (`knn/iknn.py`), which look at the last item
    alone:

        similarity(i, j) = n_ij / ((n_i + shrinkage)^balance * (n_j + shrinkage)^(1 - balance))
        score(j) = sum over the session's items i of session_decay^age(i) * similarity(i, j)

    where n_i counts the sessions that hold i, n_ij those that hold both, and age(i) is 0 for the
    last item, 1 for the one before, and so on. At a session's first event the user's session
    before stands in for it. Not causal: all fitted sessions count, whenever they were.

    Args:
      rows: `v`, rows of the item table.
      shrinkage: Sessions; lowers the similarity of items with few of them.
      balance: 0.5 is the cosine, 1 the confidence of the rule i -> j.
      neighbours: Items that have a similarity to an item, the greatest; of equal ones the lower id.
      session_decay: In [0, 1]; 0 leaves the last item alone.
      remind: Items of the session that is looked from are scored too.

    Raises:
      ValueError: A setting is out of range.
    """

    causal = False

    def __init__(
        self,
        rows: int,
        *,
        shrinkage: float = 20,
        balance: float = 0.5,
        neighbours: int = 100,
        session_decay: float = 0,
        remind: bool = True,
    ) -> None:
        at_least(0, shrinkage=shrinkage)
        between(0, 1, balance=balance, session_decay=session_decay)
        at_least(1, neighbours=neighbours)
        self._rows, self._shrinkage, self._balance = rows, shrinkage, balance
        self._neighbours, self._session_decay, self._remind = neighbours, session_decay, remind
        self.fit(())

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Computes the similarities."""
        counts = cooccurrence(fitted_events(histories), self._rows)
        pairs = sparse.coo_array(counts.pairs_vv)
        size_v = counts.sessions_v + self._shrinkage
        norm_n = size_v[pairs.row] ** self._balance * size_v[pairs.col] ** (1 - self._balance)
        similarity_vv = sparse.csr_array((pairs.data / norm_n, (pairs.row, pairs.col)), pairs.shape)
        self._similarity_vv = greatest_of_rows(similarity_vv, self._neighbours)

    def score(self, context: Context) -> np.ndarray:
        """Similarity to the session's items, decayed by how long ago they were picked."""
        items = query_items(context)
        weights = float(self._session_decay) ** np.arange(len(items))[::-1]
        scores_v = np.zeros(self._rows)
        for item, weight in zip(items, weights, strict=True):
            part = slice(*self._similarity_vv.indptr[item : item + 2])
            scores_v[self._similarity_vv.indices[part]] += weight * self._similarity_vv.data[part]
        if not self._remind:
            scores_v[items] = 0
        return scores_v


def greatest_of_rows(matrix_vv: sparse.csr_array, number: int) -> sparse.csr_array:
    """The `number` greatest entries of each row; of equal ones that of the lower column."""
    entries = sparse.coo_array(matrix_vv)
    order_n = np.lexsort((entries.col, -entries.data, entries.row))
    row_n = entries.row[order_n]
    place_n = np.arange(len(row_n)) - np.searchsorted(row_n, row_n)
    kept_n = order_n[place_n < number]
    kept = (entries.data[kept_n], (entries.row[kept_n], entries.col[kept_n]))
    return sparse.csr_array(kept, entries.shape)
