"""Turns raw frames of any source into a log: conditions, types, bad rows, codes."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.progress import watched
from data_pipelines.raw.bad_rows import BadRows, OnBadRow
from data_pipelines.raw.columns import Columns, typed_columns
from data_pipelines.raw.conditions import Condition
from data_pipelines.raw.delimited import TextFormat
from data_pipelines.raw.drops import Drop
from data_pipelines.raw.log import Log, encode_log
from data_pipelines.raw.log_facts import LogFacts
from data_pipelines.raw.row_checker import NULL_VALUES, RowChecker


class RawRows(NamedTuple):
    """Some rows of a source.

    Attributes:
      source: Its name, for messages.
      frame: The needed columns, unchanged, and `row`, their numbers from 1 (Int64); for a text file
        also `line`.
      is_typed: Whether the source has types; text files have none.
    """

    source: str
    frame: pl.DataFrame
    is_typed: bool


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How to read a log.

    Attributes:
      columns: The columns to read.
      text: The format of text files.
      on_bad_row: Stop at an unusable row, or skip and count it.
      null_values: Words that mean a missing value.
      drop_where: Drops rows for which any of these holds; other faults of such a row are ignored,
        if it has the right number of fields.
    """

    columns: Columns = dataclasses.field(default_factory=Columns)
    text: TextFormat = dataclasses.field(default_factory=TextFormat)
    on_bad_row: OnBadRow = "error"
    null_values: tuple[str, ...] = NULL_VALUES
    drop_where: tuple[Condition, ...] = ()

    def needed(self) -> list[str]:
        """The columns to read, each once."""
        conditions = [condition.column for condition in self.drop_where]
        return list(dict.fromkeys([*self.columns.names(), *conditions]))


def collect_log(
    frames: Iterator[RawRows],
    options: ReadOptions,
    bad_rows: BadRows,
    earlier: LogFacts | None = None,
) -> tuple[Log, list[Drop]]:
    """Makes a log from raw frames.

    Args:
      frames: Rows with the columns `options.needed()`.
      options: How to read them.
      bad_rows: What to do with unusable rows; the source reports to it too.
      earlier: Facts about the log that these events continue; None: it starts here.

    Returns:
      The events in the order of the input, and what was dropped.

    Raises:
      DataError: A row is unusable and the action is `error`; no rows are left.
    """
    dropped: collections.Counter[str] = collections.Counter()
    facts = LogFacts()
    if earlier is not None:
        facts.add(earlier)
    typed = typed_frames(frames, options, bad_rows, dropped, facts)
    typed = watched(typed, "reading", "rows", size=len)
    log = encode_log(typed, has_sessions=options.columns.session is not None, facts=facts)
    return log, read_drops(len(log), dropped + bad_rows.counts)


def typed_frames(
    frames: Iterator[RawRows],
    options: ReadOptions,
    bad_rows: BadRows,
    dropped: collections.Counter[str],
    facts: LogFacts,
) -> Iterator[pl.DataFrame]:
    """Converts the frames of `collect_log` to `log.TYPED_SCHEMA`.

    Args:
      frames: See `collect_log`.
      options: See `collect_log`.
      bad_rows: See `collect_log`.
      dropped: Records the rows that conditions drop, by condition.
      facts: Records types of ids and the unit of times.

    Raises:
      DataError: As `collect_log`, for a row.
    """
    for source, frame, is_typed in frames:
        for condition in options.drop_where:
            kept = frame.filter(~condition.holds())
            dropped[f"drop_where {condition}"] += len(frame) - len(kept)
            frame = kept
        checker = RowChecker(frame, source, bad_rows, options.null_values)
        yield typed_columns(checker, options.columns, is_typed, facts)


def read_drops(rows: int, dropped: Mapping[str, int]) -> list[Drop]:
    """What was dropped while reading a log.

    Args:
      rows: Number of rows left.
      dropped: Number of rows dropped, by reason.

    Raises:
      DataError: None are left.
    """
    drops = [Drop(reason, events) for reason, events in dropped.items() if events]
    if not rows:
        reasons = "; ".join(f"{drop.reason}: {drop.events} rows" for drop in drops)
        raise DataError(
            f"no rows are left of the log ({reasons or 'it has none'}); is it the right file, and "
            "what --drop_where leaves out?"
        )
    return drops
