"""A catalogue that grows: an item can be recommended from its first event on.

Its rows are those of a fixed catalogue, then one for each item that was seen later, in the order of
their first events. Tables have spare rows for the next ones, so that no shape changes, and nothing
is compiled again, at each new item.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hiertcn_jax.item_ids import FIRST_ITEM_ID, UNKNOWN_ID
from hiertcn_jax.serving.catalogue import Catalogue

BLOCK = 1024
"""Rows of tables are a multiple of this."""
NEVER = np.iinfo(np.int64).max
"""`known_from_v` of a row that is no item yet."""


class LiveCatalogue:
    """The items that anybody picked so far.

    Attributes:
      model_rows: Rows below this are items that the model has embeddings of. It reads all others as
        the unknown item.
      known_from_v: int64 [room]. Seconds. An item can be recommended at times after this.
      changes: How often `known_from_v` changed.
    """

    def __init__(self, base: Catalogue, known_from_v: np.ndarray, model_rows: int) -> None:
        """The items of a log.

        Args:
          base: Their ids.
          known_from_v: int64 [v]. When each was first seen, seconds.
          model_rows: See the class.
        """
        self.model_rows, self.changes = model_rows, 0
        self._base, self._new_ids = base, list[Any]()
        self._new_rows: dict[str, int] = {}
        self._numbers = isinstance(base.decode(np.array([FIRST_ITEM_ID]))[0], int)
        self.known_from_v = np.array(known_from_v, np.int64)
        self._make_room()

    @property
    def size(self) -> int:
        """`v`, rows that are in use."""
        return self._base.size + len(self._new_ids)

    @property
    def room(self) -> int:
        """Rows of tables, with spare ones."""
        return len(self.known_from_v)

    def encode(self, item_ids: Iterable[Any], /) -> np.ndarray:
        """int32 [n]. Their rows; UNKNOWN_ID for an id that was not seen."""
        listed = list(item_ids)
        rows = np.array(self._base.encode(listed), np.int32)
        for index in np.flatnonzero(rows < FIRST_ITEM_ID) if self._new_rows else ():
            rows[index] = self._new_rows.get(str(listed[index]), UNKNOWN_ID)
        return rows

    def decode(self, rows: np.ndarray, /) -> Sequence[Any]:
        """The raw ids of rows, in the type of the log.

        Raises:
          ValueError: A row is no item.
        """
        rows = np.asarray(rows)
        if (rows >= self.size).any():
            raise ValueError(f"rows={rows.max()}: must be below {self.size} to have an id")
        is_new = rows >= self._base.size
        ids = list(self._base.decode(np.where(is_new, FIRST_ITEM_ID, rows)))
        for index in np.flatnonzero(is_new):
            ids[index] = self._new_ids[rows[index] - self._base.size]
        return ids

    def enter(self, item_ids: Iterable[Any], time_n: np.ndarray) -> np.ndarray:
        """The rows of items that were picked; those that were never seen before get one.

        Args:
          item_ids: Raw ids.
          time_n: int64. When each was picked, seconds.

        Returns:
          int32 [n].

        Raises:
          ValueError: An id is not of the type of the log's; then no item is added.
        """
        listed = list(item_ids)
        rows = self.encode(listed)
        new = [
            (index, self._typed(listed[index])) for index in np.flatnonzero(rows < FIRST_ITEM_ID)
        ]
        for index, item in new:
            row = self._new_rows.setdefault(str(item), self.size)
            if row == self.size:
                self._new_ids.append(item)
            rows[index] = row
        self._make_room()
        if (time_n < self.known_from_v[rows]).any():
            np.minimum.at(self.known_from_v, rows, time_n)
            self.changes += 1
        return rows

    def later_ids(self, rows: np.ndarray) -> dict[int, Any]:
        """The ids of those rows that the model has no embeddings of, each once."""
        later = np.unique(rows[rows >= self.model_rows])
        return dict(zip(later.tolist(), self.decode(later), strict=True)) if len(later) else {}

    def _typed(self, item: Any) -> int | str:
        """An id in the type of the log."""
        if not self._numbers and isinstance(item, str | int | np.integer):
            return str(item)
        if isinstance(item, str | int | np.integer):
            try:
                return int(item)
            except ValueError:
                pass
        kind = "a whole number" if self._numbers else "text"
        raise ValueError(f"items={item!r}: must be {kind}, as the ids of the log are")

    def _make_room(self) -> None:
        """Adds a block of spare rows where none is left."""
        if self.size < self.room and self.room % BLOCK == 0:
            return
        more = (self.size // BLOCK + 1) * BLOCK - self.room
        self.known_from_v = np.concatenate([self.known_from_v, np.full(more, NEVER)])
        self.changes += 1
