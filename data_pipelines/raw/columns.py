"""Raw columns of a log to typed ones; what cannot be used is reported row by row."""

import dataclasses

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.bad_rows import BadRows
from data_pipelines.raw.times import LATEST_MS, UNPARSABLE_MS, TimeUnit, to_milliseconds

_SHOWN_CHARACTERS = 80


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of the input hold what.

    Attributes:
      user: User ids, text or integers.
      item: Item ids, likewise.
      time: Times, see `times.to_milliseconds`.
      time_unit: What one counts in a column of numbers.
      session: Session ids, or None for a log without them.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"
    time_unit: TimeUnit = "s"
    session: str | None = None

    def names(self) -> list[str]:
        """The columns that the input must have."""
        return [self.user, self.item, self.time, *([self.session] if self.session else [])]


def typed_columns(
    frame: pl.DataFrame, columns: Columns, source: str, bad_rows: BadRows
) -> pl.DataFrame:
    """Converts raw columns to `log.TYPED_SCHEMA`.

    Args:
      frame: The columns of `columns`, `row` (Int64) and, from a text file, `line` (Int64).
      columns: What they hold.
      source: The file, for messages.
      bad_rows: What to do with null ids and unusable times.

    Raises:
      DataError: Ids are neither text nor integers; a row is bad and the action is `error`.
    """
    checker = RowChecker(frame, source, bad_rows)
    for name in (columns.user, columns.item, *([columns.session] if columns.session else [])):
        checker.cast_ids(name)
    for name in columns.names():
        checker.drop_nulls(name)
    times_ms = checker.usable_times(columns.time, columns.time_unit)
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


class RowChecker:
    """A frame that loses its bad rows as they are reported.

    Attributes:
      frame: The rows that are left.

    Args:
      frame: The rows, with their numbers: `row` and, from a text file, `line` (Int64).
      source: The file, for messages.
      bad_rows: What to do with a row that cannot be used.
    """

    def __init__(self, frame: pl.DataFrame, source: str, bad_rows: BadRows) -> None:
        self.frame = frame
        self._source = source
        self._bad_rows = bad_rows

    def cast_ids(self, name: str) -> None:
        """Makes a column of ids one of text.

        Raises:
          DataError: Its values are neither text nor integers.
        """
        dtype = self.frame[name].dtype
        if not is_id(dtype):
            raise DataError(
                f"{self._source}: column {name!r}: expected text or integers, got {dtype}"
            )
        self.frame = self.frame.with_columns(pl.col(name).cast(pl.String))

    def drop_nulls(self, name: str) -> None:
        """Reports and drops the rows that have nothing in a column."""
        values = self.frame[name]
        empty = values.is_null() | (values == "" if values.dtype == pl.String else False)
        self.drop(empty.fill_null(True).to_numpy(), name, f"null {name}", "a value")

    def usable_times(self, name: str, unit: TimeUnit) -> np.ndarray:
        """int64 [n], milliseconds of the rows whose time can be used; the others are dropped."""
        times_ms = to_milliseconds(self.frame[name], unit)
        for reason, wrong, expected in (
            (
                "unparsable time",
                lambda times: times == UNPARSABLE_MS,
                f"a number ({unit}) or ISO 8601",
            ),
            ("negative time", lambda times: times < 0, "a time since 1970"),
            (
                "time out of range",
                lambda times: times > LATEST_MS,
                f"a time before the year 10000 (numbers are read as {unit}: is --time_unit right?)",
            ),
        ):
            bad = wrong(times_ms)
            self.drop(bad, name, reason, expected)
            times_ms = times_ms[~bad]
        return times_ms

    def drop(self, bad: np.ndarray, column: str, reason: str, expected: str) -> None:
        """Reports and drops the rows where `bad` [n] holds."""

        def describe_first() -> str:
            first = self.frame[int(np.argmax(bad))]
            line = f" (line {first['line'].item()})" if "line" in first.columns else ""
            return (
                f"{self._source}: row {first['row'].item()}{line}, column {column!r}: "
                f"expected {expected}, got {_shown(first[column])}"
            )

        self._bad_rows.report(reason, int(bad.sum()), describe_first)
        if bad.any():
            self.frame = self.frame.filter(~bad)


def is_id(dtype: pl.DataType) -> bool:
    """Whether values of this type can be ids."""
    return dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum)


def _shown(value: pl.Series) -> str:
    """A value, alone in its series, as a message has it: cut where it is long."""
    if isinstance(value.dtype, pl.List):
        value = value.cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True)
    if value.dtype.is_temporal():
        # As a count: it may be no date that Python has.
        return f"{value.to_physical().item()} as {value.dtype}"
    plain = value.item()
    if plain is None or plain == "":
        return "nothing"
    text = repr(plain)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
