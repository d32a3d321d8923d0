"""Given item embeddings: a matrix in a file, and the item that each of its rows belongs to.

The vocabulary defines the rows of the item table, `v`. The rows of the file may be in any order,
and there may be more of them. Memory holds the row number of each catalogue item, 8 bytes an item
(8 more in an evaluation), and as many rows as there is room for.
"""

import dataclasses
import functools
import hashlib
from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.embeddings.item_ids import COLUMN, read_item_ids
from data_pipelines.embeddings.row_cache import RowCache
from data_pipelines.embeddings.row_file import RowFile
from data_pipelines.errors import DataError
from data_pipelines.sessions.vocabulary import Vocabulary
from hiertcn_jax.batch import FIRST_ITEM_ID


@dataclasses.dataclass(frozen=True, eq=False)
class ItemEmbeddings:
    """The embeddings of a catalogue, read on demand.

    Attributes:
      file: The matrix.
      file_rows: int64 [v - 2]. Row of the file of each item, from row 2 of the item table on.
      cache: Rows by item, counted from 0; the most frequent items are in memory.
      content_hash: Hash of the file's bytes and of `file_rows` of the fitted catalogue.
    """

    file: RowFile
    file_rows: np.ndarray
    cache: RowCache
    content_hash: str

    @property
    def table_rows(self) -> int:
        """`v`, rows of the item table."""
        return FIRST_ITEM_ID + len(self.file_rows)

    @property
    def width(self) -> int:
        """`d`, values in a row."""
        return self.file.width

    @property
    def dtype(self) -> np.dtype:
        """float16 or float32."""
        return self.file.dtype

    def read(self, item_ids_n: np.ndarray, out_nd: np.ndarray) -> None:
        """Writes the embeddings of catalogue items into an array.

        Args:
          item_ids_n: Rows of the item table, FIRST_ITEM_ID.., ascending.
          out_nd: The array to fill; contiguous, of this type.
        """
        self.cache.read(item_ids_n - FIRST_ITEM_ID, out_nd)

    def rows(self, item_ids_n: np.ndarray) -> np.ndarray:
        """The embeddings of catalogue items in any order, [n, d]."""
        distinct_u, place_n = np.unique(item_ids_n, return_inverse=True)
        out_ud = np.empty((len(distinct_u), self.width), self.dtype)
        self.read(distinct_u, out_ud)
        return out_ud[place_n]

    @functools.cached_property
    def _items_in_file(self) -> np.ndarray:
        """int32 [v - 2]. The catalogue items, counted from 0, in the order of the file."""
        return np.argsort(self.file_rows, kind="stable").astype(np.int32)

    @functools.cached_property
    def _file_indices(self) -> np.ndarray:
        """int32 [v - 2]. The position of each catalogue item in that order."""
        file_indices = np.empty_like(self._items_in_file)
        file_indices[self._items_in_file] = np.arange(len(file_indices), dtype=np.int32)
        return file_indices

    def file_indices(self, item_ids: np.ndarray) -> np.ndarray:
        """Row of the item table that each item would have in the order of the file; same shape.

        Args:
          item_ids: Current rows of the item table. Padding and unknown keep their ids.
        """
        file_indices = FIRST_ITEM_ID + self._file_indices[np.maximum(item_ids - FIRST_ITEM_ID, 0)]
        return np.where(item_ids < FIRST_ITEM_ID, item_ids, file_indices)

    def items_at(self, file_indices: np.ndarray) -> np.ndarray:
        """The rows of the item table at `file_indices`; int32, same shape."""
        items = FIRST_ITEM_ID + self._items_in_file[np.maximum(file_indices - FIRST_ITEM_ID, 0)]
        return np.where(file_indices < FIRST_ITEM_ID, file_indices, items).astype(np.int32)

    def read_file_indices(self, start: int, size: int) -> np.ndarray:
        """Embeddings of items by file index, start..start + size - 1, read forward; [size, d]."""
        items = self._items_in_file[start - FIRST_ITEM_ID : start - FIRST_ITEM_ID + size]
        return self.file.read(self.file_rows[items])


def open_item_embeddings(
    path: Path | str, ids_path: Path | str, vocabulary: Vocabulary, cache_bytes: int
) -> ItemEmbeddings:
    """Opens and checks a file of embeddings; reads all of it once, block by block.

    Args:
      path: A .npy file, float16 or float32, with one row per item.
      ids_path: The item of each row, see `read_item_ids`.
      vocabulary: The catalogue.
      cache_bytes: Memory for cached rows.

    Raises:
      DataError: One of the files cannot be used, they differ in length, a value is not finite, or
        an item of the catalogue has no row.
    """
    file, item_ids = RowFile(path), read_item_ids(ids_path)
    if len(item_ids) != file.rows:
        raise DataError(
            f"{path}: {file.rows} rows, but {ids_path} has {len(item_ids)} ids; "
            "both must have one row per item"
        )
    file_rows = _file_rows(item_ids, vocabulary, ids_path)
    digest = hashlib.sha256()
    first = 0
    for block_nd in file.blocks():
        if not np.isfinite(block_nd).all():
            row = first + int(np.argmin(np.isfinite(block_nd).all(axis=1)))
            raise DataError(
                f"{path}: row {row} (counted from 0), of the item {item_ids[row]!r}: "
                "a value is not a finite number; replace it, for example by 0"
            )
        digest.update(block_nd.data)
        first += len(block_nd)
    fitted = vocabulary.fitted_size - FIRST_ITEM_ID
    digest.update(file_rows[:fitted].astype("<i8").data)
    cache = RowCache(file, len(file_rows), file_rows.__getitem__, cache_bytes)
    return ItemEmbeddings(file, file_rows, cache, f"sha256:{digest.hexdigest()}")


def _file_rows(item_ids: pl.Series, vocabulary: Vocabulary, ids_path: Path | str) -> np.ndarray:
    """int64 [v - 2]. The index of each catalogue item among the ids."""
    file_indices = pl.DataFrame({COLUMN: item_ids}).with_row_index("row")
    catalogue = pl.DataFrame({COLUMN: vocabulary.item_ids})
    found = catalogue.join(file_indices, on=COLUMN, how="left", maintain_order="left")["row"]
    if found.null_count():
        missing = vocabulary.item_ids.filter(found.is_null())
        raise DataError(
            f"{ids_path}: lacks {len(missing):,} of the {len(found):,} items of the catalogue, "
            f"the first is {missing[0]!r}; add their embeddings to the file"
        )
    return found.cast(pl.Int64).to_numpy()
