"""Raw ids and their numbers, in the type of the log."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hiertcn_jax.item_ids import FIRST_ITEM_ID, UNKNOWN_ID


class IdTable:
    """Ids in the order of their numbers.

    Attributes:
      ids: Text or whole numbers.
      first: Number of the first id.
    """

    def __init__(self, ids: Sequence[Any], first: int = FIRST_ITEM_ID) -> None:
        """See the class; the catalogue's numbers are rows of the item table, from 2 on."""
        self.ids, self.first = ids, first

    @property
    def size(self) -> int:
        """One more than the largest number."""
        return self.first + len(self.ids)

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {str(one): number for number, one in enumerate(self.ids, self.first)}

    def number_of(self, raw_id: Any) -> int | None:
        """The number of an id, also of a whole number as text; None if there is none."""
        return self._numbers.get(str(raw_id))

    def encode(self, item_ids: Iterable[Any]) -> np.ndarray:
        """int32 [n]. The rows of items; UNKNOWN_ID for an id that is not in it."""
        rows = [self._numbers.get(str(item), UNKNOWN_ID) for item in item_ids]
        return np.array(rows, np.int32)

    def decode(self, rows: np.ndarray) -> list[Any]:
        """The ids of rows.

        Raises:
          ValueError: A row has no id.
        """
        rows = np.asarray(rows)
        outside = rows[(rows < self.first) | (rows >= self.size)]
        if len(outside):
            raise ValueError(f"rows={outside[0]}: must be in {self.first}..{self.size - 1}")
        return [self.ids[row - self.first] for row in rows.tolist()]
