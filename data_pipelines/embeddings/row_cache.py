"""Rows of a file, with the most frequent ones kept in memory.

A run knows beforehand how often an item occurs: its events in training are counted. So the cache
holds the most frequent items from the start and never changes. For independent draws no rule of
replacement does better. Items are numbered by frequency, so a comparison tells whether an item is
cached, without an index.
"""

from collections.abc import Callable

import numpy as np

from data_pipelines.embeddings.row_file import RowFile

FILL_BYTES = 24
"""Bytes per row, besides its values, while the cache is filled: item, row, order."""

_BLOCK_ROWS = 16384
"""Rows copied at once."""


class RowCache:
    """Rows of a file by item: the first items' from memory, the others' from the file.

    Attributes:
      hot: How many items are in memory.
      asked: Rows requested so far.
      hits: How many of these were in memory.

    Args:
      file: The file with the rows.
      items: Number of items, numbered from 0 on, most frequent first.
      file_rows: Maps items, int64 [n], to their rows in the file, int64 [n].
      max_bytes: Memory for cached rows, and for locating them in the file at the start.
    """

    def __init__(
        self,
        file: RowFile,
        items: int,
        file_rows: Callable[[np.ndarray], np.ndarray],
        max_bytes: int,
    ) -> None:
        self._file, self._file_rows = file, file_rows
        self.hot = min(items, max_bytes // (file.row_bytes + FILL_BYTES))
        self.asked = self.hits = 0
        self._rows = np.empty((self.hot, file.width), file.dtype)
        self._read_file(np.arange(self.hot), self._rows)

    def read(self, items_n: np.ndarray, out_nd: np.ndarray) -> None:
        """Writes the rows of items into an array.

        Args:
          items_n: Items, ascending.
          out_nd: The array to fill; contiguous, of the file's type.
        """
        hits = int(np.searchsorted(items_n, self.hot))
        np.take(self._rows, items_n[:hits], axis=0, out=out_nd[:hits], mode="clip")
        if hits < len(items_n):
            self._read_file(items_n[hits:], out_nd[hits:])
        self.asked += len(items_n)
        self.hits += hits

    def _read_file(self, items_n: np.ndarray, out_nd: np.ndarray) -> None:
        rows_n = self._file_rows(items_n)
        order_n = np.argsort(rows_n)
        for first in range(0, len(order_n), _BLOCK_ROWS):
            block_n = order_n[first : first + _BLOCK_ROWS]
            out_nd[block_n] = self._file.read(rows_n[block_n])
