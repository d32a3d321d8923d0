"""Items whose embeddings point in similar directions."""

import numpy as np

from hiertcn_jax.exported.reading import Export
from hiertcn_jax.item_ids import FIRST_ITEM_ID


class Neighbours:
    """Compares what an exported model scores its items with."""

    def __init__(self, export: Export) -> None:
        """Reads the embeddings.

        Raises:
          ExportError: They cannot be read.
        """
        name = export.manifest["functions"]["recommend"]["weights"]["item_rows"]
        rows_vd = export.weights()[name]
        norm_v1 = np.linalg.norm(rows_vd, axis=1, keepdims=True)
        self._unit_vd = rows_vd / np.maximum(norm_v1, 1e-12)

    def similar(self, row: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The most similar items, without itself.

        Args:
          row: Of the item, in the item table.
          k: How many.

        Returns:
          Rows of at most k items and their cosines, the greatest first; of equal ones the one with
          the lower row.
        """
        cosine_v = self._unit_vd @ self._unit_vd[row]
        cosine_v[:FIRST_ITEM_ID] = cosine_v[row] = -np.inf
        order = np.argsort(-cosine_v, kind="stable")[:k]
        order = order[cosine_v[order] > -np.inf]
        return order, cosine_v[order]
