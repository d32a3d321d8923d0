"""Converts raw columns of a log to typed ones, and reports unusable values row by row."""

import dataclasses

import polars as pl

from data_pipelines.raw.ids import cast_ids, facts_of
from data_pipelines.raw.log import TYPED_SCHEMA
from data_pipelines.raw.log_facts import LogFacts
from data_pipelines.raw.row_checker import RowChecker
from data_pipelines.raw.times import TimeOptions
from data_pipelines.raw.usable_times import usable_times


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns to read.

    Attributes:
      user: User ids, text or whole numbers.
      item: Item ids, text or whole numbers.
      time: Times, see `times.to_milliseconds`.
      times: How to read times.
      session: Session ids, or None for a log without them.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"
    times: TimeOptions = dataclasses.field(default_factory=TimeOptions)
    session: str | None = None

    def names(self) -> list[str]:
        """The columns that the input must have."""
        return [self.user, self.item, self.time, *([self.session] if self.session else [])]


def typed_columns(
    checker: RowChecker, columns: Columns, is_typed: bool, facts: LogFacts
) -> pl.DataFrame:
    """Converts raw columns to `log.TYPED_SCHEMA`.

    Args:
      checker: Rows with the columns of `columns`.
      columns: The meaning of each column.
      is_typed: Whether the source has types; text files have none.
      facts: Records types of ids and the unit of times.

    Raises:
      DataError: Ids are neither text nor whole numbers; a row is bad and the action is `error`;
        times have another unit, or are dates written as numbers.
    """
    names = {"user_id": columns.user, "item_id": columns.item}
    if columns.session is not None:
        names["session_id"] = columns.session
    is_text = {column: cast_ids(checker, name) and is_typed for column, name in names.items()}
    for name in columns.names():
        checker.drop_nulls(name)
    times_ms = usable_times(checker, columns.time, columns.times, facts.unit)
    frame = checker.frame
    typed = {column: frame[name] for column, name in names.items()}
    for column, ids in typed.items():
        facts.add_ids(column, facts_of(ids, is_text[column]))
    typed.setdefault("session_id", pl.Series([None] * len(frame), dtype=pl.String))
    return pl.DataFrame({**typed, "time_ms": pl.Series(times_ms, dtype=pl.Int64)}).select(
        list(TYPED_SCHEMA)
    )
