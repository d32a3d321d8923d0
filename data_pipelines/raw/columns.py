"""Raw columns of a log to typed ones; what cannot be used is reported row by row."""

import dataclasses

import polars as pl

from data_pipelines.raw.bad_rows import BadRows
from data_pipelines.raw.odd_times import UnitSeen
from data_pipelines.raw.row_checker import RowChecker
from data_pipelines.raw.times import TimeOptions
from data_pipelines.raw.usable_times import usable_times


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of the input hold what.

    Attributes:
      user: User ids, text or integers.
      item: Item ids, likewise.
      time: Times, see `times.to_milliseconds`.
      times: How they are read.
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
    frame: pl.DataFrame, columns: Columns, source: str, bad_rows: BadRows, seen: UnitSeen
) -> pl.DataFrame:
    """Converts raw columns to `log.TYPED_SCHEMA`.

    Args:
      frame: The columns of `columns`, `row` (Int64) and, from a text file, `line` (Int64).
      columns: What they hold.
      source: The file, for messages.
      bad_rows: What to do with null ids and unusable times.
      seen: The unit of the times so far.

    Raises:
      DataError: Ids are neither text nor integers; a row is bad and the action is `error`; times
        are in another unit, or are dates written as numbers.
    """
    checker = RowChecker(frame, source, bad_rows)
    for name in (columns.user, columns.item, *([columns.session] if columns.session else [])):
        checker.cast_ids(name)
    for name in columns.names():
        checker.drop_nulls(name)
    times_ms = usable_times(checker, columns.time, columns.times, seen)
    frame = checker.frame
    return pl.DataFrame(
        {
            "user_id": frame[columns.user],
            "item_id": frame[columns.item],
            "time_ms": pl.Series(times_ms, dtype=pl.Int64),
            "session_id": frame[columns.session]
            if columns.session
            else pl.Series([None] * len(frame), dtype=pl.String),
        }
    )
