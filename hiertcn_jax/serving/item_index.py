"""An index over the items, for catalogues too large to score whole: the extra `retrieval`.

It finds the items of the highest <u, e> + b, most of them; what memory adds and what may not be
recommended are then taken into account exactly:

    candidates = the index's best (k + all that may drop out) and all items on the event's list
    score      = <u, e> + b + addition, exact for each candidate

An item outside the candidates has no addition, so it scores at most what the index's last one does.
Only what the index itself misses is missed; `recall` is measured when it is built.
"""

import numpy as np

from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.scoring.scores import Keys, Queries

RECALL_AT = 100
_ENOUGH = 0.99
"""Recall from which on no more cells are searched."""
_TRAINED_ON = 64
"""Vectors a cell that the cells are found with, at most."""


class ItemIndex:
    """Cells of items that are near each other, of which a query searches the nearest.

    Attributes:
      recall: Share of the exact best 100 of the sample that it finds.
      cells: How many cells there are.
      searched: How many of them a query searches.
    """

    def __init__(self, keys: Keys, sample: np.ndarray) -> None:
        """Builds it.

        Args:
          keys: What items are scored with, all rows of the table.
          sample: float32 [n, d]. Vectors of users, to measure recall with.

        Raises:
          ValueError: The package faiss is not there, or there is no sample.
        """
        try:
            import faiss
        except ImportError as error:
            raise ValueError(
                "index=True: needs the extra retrieval: pip install 'hiertcn_jax[retrieval]'"
            ) from error
        if not len(sample):
            raise ValueError("index=True: needs users to measure its recall with; the log has none")
        rows_vd = np.asarray(keys.rows, np.float32)
        bias_v = np.zeros(len(rows_vd)) if keys.bias is None else np.asarray(keys.bias)
        self._rows_vd = np.column_stack([rows_vd, bias_v]).astype(np.float32)
        items_nd = np.ascontiguousarray(self._rows_vd[FIRST_ITEM_ID:])
        self.cells = max(1, min(round(4 * len(items_nd) ** 0.5), len(items_nd) // 39))
        self._index = faiss.index_factory(
            items_nd.shape[1], f"IVF{self.cells},Flat", faiss.METRIC_INNER_PRODUCT
        )
        chosen = np.random.default_rng(0).permutation(len(items_nd))[: _TRAINED_ON * self.cells]
        self._index.train(items_nd[chosen])
        self._index.add(items_nd)
        self.recall, self.searched = 0.0, 0
        queries_nd = _with_one(sample)
        k = min(RECALL_AT, len(items_nd))
        exact_nk = np.argsort(-(queries_nd @ items_nd.T), axis=1, kind="stable")[:, :k]
        while self.recall < _ENOUGH and self.searched < self.cells:
            self.searched = min(max(1, 2 * self.searched), self.cells)
            self._search = faiss.SearchParametersIVF(nprobe=self.searched)  # type: ignore[call-arg]
            _, found_nk = self._index.search(queries_nd, k, params=self._search)
            pairs = zip(found_nk.tolist(), exact_nk.tolist(), strict=True)
            self.recall = sum(len(set(a) & set(b)) for a, b in pairs) / exact_nk.size

    def best(
        self, queries: Queries, k: int, out_nk: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The best items of n users.

        Args:
          queries: Of the users.
          k: Items for each.
          out_nk: int32. Rows that must not be recommended to each; PADDING_ID is none.

        Returns:
          int32 [n, k] rows, best first; float32 [n, k] scores; bool [n]: whether the cells that
          were searched held as many as k.
        """
        vectors_nd = _with_one(np.asarray(queries.vectors, np.float32))
        listed = queries.listed
        listed_nm = np.zeros((len(vectors_nd), 0), np.int64)
        added_nm = np.zeros(listed_nm.shape, np.float32)
        if listed is not None:
            listed_nm, added_nm = np.asarray(listed.item_ids, np.int64), np.asarray(listed.values)
        most = k + out_nk.shape[1] + listed_nm.shape[1]
        _, found_nc = self._index.search(
            vectors_nd, min(most, self._index.ntotal), params=self._search
        )
        found_nc = np.where(found_nc >= 0, found_nc + FIRST_ITEM_ID, PADDING_ID)
        found_nc = np.where(_in_lists(found_nc, listed_nm), PADDING_ID, found_nc)
        ids_nc = np.concatenate([listed_nm, found_nc], 1)
        scores_nc = np.einsum("nd,ncd->nc", vectors_nd, self._rows_vd[ids_nc])
        scores_nc[:, : listed_nm.shape[1]] += added_nm
        scores_nc[(ids_nc < FIRST_ITEM_ID) | _in_lists(ids_nc, out_nk)] = -np.inf
        order_nk = np.lexsort((ids_nc, -scores_nc), axis=1)[:, :k]
        scores_nk = np.take_along_axis(scores_nc, order_nk, 1).astype(np.float32)
        rows_nk = np.take_along_axis(ids_nc, order_nk, 1).astype(np.int32)
        rows_nk[scores_nk == -np.inf] = PADDING_ID
        return rows_nk, scores_nk, np.all(scores_nk > -np.inf, axis=1)


def _with_one(vectors_nd: np.ndarray) -> np.ndarray:
    """The vectors with a 1 at the end, which meets the biases."""
    return np.column_stack([vectors_nd, np.ones(len(vectors_nd))]).astype(np.float32)


def _in_lists(ids_nc: np.ndarray, lists_nm: np.ndarray) -> np.ndarray:
    """Bool [n, c]. Which ids are on their row's list."""
    found_nc = np.zeros(ids_nc.shape, bool)
    for ids_c, list_m, found_c in zip(ids_nc, lists_nm, found_nc, strict=True):
        found_c[:] = np.isin(ids_c, list_m)
    return found_nc
