"""Times of a log: numbers in seconds or milliseconds, or ISO 8601, to whole milliseconds."""

import datetime
import math
from typing import Literal

import numpy as np
import polars as pl

TimeUnit = Literal["s", "ms"]

MILLISECONDS = {"s": 1000, "ms": 1}
"""Milliseconds in one unit."""

_COUNTS_IN_MILLISECOND = {"ms": 1, "us": 1_000, "ns": 1_000_000}
_DAY_MS = 86_400_000

LATEST_MS = 253_402_300_799_999
"""The end of the year 9999. Beyond it a unit was mistaken: milliseconds read as seconds, say."""

UNPARSABLE_MS = np.iinfo(np.int64).min
"""Stands for a value that is no time at all."""


def parse_iso(text: str) -> int | None:
    """Milliseconds since the epoch of an ISO 8601 date or time (UTC where it names no zone)."""
    try:
        moment = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (moment - epoch) // datetime.timedelta(milliseconds=1)


def parse_time(text: str) -> int:
    """Milliseconds since the epoch of seconds ("1445617130") or of an ISO date ("2015-10-23").

    Raises:
      ValueError: It is neither, or it is before 1970.
    """
    try:
        seconds = float(text)
    except ValueError:
        milliseconds = parse_iso(text)
    else:
        milliseconds = round(seconds * 1000) if math.isfinite(seconds) else None
    if milliseconds is None or not 0 <= milliseconds <= LATEST_MS:
        raise ValueError("must be seconds since 1970 or an ISO date")
    return milliseconds


def to_milliseconds(values: pl.Series, unit: TimeUnit) -> np.ndarray:
    """Converts a column of times.

    Args:
      values: Numbers in `unit` (integers or not), dates, or text that holds either: a number in
        `unit`, or ISO 8601. No nulls.
      unit: What one counts.

    Returns:
      int64 [n], milliseconds since the epoch, rounded down. `UNPARSABLE_MS` for what is no time;
      what is too large for 64 bits becomes larger than `LATEST_MS`. The caller judges the range.
    """
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        return _from_text(values.cast(pl.String), unit)
    if values.dtype in (pl.Date, pl.Datetime):
        return _from_dates(values)
    if values.dtype.is_integer():
        return _scale(values.cast(pl.Int64, strict=False), unit)
    if values.dtype.is_float() or values.dtype.is_decimal():
        return _from_floats(values.cast(pl.Float64).to_numpy(), unit)
    return np.full(len(values), UNPARSABLE_MS)


def _from_dates(values: pl.Series) -> np.ndarray:
    """Dates and datetimes, which polars itself cannot convert where they are far from our time."""
    counts = values.to_physical().cast(pl.Int64).to_numpy()
    if isinstance(values.dtype, pl.Datetime):
        return counts // _COUNTS_IN_MILLISECOND[values.dtype.time_unit]
    return counts * _DAY_MS


def _scale(values: pl.Series, unit: TimeUnit) -> np.ndarray:
    """Integers (null: beyond 64 bits) in `unit` to milliseconds, held where they would overflow."""
    limit = LATEST_MS + 1
    return values.fill_null(limit).clip(-limit, limit).to_numpy() * MILLISECONDS[unit]


def _from_floats(values: np.ndarray, unit: TimeUnit) -> np.ndarray:
    """float64 [n] in `unit` to milliseconds."""
    limit = float(LATEST_MS + 1)
    # 1.001 * 1000 is a little less than 1001: to a hundredth first, then down.
    scaled = np.round(np.nan_to_num(values * MILLISECONDS[unit], posinf=limit), 2)
    held = np.clip(scaled, -limit, limit)
    return np.where(np.isnan(values), UNPARSABLE_MS, np.floor(held).astype(np.int64))


def _from_text(values: pl.Series, unit: TimeUnit) -> np.ndarray:
    """Text to milliseconds: integers first, then decimals, then ISO 8601."""
    integers = values.cast(pl.Int64, strict=False)
    times = _scale(integers, unit)
    rest = np.flatnonzero(integers.is_null().to_numpy())
    if len(rest):
        decimals = values[rest].cast(pl.Float64, strict=False)
        times = times.copy()
        times[rest] = _from_floats(decimals.fill_null(float("nan")).to_numpy(), unit)
        for place in rest[decimals.is_null().to_numpy()]:
            milliseconds = parse_iso(values[int(place)])
            times[place] = UNPARSABLE_MS if milliseconds is None else milliseconds
    return times
