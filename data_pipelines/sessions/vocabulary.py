"""The vocabulary: items of the training part and of an optional list, by row of the item table."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.ids import (
    ID_TYPES,
    TEXT,
    IdFacts,
    IdType,
    facts_of,
    merged,
    type_of,
    typed_ids,
)
from data_pipelines.raw.parquet import read_parquet
from hiertcn_jax.batch import FIRST_ITEM_ID, UNKNOWN_ID

FILE_NAME = "vocabulary.parquet"

_COLUMNS = ("index", "item_id", "train_events", "valid_events")


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """The catalogue: items with events in the training part, most events first, ties by id.

    The other items of a list, if there is one, come after them: first those of the log, then those
    that the log lacks. Models with given embeddings can score them.

    A model that is fitted on train and valid uses the same vocabulary: an item that first occurs in
    valid is unknown to every fit.

    Attributes:
      item_ids: String [v - 2]. Ids of the raw log as text, in the order of their rows from 2 on.
      train_events: int64 [v - 2]. Events of each in the train part, 0 for the other items.
      valid_events: int64 [v - 2]. Events of each in the valid part.
      id_type: The type of the ids in the raw log, and wherever ids are written.
    """

    item_ids: pl.Series
    train_events: np.ndarray
    valid_events: np.ndarray
    id_type: IdType = "string"

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

    def encode(self, item_ids: Iterable[str | int]) -> np.ndarray:
        """int32 [n]. The row of each raw id; `UNKNOWN_ID` for ids outside the catalogue.

        Accepts whole numbers as text too.
        """
        rows = [self._rows.get(str(item), UNKNOWN_ID) for item in item_ids]
        return np.array(rows, np.int32)

    def decode(self, rows: np.ndarray) -> list[str] | list[int]:
        """The ids of catalogue rows, in the type of the raw log.

        Raises:
          ValueError: A row is padding, unknown, or outside the table.
        """
        rows = np.asarray(rows)
        outside = rows[(rows < FIRST_ITEM_ID) | (rows >= self.size)]
        if len(outside):
            raise ValueError(
                f"rows={outside[0]}: must be in {FIRST_ITEM_ID}..{self.size - 1} to have an id"
            )
        return typed_ids(self.item_ids.gather(rows - FIRST_ITEM_ID), self.id_type).to_list()

    def save(self, directory: Path) -> None:
        """Writes `vocabulary.parquet`: index (row), item_id, train_events, valid_events."""
        frame = pl.DataFrame(
            {
                "index": pl.Series(np.arange(FIRST_ITEM_ID, self.size), dtype=pl.Int32),
                "item_id": typed_ids(self.item_ids, self.id_type),
                "train_events": pl.Series(self.train_events, dtype=pl.Int64),
                "valid_events": pl.Series(self.valid_events, dtype=pl.Int64),
            }
        )
        frame.write_parquet(directory / FILE_NAME)

    @classmethod
    def load(cls, directory: Path | str) -> "Vocabulary":
        """Reads the file that `save` wrote.

        Raises:
          DataError: The file is missing, or is not a vocabulary.
        """
        path = Path(directory) / FILE_NAME
        if not path.is_file():
            raise DataError(f"{path}: no such file; prepare {directory} again")

        def check_header(found: list[str]) -> None:
            if found != list(_COLUMNS):
                raise DataError(
                    f"{path}: expected the columns {', '.join(_COLUMNS)}; prepare it again"
                )

        frame = read_parquet(path, _COLUMNS, check_header)
        id_type = type_of(frame["item_id"].dtype)
        numbers = [frame[name].dtype for name in _COLUMNS if name != "item_id"]
        nulls = sum(frame.null_count().row(0))
        if id_type is None or numbers != [pl.Int32, pl.Int64, pl.Int64] or nulls:
            raise DataError(
                f"{path}: expected the types Int32, {' or '.join(ID_TYPES)}, Int64, Int64, without "
                f"nulls; got {', '.join(map(str, frame.dtypes))} with {nulls} nulls; prepare it "
                "again"
            )
        vocabulary = cls(
            frame["item_id"].cast(pl.String),
            frame["train_events"].to_numpy(),
            frame["valid_events"].to_numpy(),
            id_type,
        )
        rows = np.arange(FIRST_ITEM_ID, vocabulary.size)
        if not np.array_equal(frame["index"], rows):
            raise DataError(
                f"{path}: index: expected {FIRST_ITEM_ID}, {FIRST_ITEM_ID + 1}, ...; "
                "prepare it again"
            )
        if vocabulary.item_ids.n_unique() < len(rows):
            raise DataError(f"{path}: item_id: an item occurs twice; prepare it again")
        if np.any(vocabulary.train_events < 0) or np.any(vocabulary.valid_events < 0):
            raise DataError(
                f"{path}: expected train_events >= 0 and valid_events >= 0; prepare it again"
            )
        return vocabulary


def build_vocabulary(
    item_ids: pl.Series,
    train_counts: np.ndarray,
    valid_counts: np.ndarray,
    listed: pl.Series | None = None,
    facts: IdFacts = TEXT,
) -> tuple[Vocabulary, np.ndarray]:
    """Builds the vocabulary of a log, and gives each of the log's item codes a row.

    Args:
      item_ids: String [items]. The id of each code, sorted.
      train_counts: int64 [items]. Events of each code in the train part.
      valid_counts: int64 [items]. Events of each code in the valid part.
      listed: String. Ids of items to add even if they have no train event, each once.
      facts: The type of the log's item ids.

    Returns:
      The vocabulary, and int32 [items]: the row of each code, `UNKNOWN_ID` for codes without one.
    """
    is_item = train_counts > 0
    others = item_ids.clear()
    if listed is not None:
        facts |= facts_of(listed, is_text=False)
        listed = merged(listed, facts).unique(maintain_order=True)
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
        facts.id_type,
    )
    return vocabulary, rows
