"""Items of the training part, and of a list; their rows in the item table."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.parquet import read_parquet
from hiertcn_jax.batch import FIRST_ITEM_ID, UNKNOWN_ID

FILE_NAME = "vocabulary.parquet"

_SCHEMA = {
    "index": pl.Int32,
    "item_id": pl.String,
    "train_events": pl.Int64,
    "valid_events": pl.Int64,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """The catalogue: items with events in the training part, most events first, ties by id.

    Behind them stand the other items of a list, if there is one: those of the log, then those that
    it lacks. They can be scored where embeddings are given.

    It stays the train part's where a model is fitted on train and valid: an item that is first
    seen in valid is unknown to every fit.

    Attributes:
      item_ids: String [v - 2]. Ids of the raw log, in the order of their rows from 2 on.
      train_events: int64 [v - 2]. Events of each in the train part, 0 behind it.
      valid_events: int64 [v - 2]. Events of each in the valid part.
    """

    item_ids: pl.Series
    train_events: np.ndarray
    valid_events: np.ndarray

    @property
    def size(self) -> int:
        """`v`, rows of the item table: padding, unknown, catalogue."""
        return FIRST_ITEM_ID + len(self.item_ids)

    @functools.cached_property
    def counts_v(self) -> np.ndarray:
        """int64 [v]. Train events of each row; 0 for padding and unknown."""
        return np.concatenate([np.zeros(FIRST_ITEM_ID, np.int64), self.train_events])

    @functools.cached_property
    def valid_counts_v(self) -> np.ndarray:
        """int64 [v]. Valid events of each row; 0 for padding and unknown."""
        return np.concatenate([np.zeros(FIRST_ITEM_ID, np.int64), self.valid_events])

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        return {item_id: row for row, item_id in enumerate(self.item_ids, FIRST_ITEM_ID)}

    def encode(self, item_ids: Sequence[str]) -> np.ndarray:
        """int32 [n]. The rows of ids of the raw log; `UNKNOWN_ID` outside the catalogue."""
        return np.array([self._rows.get(item, UNKNOWN_ID) for item in item_ids], np.int32)

    def decode(self, rows: np.ndarray) -> list[str]:
        """The ids of catalogue rows.

        Raises:
          ValueError: A row is padding, unknown, or outside the table.
        """
        rows = np.asarray(rows)
        outside = rows[(rows < FIRST_ITEM_ID) | (rows >= self.size)]
        if len(outside):
            raise ValueError(
                f"rows={outside[0]}: must be in {FIRST_ITEM_ID}..{self.size - 1} to have an id"
            )
        return self.item_ids.gather(rows - FIRST_ITEM_ID).to_list()

    def save(self, directory: Path) -> None:
        """Writes `vocabulary.parquet`: index (row), item_id, train_events, valid_events."""
        columns = (
            np.arange(FIRST_ITEM_ID, self.size),
            self.item_ids,
            self.train_events,
            self.valid_events,
        )
        frame = pl.DataFrame(dict(zip(_SCHEMA, columns, strict=True)), schema_overrides=_SCHEMA)
        frame.write_parquet(directory / FILE_NAME)

    @classmethod
    def load(cls, directory: Path | str) -> "Vocabulary":
        """Reads what `save` wrote.

        Raises:
          DataError: The file is missing, or is not a vocabulary.
        """
        path = Path(directory) / FILE_NAME
        if not path.is_file():
            raise DataError(f"{path}: no such file; was {directory} prepared?")

        def check_header(found: list[str]) -> None:
            if found != list(_SCHEMA):
                raise DataError(f"{path}: expected the columns {', '.join(_SCHEMA)}")

        frame = read_parquet(path, list(_SCHEMA), check_header)
        if frame.schema != _SCHEMA or sum(frame.null_count().row(0)):
            raise DataError(f"{path}: expected the types {_SCHEMA}, without nulls")
        vocabulary = cls(
            frame["item_id"], frame["train_events"].to_numpy(), frame["valid_events"].to_numpy()
        )
        rows = np.arange(FIRST_ITEM_ID, vocabulary.size)
        if not np.array_equal(frame["index"], rows):
            raise DataError(f"{path}: index: expected {FIRST_ITEM_ID}, {FIRST_ITEM_ID + 1}, ...")
        if vocabulary.item_ids.n_unique() < len(rows):
            raise DataError(f"{path}: item_id: an item is there twice")
        if np.any(vocabulary.train_events < 0) or np.any(vocabulary.valid_events < 0):
            raise DataError(f"{path}: expected train_events >= 0 and valid_events >= 0")
        return vocabulary


def build_vocabulary(
    item_ids: pl.Series,
    train_counts: np.ndarray,
    valid_counts: np.ndarray,
    listed: pl.Series | None = None,
) -> tuple[Vocabulary, np.ndarray]:
    """The vocabulary of a log, and the row of each of its item codes.

    Args:
      item_ids: String [items]. The id of each code, sorted.
      train_counts: int64 [items]. Events of each code in the train part.
      valid_counts: int64 [items]. Events of each code in the valid part.
      listed: String. Items that are in the catalogue without train events too, each once.

    Returns:
      The vocabulary, and int32 [items]: rows, `UNKNOWN_ID` for codes that are not in it.
    """
    is_item = train_counts > 0
    others = item_ids.clear()
    if listed is not None:
        is_item |= item_ids.is_in(listed.implode()).to_numpy()
        others = listed.filter(~listed.is_in(item_ids.implode())).sort()
    order = np.argsort(-train_counts, kind="stable")
    catalogue = order[is_item[order]]
    rows = np.full(len(item_ids), UNKNOWN_ID, np.int32)
    rows[catalogue] = np.arange(FIRST_ITEM_ID, FIRST_ITEM_ID + len(catalogue))
    nothing = np.zeros(len(others), np.int64)
    vocabulary = Vocabulary(
        pl.concat([item_ids.gather(catalogue), others]),
        np.append(train_counts[catalogue], nothing),
        np.append(valid_counts[catalogue], nothing),
    )
    return vocabulary, rows
