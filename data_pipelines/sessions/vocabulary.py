"""The vocabulary: the items of a log, and of an optional list, by row of the item table."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

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
from data_pipelines.raw.log import codes_of
from data_pipelines.raw.parquet import read_parquet
from hiertcn_jax.batch import FIRST_ITEM_ID, UNKNOWN_ID

FILE_NAME = "vocabulary.parquet"

_COLUMNS = ("index", "item_id", "train_events", "valid_events")
_ADDED = ("known_from", "fitted")
"""Columns that files of earlier versions lack: they hold the fitted items alone."""

_TYPES = {
    "index": pl.Int32,
    "train_events": pl.Int64,
    "valid_events": pl.Int64,
    "known_from": pl.Int64,
    "fitted": pl.Boolean,
}

FROM_THE_START = -1
"""`known_from` of an item that is there before any event."""


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """The items of a log: first those of the fitted catalogue, then the later ones.

    The fitted catalogue has the items with events in the training part, most events first, ties by
    id. The other items of a list, if there is one, come after them: first those of the log, then
    those that the log lacks. Models with given embeddings can score them.

    The later items occur only in valid or test. They follow in the order of their first appearance,
    ties by id. Only an evaluation with the live catalogue knows them; everything else reads
    `fitted_part`.

    Where events were appended, the fitted items of the earlier log keep their rows; items that are
    fitted since then follow in the order of their first appearance.

    A model that is fitted on train and valid uses the same vocabulary: an item that first occurs in
    valid is unknown to every fit.

    Attributes:
      item_ids: String [v - 2]. Ids of the raw log as text, in the order of their rows from 2 on.
      train_events: int64 [v - 2]. Events of each that are fitted with train, 0 for the other items.
      valid_events: int64 [v - 2]. Events of each that are fitted in addition with train and valid.
      id_type: The type of the ids in the raw log, and wherever ids are written.
      fitted: Number of items in the fitted catalogue; None: all.
      known_from: int64 [v - 2]. Seconds. From the next second on, the item can be recommended: the
        time of its first event by any user, or the one that the list gives, if that is earlier;
        `FROM_THE_START` for the items of a list without times. None: the log was prepared by a
        version that did not record it.
    """

    item_ids: pl.Series
    train_events: np.ndarray
    valid_events: np.ndarray
    id_type: IdType = "string"
    fitted: int | None = None
    known_from: np.ndarray | None = None

    @property
    def size(self) -> int:
        """`v`, rows of the item table: padding, unknown, and all items."""
        return FIRST_ITEM_ID + len(self.item_ids)

    @property
    def fitted_size(self) -> int:
        """Rows of the item table of a model: padding, unknown, and the fitted catalogue."""
        return self.size if self.fitted is None else FIRST_ITEM_ID + self.fitted

    def fitted_part(self) -> "Vocabulary":
        """The fitted catalogue alone."""
        end = self.fitted_size - FIRST_ITEM_ID
        return Vocabulary(
            self.item_ids[:end],
            self.train_events[:end],
            self.valid_events[:end],
            self.id_type,
            known_from=None if self.known_from is None else self.known_from[:end],
        )

    @functools.cached_property
    def known_from_v(self) -> np.ndarray:
        """int64 [v]. `known_from` of each row; padding and unknown are never known."""
        assert self.known_from is not None
        never = np.full(FIRST_ITEM_ID, np.iinfo(np.int64).max)
        return np.concatenate([never, self.known_from])

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
        """Writes `vocabulary.parquet`: index (row), item_id, train_events, valid_events.

        And known_from and fitted (whether it is in the fitted catalogue), if that is known.
        """
        frame = pl.DataFrame(
            {
                "index": pl.Series(np.arange(FIRST_ITEM_ID, self.size), dtype=pl.Int32),
                "item_id": typed_ids(self.item_ids, self.id_type),
                "train_events": pl.Series(self.train_events, dtype=pl.Int64),
                "valid_events": pl.Series(self.valid_events, dtype=pl.Int64),
            }
        )
        if self.known_from is not None:
            fitted = np.arange(len(self.item_ids)) < self.fitted_size - FIRST_ITEM_ID
            frame = frame.with_columns(
                known_from=pl.Series(self.known_from, dtype=pl.Int64), fitted=pl.Series(fitted)
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

        columns = list(_COLUMNS)

        def check_header(found: list[str]) -> None:
            if found == [*_COLUMNS, *_ADDED]:
                columns.extend(_ADDED)
            elif found != list(_COLUMNS):
                raise DataError(
                    f"{path}: expected the columns {', '.join([*_COLUMNS, *_ADDED])}; prepare it "
                    "again"
                )

        frame = read_parquet(path, columns, check_header)
        id_type = type_of(frame["item_id"].dtype)
        expected = [_TYPES.get(name, frame[name].dtype) for name in columns]
        nulls = sum(frame.null_count().row(0))
        if id_type is None or frame.dtypes != expected or nulls:
            wanted = (str(_TYPES.get(name, " or ".join(ID_TYPES))) for name in columns)
            raise DataError(
                f"{path}: expected the types {', '.join(wanted)}, without nulls; got "
                f"{', '.join(map(str, frame.dtypes))} with {nulls} nulls; prepare it again"
            )
        is_fitted = frame["fitted"].to_numpy() if "fitted" in columns else np.ones(len(frame), bool)
        vocabulary = cls(
            frame["item_id"].cast(pl.String),
            frame["train_events"].to_numpy(),
            frame["valid_events"].to_numpy(),
            id_type,
            int(is_fitted.sum()),
            frame["known_from"].to_numpy() if "known_from" in columns else None,
        )
        rows = np.arange(FIRST_ITEM_ID, vocabulary.size)
        if not np.array_equal(frame["index"], rows):
            raise DataError(
                f"{path}: index: expected {FIRST_ITEM_ID}, {FIRST_ITEM_ID + 1}, ...; "
                "prepare it again"
            )
        if np.any(is_fitted[1:] > is_fitted[:-1]):
            raise DataError(f"{path}: fitted: expected the fitted items first; prepare it again")
        if vocabulary.item_ids.n_unique() < len(rows):
            raise DataError(f"{path}: item_id: an item occurs twice; prepare it again")
        if np.any(vocabulary.train_events < 0) or np.any(vocabulary.valid_events < 0):
            raise DataError(
                f"{path}: expected train_events >= 0 and valid_events >= 0; prepare it again"
            )
        return vocabulary


@dataclasses.dataclass(frozen=True, eq=False)
class ItemCounts:
    """The items of a log, by code, after the filters.

    Attributes:
      item_ids: String [items]. The id of each code, sorted.
      train: int64 [items]. Events of each that are fitted with train.
      valid: int64 [items]. Events of each that are fitted in addition with train and valid.
      first_seen: int64 [items]. Seconds. Its first event; `NEVER` if the filters left none.
    """

    item_ids: pl.Series
    train: np.ndarray
    valid: np.ndarray
    first_seen: np.ndarray


NEVER = np.iinfo(np.int64).max
"""`first_seen` of an item without events."""


class Listed(NamedTuple):
    """Items to add to the fitted catalogue even if they have no train event.

    Attributes:
      item_ids: String. Each once.
      available_from: int64. Seconds; `FROM_THE_START` for items without a time.
    """

    item_ids: pl.Series
    available_from: np.ndarray


def extend_vocabulary(
    counts: ItemCounts, previous: Vocabulary, facts: IdFacts
) -> tuple[Vocabulary, np.ndarray]:
    """Builds the vocabulary of a log that continues an earlier one.

    Args:
      counts: The items of the whole log; those of the earlier one are among them.
      previous: The earlier vocabulary. Its fitted items keep their rows.
      facts: The type of the log's item ids.

    Returns:
      As `build_vocabulary`.
    """
    before = previous.fitted_part()
    assert before.known_from is not None
    # Items that only a list of items named may have no event yet, and then no code.
    codes = codes_of(before.item_ids, counts.item_ids)
    row_of = np.flatnonzero(codes.is_not_null().to_numpy())
    old = codes.drop_nulls().to_numpy()
    rank = np.empty(len(counts.item_ids), np.int64)
    rank[counts.item_ids.arg_sort().to_numpy()] = np.arange(len(rank))
    place = np.lexsort((rank, counts.first_seen))
    is_old = np.zeros(len(rank), bool)
    is_old[old] = True
    added = place[(~is_old & (counts.train > 0))[place]]
    later = place[(~is_old & (counts.train == 0) & (counts.first_seen < NEVER))[place]]
    fitted = len(before.item_ids) + len(added)
    rows = np.full(len(rank), UNKNOWN_ID, np.int32)
    rows[old] = FIRST_ITEM_ID + row_of
    rows[np.concatenate([added, later])] = (
        FIRST_ITEM_ID + len(before.item_ids) + np.arange(len(added) + len(later))
    )

    def column(of_log: np.ndarray, nothing: int) -> np.ndarray:
        values = np.full(len(before.item_ids), nothing, np.int64)
        values[row_of] = of_log[old]
        return np.concatenate([values, of_log[added], of_log[later]])

    known_from = column(counts.first_seen, NEVER)
    known_from[: len(before.item_ids)] = np.minimum(
        known_from[: len(before.item_ids)], before.known_from
    )
    facts |= facts_of(before.item_ids, is_text=previous.id_type == "string")
    ids = [before.item_ids, *(counts.item_ids.gather(codes) for codes in (added, later))]
    vocabulary = Vocabulary(
        pl.concat([one.rename("item_id") for one in ids]),
        column(counts.train, 0),
        column(counts.valid, 0),
        facts.id_type,
        fitted,
        known_from,
    )
    return vocabulary, rows


def build_vocabulary(
    counts: ItemCounts, listed: Listed | None = None, facts: IdFacts = TEXT
) -> tuple[Vocabulary, np.ndarray]:
    """Builds the vocabulary of a log, and gives each of the log's item codes a row.

    Args:
      counts: The log's items.
      listed: Items to add.
      facts: The type of the log's item ids.

    Returns:
      The vocabulary, and int32 [items]: the row of each code, `UNKNOWN_ID` for codes without
      events.
    """
    item_ids, is_item = counts.item_ids, counts.train > 0
    others, known_from = item_ids.clear(), counts.first_seen
    others_from = np.zeros(0, np.int64)
    if listed is not None:
        facts |= facts_of(listed.item_ids, is_text=False)
        frame = pl.DataFrame(
            {"item_id": merged(listed.item_ids, facts), "from": listed.available_from}
        ).unique("item_id", keep="first", maintain_order=True)
        is_item |= item_ids.is_in(frame["item_id"].implode()).to_numpy()
        in_log = pl.DataFrame({"item_id": item_ids}).join(
            frame, "item_id", how="left", maintain_order="left"
        )
        known_from = np.minimum(known_from, in_log["from"].fill_null(NEVER).to_numpy())
        missing = frame.filter(~pl.col("item_id").is_in(item_ids.implode())).sort("item_id")
        others, others_from = missing["item_id"], missing["from"].to_numpy()
    order = np.argsort(-counts.train, kind="stable")
    catalogue = order[is_item[order]]
    later = np.flatnonzero(~is_item & (counts.first_seen < NEVER))
    later = later[np.argsort(counts.first_seen[later], kind="stable")]
    fitted = len(catalogue) + len(others)
    rows = np.full(len(item_ids), UNKNOWN_ID, np.int32)
    rows[catalogue] = FIRST_ITEM_ID + np.arange(len(catalogue))
    rows[later] = FIRST_ITEM_ID + fitted + np.arange(len(later))

    def column(of_log: np.ndarray, of_others: np.ndarray) -> np.ndarray:
        return np.concatenate([of_log[catalogue], of_others, of_log[later]])

    nothing = np.zeros(len(others), np.int64)
    vocabulary = Vocabulary(
        pl.concat([item_ids.gather(catalogue), others, item_ids.gather(later)]),
        column(counts.train, nothing),
        column(counts.valid, nothing),
        facts.id_type,
        fitted,
        column(known_from, others_from),
    )
    return vocabulary, rows
