"""The items that are recommended: raw ids and rows of the item table."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from hiertcn_jax.batch import FIRST_ITEM_ID


@runtime_checkable
class Catalogue(Protocol):
    """Raw ids of the items, and their rows in the item table."""

    @property
    def size(self) -> int:
        """`v`, rows of the item table."""
        ...

    def encode(self, item_ids: Iterable[Any], /) -> np.ndarray:
        """int32 [n]. Their rows; UNKNOWN_ID for an id that is not in it."""
        ...

    def decode(self, rows: np.ndarray, /) -> Sequence[Any]:
        """The raw ids of rows, in the type of the log."""
        ...


def known_rows(catalogue: Catalogue, item_ids: Iterable[Any], field: str) -> np.ndarray:
    """int32. Rows of items, each once, in order of their rows.

    Args:
      catalogue: The items.
      item_ids: Raw ids.
      field: What an error calls them.

    Raises:
      ValueError: One is not in the catalogue.
    """
    if isinstance(item_ids, str):
        raise ValueError(f"{field}={item_ids!r}: must be several ids, such as a list")
    listed = list(item_ids)
    rows = catalogue.encode(listed)
    unknown = np.flatnonzero(rows < FIRST_ITEM_ID)
    if len(unknown):
        raise ValueError(f"{field}={listed[unknown[0]]!r}: is not in the catalogue")
    return np.unique(rows)


def left_rows(
    catalogue: Catalogue, exclude: Iterable[Any], candidates: Iterable[Any] | None
) -> np.ndarray | None:
    """Bool [v]. The rows that may be recommended; None: all of them.

    Args:
      catalogue: The items.
      exclude: Raw ids to leave out.
      candidates: Raw ids to choose from; None: the whole catalogue.

    Raises:
      ValueError: One is not in the catalogue.
    """
    excluded = known_rows(catalogue, exclude, "exclude")
    if candidates is None and not len(excluded):
        return None
    left_v = np.full(catalogue.size, candidates is None)
    if candidates is not None:
        left_v[known_rows(catalogue, candidates, "candidates")] = True
    left_v[excluded] = False
    return left_v
