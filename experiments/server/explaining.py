"""What each part of the model contributes to the scores of an answer."""

import functools

import numpy as np

from experiments.server.requests import ItemParts
from hiertcn_jax.exported.explaining import ExportedExplainer
from hiertcn_jax.exported.reading import Export
from hiertcn_jax.item_ids import FIRST_ITEM_ID
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.serving.user_states import UserStates


class Explaining:
    """Explains the scores of an export's model; reads its weights when it is first asked."""

    def __init__(self, export: Export) -> None:
        """See the class."""
        self._export = export

    @functools.cached_property
    def _explainer(self) -> ExportedExplainer:
        return ExportedExplainer(self._export)

    def load(self) -> None:
        """Reads the weights, if they are not yet; any thread may call it.

        Raises:
          ExportError: They cannot be read.
        """
        _ = self._explainer

    def __call__(
        self,
        state: UserStates,
        at: int,
        memory: Memory | None,
        rows_k: np.ndarray,
        vector_d: np.ndarray,
    ) -> list[ItemParts]:
        """The parts of the scores of items, for one user.

        Args:
          state: Of the user.
          at: When the event would happen, seconds.
          memory: What everybody did so far, for a model with terms of it.
          rows_k: int32. Rows of the items.
          vector_d: float32. The user's vector.

        Raises:
          ExportError: The export's weights cannot be read.
        """
        at_n = np.array([at], np.int64)
        found = self._explainer(state, at_n, memory, rows_k[None], vector_d[None])
        return [
            ItemParts(
                {name: float(values[0, place]) for name, values in found.values.items()},
                _known(found.half_life_hours_nk, place),
                self._item(found.followed_nk, place),
            )
            for place in range(len(rows_k))
        ]

    def _item(self, rows_nk: np.ndarray | None, place: int) -> str | int | None:
        """The id of the item that is followed; None where it is none of the catalogue."""
        row = 0 if rows_nk is None else int(rows_nk[0, place])
        return self._export.items.ids[row - FIRST_ITEM_ID] if row >= FIRST_ITEM_ID else None


def _known(values_nk: np.ndarray | None, place: int) -> float | None:
    return (
        None if values_nk is None or np.isnan(values_nk[0, place]) else float(values_nk[0, place])
    )
