"""Files of impressions: what was shown to whom and when, and which of it was clicked."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
import polars as pl

from data_pipelines.bad_rows import BadRows, OnBadRow
from data_pipelines.columns import RowChecker, is_id
from data_pipelines.errors import DataError
from data_pipelines.log import Log, codes_of
from data_pipelines.readers import read_frames
from data_pipelines.times import TimeUnit

_ID_IN_TEXT = r"""[^\s,\[\]'"]+"""


@dataclasses.dataclass(frozen=True)
class ImpressionColumns:
    """Which columns hold what. A row is one list that was shown to one user.

    Attributes:
      user: User ids, those of the log.
      time: When it was shown, see `times.to_milliseconds`.
      time_unit: What one counts in a column of numbers.
      shown: Item ids: a list in Parquet; in text files the ids with spaces or commas between them,
        perhaps in brackets or quotes; a single id is a list of one.
      clicked: Likewise; nothing where nothing was clicked.
    """

    user: str = "user_id"
    time: str = "timestamp"
    time_unit: TimeUnit = "s"
    shown: str = "shown"
    clicked: str = "clicked"

    def names(self) -> list[str]:
        """The columns that a file must have, each once."""
        return list(dict.fromkeys([self.user, self.time, self.shown, self.clicked]))


@dataclasses.dataclass(frozen=True, eq=False)
class Impressions:
    """Lists that were shown to users of a log; m lists, p items shown and q clicked in all.

    Items that the log does not have get codes of their own, behind those of the log.

    Attributes:
      users: int32 [m]. Code of each list's user in the log.
      times_ms: int64 [m]. Milliseconds since the epoch.
      shown_lists: int64 [p], never decreasing. The list that each item stands in.
      shown_items: int32 [p]. Code of the item.
      clicked_lists: int64 [q], never decreasing.
      clicked_items: int32 [q].
      rows: Rows read: the lists, and those of users whom the log does not have.
      drops: Rows skipped for each reason.
    """

    users: np.ndarray
    times_ms: np.ndarray
    shown_lists: np.ndarray
    shown_items: np.ndarray
    clicked_lists: np.ndarray
    clicked_items: np.ndarray
    rows: int
    drops: dict[str, int]

    def __len__(self) -> int:
        return len(self.users)


def read_impressions(
    paths: Sequence[str],
    columns: ImpressionColumns,
    separator: str | None,
    on_bad_row: OnBadRow,
    log: Log,
) -> Impressions:
    """Reads the impressions of a log's users.

    Args:
      paths: Files or patterns, as of `readers.read_files`.
      columns: Which columns hold what.
      separator: Between the fields of a text file; None: comma in .csv, tab in .tsv.
      on_bad_row: Stop at a row that cannot be used, or skip and count it.
      log: Whose users and items they are.

    Raises:
      DataError: As `readers.read_files`. A row is bad too where nothing was shown, or where an item
        was clicked that was not shown.
    """
    bad_rows = BadRows(on_bad_row)
    frames = []
    for source, frame in read_frames(paths, columns.names(), separator, bad_rows, lists=True):
        frames.append(_typed(frame, columns, source, bad_rows))
    frame = pl.concat(frames)
    return _encode(frame, log, bad_rows.counts)


def _typed(
    frame: pl.DataFrame, columns: ImpressionColumns, source: str, bad_rows: BadRows
) -> pl.DataFrame:
    """Raw rows to user_id (String), time_ms (Int64), shown and clicked (List of String)."""
    checker = RowChecker(frame, source, bad_rows)
    checker.cast_ids(columns.user)
    checker.drop_nulls(columns.user)
    checker.drop_nulls(columns.time)
    times_ms = pl.Series(checker.usable_times(columns.time, columns.time_unit), dtype=pl.Int64)
    checker.frame = checker.frame.with_columns(
        times_ms.alias("time_ms"),
        shown=_lists(checker.frame[columns.shown], source),
        clicked=_lists(checker.frame[columns.clicked], source),
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


def _lists(values: pl.Series, source: str) -> pl.Series:
    """List(String) of a column in any of the forms that `ImpressionColumns` names."""
    dtype = values.dtype
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        lists = values.cast(pl.String).str.extract_all(_ID_IN_TEXT)
    elif is_id(dtype):
        lists = values.cast(pl.String).reshape((-1, 1)).arr.to_list()
    elif dtype == pl.Null or (isinstance(dtype, pl.List) and _holds_ids(dtype)):
        lists = values.cast(pl.List(pl.String))
    else:
        raise DataError(
            f"{source}: column {values.name!r}: expected lists of text or integers, got {dtype}"
        )
    return lists.list.drop_nulls().fill_null([])


def _holds_ids(dtype: pl.List) -> bool:
    return dtype == pl.List(pl.Null) or is_id(pl.Series(dtype=dtype.inner).dtype)


def _encode(frame: pl.DataFrame, log: Log, drops: collections.Counter[str]) -> Impressions:
    users = codes_of(frame["user_id"], log.user_ids)
    of_log = frame.filter(users.is_not_null())
    ids = pl.concat([of_log["shown"].explode(), of_log["clicked"].explode()]).drop_nulls()
    others = ids.filter(~ids.is_in(log.item_ids.implode())).unique().sort()
    known = pl.concat([log.item_ids.rename("id"), others.rename("id")])

    def flat(name: str) -> tuple[np.ndarray, np.ndarray]:
        owners = np.repeat(np.arange(len(of_log)), of_log[name].list.len().to_numpy())
        return owners, codes_of(of_log[name].explode().drop_nulls(), known).to_numpy()

    return Impressions(
        users.drop_nulls().to_numpy(),
        of_log["time_ms"].to_numpy(),
        *flat("shown"),
        *flat("clicked"),
        rows=len(frame),
        drops=dict(drops),
    )
