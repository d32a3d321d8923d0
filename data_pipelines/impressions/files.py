"""Reads files of impressions: what was shown to whom and when, and which of it was clicked."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.bad_rows import BadRows
from data_pipelines.raw.ids import WHOLE_FLOAT, IdFacts, cast_ids, is_id, without_fraction
from data_pipelines.raw.ingest import ReadOptions
from data_pipelines.raw.log import Log, codes_of
from data_pipelines.raw.log_facts import LogFacts
from data_pipelines.raw.odd_times import UnitSeen
from data_pipelines.raw.readers import read_frames
from data_pipelines.raw.row_checker import RowChecker
from data_pipelines.raw.times import TimeOptions
from data_pipelines.raw.usable_times import usable_times

IMPRESSION_SCHEMA = pl.Schema(
    {
        "user_id": pl.String(),
        "time_ms": pl.Int64(),
        "shown": pl.List(pl.String()),
        "clicked": pl.List(pl.String()),
    }
)
"""The typed rows: no nulls, and every clicked item was shown."""

_ID_IN_TEXT = r"""[^\s,\[\]'"]+"""


@dataclasses.dataclass(frozen=True)
class ImpressionColumns:
    """The columns of a file of impressions. A row is one list that was shown to one user.

    Attributes:
      user: User ids, those of the log.
      time: When the list was shown, see `times.to_milliseconds`.
      times: How to read times.
      shown: Item ids: a list in Parquet; in text files ids separated by spaces or commas,
        optionally in brackets or quotes; a single id is a list of one.
      clicked: Ids of clicked items, in the same forms; empty if nothing was clicked.
    """

    user: str = "user_id"
    time: str = "timestamp"
    times: TimeOptions = dataclasses.field(default_factory=TimeOptions)
    shown: str = "shown"
    clicked: str = "clicked"

    def names(self) -> list[str]:
        """The columns that a file must have, each once."""
        return list(dict.fromkeys([self.user, self.time, self.shown, self.clicked]))


@dataclasses.dataclass(frozen=True, eq=False)
class Impressions:
    """Lists that were shown to users of a log: m lists, with p items shown and q clicked in all.

    Attributes:
      item_ids: String [items]. The id of each item code: those of the log, then those that the log
        lacks.
      users: int32 [m]. Code of each list's user in the log.
      times_ms: int64 [m]. Milliseconds since the epoch.
      shown_lists: int64 [p], never decreasing. The list of each shown item.
      shown_items: int32 [p]. Code of the item.
      clicked_lists: int64 [q], never decreasing.
      clicked_items: int32 [q].
      rows: Rows read: these lists, and those of users whom the log lacks.
    """

    item_ids: pl.Series
    users: np.ndarray
    times_ms: np.ndarray
    shown_lists: np.ndarray
    shown_items: np.ndarray
    clicked_lists: np.ndarray
    clicked_items: np.ndarray
    rows: int

    def __len__(self) -> int:
        return len(self.users)


def typed_impressions(
    paths: Sequence[str],
    columns: ImpressionColumns,
    options: ReadOptions,
    bad_rows: BadRows,
    facts: LogFacts,
) -> Iterator[pl.DataFrame]:
    """Yields the rows of files as `IMPRESSION_SCHEMA`, in the order of the input.

    Args:
      paths: Files or patterns, as `readers.read_files` takes them.
      columns: The columns to read.
      options: How the log is read; the form of the files and the null words apply here too.
      bad_rows: What to do with unusable rows.
      facts: Records the unit of the times.

    Raises:
      DataError: As `readers.read_files`. A row is also bad if nothing was shown, or if an item was
        clicked that was not shown.
    """
    for source, frame, _ in read_frames(
        paths, columns.names(), dataclasses.replace(options.text, names=()), bad_rows, lists=True
    ):
        checker = RowChecker(frame, source, bad_rows, options.null_values)
        yield _typed(checker, columns, options.null_values, facts.unit)


def _typed(
    checker: RowChecker, columns: ImpressionColumns, null_values: Sequence[str], seen: UnitSeen
) -> pl.DataFrame:
    """Converts raw rows to `IMPRESSION_SCHEMA`."""
    cast_ids(checker, columns.user)
    checker.drop_nulls(columns.user)
    checker.drop_nulls(columns.time)
    usable_ms = usable_times(checker, columns.time, columns.times, seen)
    times_ms = pl.Series(usable_ms, dtype=pl.Int64)
    checker.frame = checker.frame.with_columns(
        times_ms.alias("time_ms"),
        shown=_lists(checker.frame[columns.shown], checker.source, null_values),
        clicked=_lists(checker.frame[columns.clicked], checker.source, null_values),
    )
    nothing = checker.frame["shown"].list.len() == 0
    checker.drop(nothing.to_numpy(), columns.shown, "nothing was shown", "items")
    lacking = checker.frame["clicked"].list.set_difference(checker.frame["shown"]).list.len() > 0
    checker.drop(
        lacking.to_numpy(), columns.clicked, "clicked but not shown", f"items of {columns.shown!r}"
    )
    return checker.frame.select(
        pl.col(columns.user).alias("user_id"), "time_ms", "shown", "clicked"
    )


def _lists(values: pl.Series, source: str, null_values: Sequence[str]) -> pl.Series:
    """List(String) of a column in any form that `ImpressionColumns` allows, without nulls."""
    dtype = values.dtype
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        lists = values.cast(pl.String).str.extract_all(_ID_IN_TEXT)
    elif is_id(dtype):
        lists = values.cast(pl.String).reshape((-1, 1)).arr.to_list()
    elif dtype == pl.Null or (isinstance(dtype, pl.List) and _holds_ids(dtype)):
        lists = values.cast(pl.List(pl.String))
    elif isinstance(dtype, pl.List) and _holds_whole_floats(values):
        lists = values.cast(pl.List(pl.Int64)).cast(pl.List(pl.String))
    else:
        raise DataError(
            f"{source}: column {values.name!r}: expected lists of text or integers, got {dtype}"
        )
    words = lists.list.eval(pl.element().filter(~pl.element().is_in(list(null_values))))
    return words.list.drop_nulls().fill_null([])


def _holds_whole_floats(values: pl.Series) -> bool:
    """Whether lists hold floats that are all whole numbers and exact."""
    items = values.explode().drop_nulls()
    if items.dtype != pl.Float64:
        return False
    return bool(((items == items.floor()) & (items.abs() <= 2**53)).all())


def _holds_ids(dtype: pl.List) -> bool:
    return dtype == pl.List(pl.Null) or is_id(pl.Series(dtype=dtype.inner).dtype)


def _as_in_log(ids: pl.Series, facts: IdFacts) -> pl.Series:
    """Replaces "7.0" by "7", in ids or lists of ids, if the log treats them as one."""
    if not facts.merges_floats:
        return ids
    if isinstance(ids.dtype, pl.List):
        return ids.list.eval(pl.element().str.replace(WHOLE_FLOAT, "${1}"))
    return without_fraction(ids)


def encode_impressions(frames: Iterable[pl.DataFrame], log: Log) -> Impressions:
    """Encodes the lists shown to a log's users with the log's codes.

    Args:
      frames: `IMPRESSION_SCHEMA`, in the order of the input.
      log: Defines users and items.
    """
    frame = pl.concat([pl.DataFrame(schema=IMPRESSION_SCHEMA), *frames])
    frame = frame.with_columns(
        _as_in_log(frame["user_id"], log.facts.ids_of("user_id")),
        *(_as_in_log(frame[name], log.facts.ids_of("item_id")) for name in ("shown", "clicked")),
    )
    users = codes_of(frame["user_id"], log.user_ids)
    of_log = frame.filter(users.is_not_null())
    ids = pl.concat([of_log["shown"].explode(), of_log["clicked"].explode()]).drop_nulls()
    others = ids.filter(~ids.is_in(log.item_ids.implode())).unique().sort()
    item_ids = pl.concat([log.item_ids.rename("id"), others.rename("id")])

    def flat(name: str) -> tuple[np.ndarray, np.ndarray]:
        owners = np.repeat(np.arange(len(of_log)), of_log[name].list.len().to_numpy())
        return owners, codes_of(of_log[name].explode().drop_nulls(), item_ids).to_numpy()

    return Impressions(
        item_ids,
        users.drop_nulls().to_numpy(),
        of_log["time_ms"].to_numpy(),
        *flat("shown"),
        *flat("clicked"),
        rows=len(frame),
    )
