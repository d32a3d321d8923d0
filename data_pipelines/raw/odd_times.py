"""Checks whether times are plausible for a log, and guesses the meaning of numbers that are not.

From 1995 to now, a time is between 10^8.8 and 10^9.3 seconds, and a thousand times that in each
smaller unit. So a number in one of these ranges has a known unit, and any other number is no
plausible time in any unit.
"""

import dataclasses
import datetime

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.times import PER_SECOND, UNPARSABLE_MS, Unit, to_iso, to_milliseconds

UNITS: tuple[Unit, ...] = ("s", "ms", "us", "ns")
"""The units that the size of a number can tell."""

EARLIEST_MS = 788_918_400_000
"""The start of 1995."""

_DAY_MS = 86_400_000

NAMES = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "order": "steps of an order",
}

_DATE_FORMATS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""Dates written as a number, by their number of digits."""


def latest_ms() -> int:
    """A day from now, by the clock of this machine."""
    now = datetime.datetime.now(datetime.UTC)
    return int(now.timestamp() * 1_000) + _DAY_MS


def numbers_of(values: pl.Series) -> np.ndarray | None:
    """float64 [n]: the numbers in a column of times, nan for anything else; None for dates."""
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        numbers = values.cast(pl.String).cast(pl.Float64, strict=False)
    elif values.dtype.is_numeric():
        numbers = values.cast(pl.Float64, strict=False)
    else:
        return None
    return numbers.fill_null(float("nan")).to_numpy()


def places_of_units(number_n: np.ndarray) -> np.ndarray:
    """int8 [n]: the index in `UNITS` with which each number is from 1995 to now; -1 for none."""
    unit_n = np.full(len(number_n), -1, np.int8)
    for index, unit in enumerate(UNITS):
        scale = PER_SECOND[unit] / 1_000
        unit_n[(number_n >= EARLIEST_MS * scale) & (number_n <= latest_ms() * scale)] = index
    return unit_n


def date_format(number_n: np.ndarray) -> tuple[int, str] | None:
    """The index of the first number that reads as a date, such as 20180301, and its format."""
    latest = datetime.datetime.now(datetime.UTC).year
    for digits, form in _DATE_FORMATS.items():
        whole_n = np.where(np.abs(number_n) < 10**digits, number_n, 0).astype(np.int64)
        day_n = whole_n // 10 ** (digits - 8)
        is_date_n = (
            (whole_n == number_n)
            & (day_n // 10_000 >= 1995)
            & (day_n // 10_000 <= latest)
            & (day_n // 100 % 100 >= 1)
            & (day_n // 100 % 100 <= 12)
            & (day_n % 100 >= 1)
            & (day_n % 100 <= 31)
        )
        for index in np.flatnonzero(is_date_n)[:1].tolist():
            text = pl.Series([str(int(whole_n[index]))])
            if to_milliseconds(text, "s", form)[0] != UNPARSABLE_MS:
                return index, form
    return None


@dataclasses.dataclass
class UnitSeen:
    """The unit found for the numbers of a log; a log has only one.

    Attributes:
      unit: None if no number was seen yet.
      where: The first row where it was found, for messages.
    """

    unit: Unit | None = None
    where: str = ""

    def require(self, unit: Unit, where: str) -> None:
        """Records a unit.

        Raises:
          DataError: Another one was recorded before.
        """
        if self.unit is None:
            self.unit, self.where = unit, where
        if self.unit != unit:
            raise DataError(
                f"{where} counts {NAMES[unit]} by its size, but {self.where} counts "
                f"{NAMES[self.unit]}; bring the times of the log to one unit"
            )


def describe_odd(milliseconds: int) -> str:
    """An implausible time as text; for a time in the future also the current time."""
    if milliseconds < EARLIEST_MS:
        return to_iso(milliseconds)
    return f"{to_iso(milliseconds)}, while it is {to_iso(latest_ms() - _DAY_MS)}"
