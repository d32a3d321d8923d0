"""Item-kNN: scores items by the sessions they share with items of the current session."""

from collections.abc import Iterable

import numpy as np
from scipy import sparse

from hiertcn_jax.baselines import Context, FittedHistory
from hiertcn_jax.baselines.cooccurrence import pairs_by_rows, session_items
from hiertcn_jax.baselines.events import fitted_events, query_items
from hiertcn_jax.baselines.ranges import places_of
from hiertcn_jax.settings import at_least, between


class ItemKNN:
    """Cosine similarity of two items' sessions, shrunk for rare items.

    Item-KNN of Hidasi et al. 2016 and of session-rec (`knn/iknn.py`), which use only the last
    item:

        similarity(i, j) = n_ij / ((n_i + shrinkage)^balance * (n_j + shrinkage)^(1 - balance))
        score(j) = sum over the session's items i of session_decay^age(i) * similarity(i, j)

    where n_i counts the sessions that contain i, n_ij those that contain both, and age(i) is 0 for
    the last item, 1 for the one before, and so on. At a session's first event the user's previous
    session is used. Not causal: all fitted sessions count, whenever they took place.

    Args:
      rows: `v`, rows of the item table.
      shrinkage: In sessions; lowers the similarity of items with few of them.
      balance: 0.5 is the cosine, 1 the confidence of the rule i -> j.
      neighbours: How many similar items to keep for each item; of equal ones the lower ids.
      session_decay: In [0, 1]; 0 uses only the last item.
      remind: Whether to score items of the session itself too.

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
        holds_mv = session_items(fitted_events(histories), self._rows)
        size_v = holds_mv.sum(axis=0) + self._shrinkage
        from_v, to_v = size_v**self._balance, size_v ** (1 - self._balance)
        blocks = []
        for first, pairs_iv in pairs_by_rows(holds_mv):
            row_n = first + np.repeat(np.arange(pairs_iv.shape[0]), np.diff(pairs_iv.indptr))
            pairs_iv.data /= from_v[row_n] * to_v[pairs_iv.indices]
            blocks.append(greatest_of_rows(pairs_iv, self._neighbours))
        self._similarity_vv = sparse.csr_array(sparse.vstack(blocks))

    def score(self, context: Context) -> np.ndarray:
        """Similarity to the session's items, with decay by age."""
        items = query_items(context)
        weights = float(self._session_decay) ** np.arange(len(items))[::-1]
        # Of a long session, few items have a weight.
        item_q, weight_q = items[weights > 0], weights[weights > 0]
        first_q = self._similarity_vv.indptr[item_q]
        size_q = self._similarity_vv.indptr[item_q + 1] - first_q
        place_n = places_of(first_q, size_q)
        value_n = np.repeat(weight_q, size_q) * self._similarity_vv.data[place_n]
        scores_v = np.bincount(self._similarity_vv.indices[place_n], value_n, self._rows)
        # bincount of an empty array is integer.
        scores_v = scores_v.astype(np.float64)
        if not self._remind:
            scores_v[items] = 0
        return scores_v


def greatest_of_rows(matrix_iv: sparse.csr_array, number: int) -> sparse.csr_array:
    """The `number` greatest entries of each row; of equal ones those in lower columns."""
    matrix_iv.sort_indices()
    data_n, indptr = matrix_iv.data, matrix_iv.indptr
    kept_n = np.ones(len(data_n), bool)
    for row in np.flatnonzero(np.diff(indptr) > number):
        part = slice(indptr[row], indptr[row + 1])
        least = np.partition(data_n[part], -number)[-number]
        kept_n[part] = data_n[part] > least
        equal_n = np.flatnonzero(data_n[part] == least)
        kept_n[part.start + equal_n[: number - np.count_nonzero(kept_n[part])]] = True
    ends = np.concatenate([[0], np.cumsum(kept_n)])[indptr]
    return sparse.csr_array((data_n[kept_n], matrix_iv.indices[kept_n], ends), matrix_iv.shape)
