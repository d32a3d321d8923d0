"""Converts times of a log to whole milliseconds: numbers, ISO 8601, or text of a given format."""

import dataclasses
import datetime
import math
from typing import Literal

import numpy as np
import polars as pl

Unit = Literal["s", "ms", "us", "ns", "order"]
TimeUnit = Literal["auto", Unit]

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000, "order": 1}
"""How many of a unit make a second. A step of a mere order is kept as a second."""

_DAY_MS = 86_400_000

LATEST_MS = 253_402_300_799_999
"""The end of the year 9999. Later times come from a wrong unit, such as milliseconds as seconds."""

UNPARSABLE_MS = np.iinfo(np.int64).min
"""Marks a value that is no time at all."""

_ISO_DATE = "[12][0-9]{3}-[01][0-9]-[0-3][0-9]"
_ISO_CLOCK = "[0-2][0-9]:[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,6})?"
_ISO_FORMS = (
    (rf"^({_ISO_DATE}[T ]{_ISO_CLOCK})(?:Z| ?UTC| ?GMT)?$", "%Y-%m-%d %H:%M:%S%.f"),
    (rf"^({_ISO_DATE}[T ]{_ISO_CLOCK}[+-](?:0[0-9]|1[0-4]):[0-5][0-9])$", "%Y-%m-%d %H:%M:%S%.f%z"),
    (rf"^({_ISO_DATE})$", "%Y-%m-%d"),
)
"""The usual forms of ISO 8601: polars parses the group by the format, with ' ' instead of T."""

_ZONE_NAMES = ("UTC", "GMT")


@dataclasses.dataclass(frozen=True)
class TimeOptions:
    """How to read a column of times.

    Attributes:
      unit: Unit of numbers since 1970. `auto`: from their size, see `odd_times`. `order`: they only
        say what came first.
      format: Format of times that are text, as for strftime, UTC if it has no zone. None: numbers,
        or ISO 8601.
      allow_odd: Whether to accept times before 1995 or in the future.
    """

    unit: TimeUnit = "auto"
    format: str | None = None
    allow_odd: bool = False


def parse_iso(text: str) -> int | None:
    """Milliseconds since the epoch of an ISO 8601 date or time (UTC if it has no zone).

    A zone may also be given as " UTC" or " GMT".
    """
    text = text.strip()
    has_zone_name = text.endswith(_ZONE_NAMES)
    try:
        moment = datetime.datetime.fromisoformat(text[:-3].rstrip() if has_zone_name else text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    elif has_zone_name:
        return None
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


def to_iso(milliseconds: int) -> str:
    """A time as text, in UTC: "2015-10-23 16:18:50"."""
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=int(milliseconds))
    return moment.isoformat(sep=" ", timespec="auto" if milliseconds % 1000 else "seconds")


def to_milliseconds(values: pl.Series, unit: Unit, time_format: str | None = None) -> np.ndarray:
    """Converts a column of times.

    Args:
      values: Numbers in `unit` (integers or not), dates, or text with either: a number in `unit`,
        or ISO 8601. With a format: text, or whole numbers that read so. No nulls.
      unit: Unit of numbers.
      time_format: As in `TimeOptions`; numbers then have no unit.

    Returns:
      int64 [n], milliseconds since the epoch, rounded down. `UNPARSABLE_MS` for values that are no
      time; values too large for 64 bits become larger than `LATEST_MS`. The caller checks the
      range.
    """
    if values.dtype in (pl.Date, pl.Datetime):
        return _from_dates(values)
    if time_format is not None:
        return _by_format(values, time_format)
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        return _from_text(values.cast(pl.String), unit)
    if values.dtype.is_integer():
        return _scale(values.cast(pl.Int64, strict=False), unit)
    if values.dtype.is_float() or values.dtype.is_decimal():
        return _from_floats(values.cast(pl.Float64).to_numpy(), unit)
    return np.full(len(values), UNPARSABLE_MS)


def polars_format(text: str) -> str:
    """Translates a strftime format to polars' signs, so that polars parses it.

    Raises:
      ValueError: It lacks year, month or day, or has an unknown sign.
    """
    translated = text.replace(".%f", "%.f")
    if ("%H" in translated or "%I" in translated) and "%M" not in translated:
        translated += _MINUTES[0]
    moment = datetime.datetime(2020, 9, 13, 12, 26, 40, tzinfo=datetime.UTC)
    try:
        if "%f" in translated:
            raise ValueError
        sample = pl.Series([moment]).dt.replace_time_zone("UTC").dt.to_string(translated)
        parsed = sample.str.to_datetime(translated, time_unit="us", strict=False)
        if parsed[0] is None or parsed[0].date() != moment.date():
            raise ValueError
    except (pl.exceptions.PolarsError, ValueError):
        raise ValueError(
            "must tell year, month and day in the signs of strftime, such as %d.%m.%Y %H:%M:%S"
        ) from None
    return translated


_MINUTES = (" %M", " 00")
"""Appended to format and text if they have only an hour, because polars wants minutes too."""


def _by_format(values: pl.Series, time_format: str) -> np.ndarray:
    """Reads text, or numbers that are read as text, such as 20180301."""
    translated = polars_format(time_format)
    if values.dtype.is_float() or values.dtype.is_decimal():
        numbers = values.cast(pl.Float64).fill_nan(None)
        whole = numbers.cast(pl.Int64, strict=False)
        values = whole.cast(pl.String).zip_with(
            (whole.cast(pl.Float64) == numbers).fill_null(False), pl.Series([""] * len(values))
        )
    text = values.cast(pl.String).str.strip_chars()
    if translated.endswith(_MINUTES[0]) and not time_format.endswith(_MINUTES[0]):
        text = text + _MINUTES[1]
    return _milliseconds_or_unparsable(
        text.str.to_datetime(translated, time_unit="us", strict=False)
    )


def _milliseconds_or_unparsable(moments: pl.Series) -> np.ndarray:
    """Datetime("us") to milliseconds, rounded down; null is `UNPARSABLE_MS`."""
    return (moments.to_physical() // 1_000).fill_null(UNPARSABLE_MS).to_numpy()


def _from_dates(values: pl.Series) -> np.ndarray:
    """Converts dates and datetimes; polars itself fails on those far from our time."""
    counts = values.to_physical().cast(pl.Int64).to_numpy()
    if isinstance(values.dtype, pl.Datetime):
        return counts // (PER_SECOND[values.dtype.time_unit] // 1_000)
    return counts * _DAY_MS


def _scale(values: pl.Series, unit: str) -> np.ndarray:
    """Integers (null: beyond 64 bits) in `unit` to milliseconds, clipped on overflow."""
    limit = LATEST_MS + 1
    if PER_SECOND[unit] == 1:
        return values.fill_null(limit).clip(-limit, limit).to_numpy() * 1_000
    milliseconds = values.fill_null(0).to_numpy() // (PER_SECOND[unit] // 1_000)
    return np.where(values.is_null().to_numpy(), limit, milliseconds)


def _from_floats(values: np.ndarray, unit: str) -> np.ndarray:
    """float64 [n] in `unit` to milliseconds."""
    limit = float(LATEST_MS + 1)
    if PER_SECOND[unit] == 1:
        # 1.001 * 1000 is a little less than 1001, so round to a hundredth first, then down.
        scaled = np.round(np.nan_to_num(values * 1_000, posinf=limit, neginf=-limit), 2)
    else:
        scaled = np.nan_to_num(values / (PER_SECOND[unit] // 1_000), posinf=limit, neginf=-limit)
    held = np.clip(scaled, -limit, limit)
    return np.where(np.isnan(values), UNPARSABLE_MS, np.floor(held).astype(np.int64))


def _from_text(values: pl.Series, unit: str) -> np.ndarray:
    """Text to milliseconds: integers first, then decimals, then ISO 8601."""
    integers = values.cast(pl.Int64, strict=False)
    times = _scale(integers, unit)
    rest = np.flatnonzero(integers.is_null().to_numpy())
    if len(rest):
        decimals = values[rest].cast(pl.Float64, strict=False)
        times = times.copy()
        times[rest] = _from_floats(decimals.fill_null(float("nan")).to_numpy(), unit)
        rest = rest[decimals.is_null().to_numpy()]
        times[rest] = _from_iso(values[rest])
    return times


def _from_iso(values: pl.Series) -> np.ndarray:
    """Converts ISO 8601 to milliseconds: the usual forms all at once, others one by one."""
    text = values.str.strip_chars()
    times = np.full(len(values), UNPARSABLE_MS)
    for pattern, form in _ISO_FORMS:
        moments = text.str.extract(pattern).str.replace("T", " ", literal=True)
        fits = np.flatnonzero(moments.is_not_null().to_numpy())
        times[fits] = _milliseconds_or_unparsable(
            moments[fits].str.to_datetime(form, time_unit="us", strict=False)
        )
    for index in np.flatnonzero(times == UNPARSABLE_MS).tolist():
        milliseconds = parse_iso(values[index])
        times[index] = UNPARSABLE_MS if milliseconds is None else milliseconds
    return times
