"""Tables of events as users bring them, in any data frame library, and times in any form."""

import datetime
from collections.abc import Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np

_SECONDS_MOST = 2**53
"""Up to here a float tells whole seconds apart."""


class Names(NamedTuple):
    """The columns of a table of events, and how many of its numbers of time make a second."""

    user: str = "user_id"
    item: str = "item_id"
    time: str = "time"
    per_second: int = 1


class UserEvents(NamedTuple):
    """The events of one user, in order of time.

    Attributes:
      item_ids: Raw ids.
      times: int64. Seconds.
    """

    item_ids: list[Any]
    times: np.ndarray


def events_by_user(frame: Any, names: Names) -> dict[Any, UserEvents]:
    """The events of a table by user, in order of first appearance; each user's in order of time.

    Args:
      frame: A data frame of polars, pandas, pyarrow or another library that narwhals knows.
      names: Its columns.

    Raises:
      TypeError: It is no data frame.
      ValueError: A column is missing, a value is null, or a time is none.
    """
    table = nw.from_native(frame, eager_only=True)
    for role, name in zip(("user", "item", "time"), names[:3], strict=True):
        if name not in table.columns:
            raise ValueError(
                f"histories: no column {name!r} for the {role}, got {', '.join(table.columns)}"
            )
        if table[name].is_null().any():
            row = int(table[name].is_null().arg_max() or 0)
            raise ValueError(f"histories: row {row}, column {name!r}: is null")
    users, items = table[names.user].to_list(), table[names.item].to_list()
    time_n = _column_seconds(table[names.time], names)
    order_n = np.argsort(time_n, kind="stable")
    indices: dict[Any, list[int]] = {user: [] for user in users}
    for index in order_n.tolist():
        indices[users[index]].append(index)
    return {
        user: UserEvents([items[index] for index in found], time_n[found])
        for user, found in indices.items()
    }


def _column_seconds(times: nw.Series, names: Names) -> np.ndarray:
    """int64 [n]. A column of times in seconds; numbers are of the unit of the log."""
    if isinstance(times.dtype, nw.Datetime):
        return np.asarray(times.dt.timestamp("ms").to_numpy() // 1000, np.int64)
    if not times.dtype.is_numeric():
        return seconds_of(times.to_list(), names.time)
    number_n = times.to_numpy()
    wrong_n = ~np.isfinite(number_n) | (np.abs(number_n) > _SECONDS_MOST)
    if wrong_n.any():
        return seconds_of(number_n[wrong_n][:1], names.time)
    return np.asarray(number_n // names.per_second, np.int64)


def seconds_of(times: Sequence[Any] | Any, field: str = "time") -> np.ndarray:
    """int64 [n]. Times in seconds since the epoch.

    Args:
      times: Numbers of seconds, or datetimes; those without a zone are UTC. One or many.
      field: What an error calls them.

    Raises:
      ValueError: One is neither, or not finite.

    >>> seconds_of([1700000000, datetime.datetime(2023, 11, 14, 22, 13, 20)]).tolist()
    [1700000000, 1700000000]
    """
    listed = [times] if isinstance(times, _ONE) else list(times)
    return np.fromiter((_seconds(one, field) for one in listed), np.int64, len(listed))


_ONE = (int, float, np.number, datetime.date, np.datetime64)


def _seconds(time: Any, field: str) -> int:
    if isinstance(time, bool) or not isinstance(time, _ONE):
        raise ValueError(f"{field}={time!r}: must be seconds or a datetime")
    if isinstance(time, np.datetime64):
        time = time.astype("datetime64[us]").item()
    if isinstance(time, datetime.datetime):
        zoned = time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
        return int(zoned.timestamp())
    if isinstance(time, datetime.date):
        raise ValueError(f"{field}={time!r}: must be seconds or a datetime, not a date")
    # A whole number of any size is one in Python, but none for numpy.
    if abs(time) > _SECONDS_MOST or not np.isfinite(time):
        raise ValueError(f"{field}={time!r}: must be seconds since the epoch")
    return int(time)
