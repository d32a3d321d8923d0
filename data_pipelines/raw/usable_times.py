"""The times of checked rows, in one unit, and all of them plausible."""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.odd_times import (
    EARLIEST_MS,
    NAMES,
    UNITS,
    Unit,
    UnitSeen,
    date_format,
    describe_odd,
    latest_ms,
    numbers_of,
    places_of_units,
)
from data_pipelines.raw.row_checker import RowChecker
from data_pipelines.raw.times import (
    LATEST_MS,
    UNPARSABLE_MS,
    TimeOptions,
    to_iso,
    to_milliseconds,
)

_UNPARSABLE = "unparsable time"

_DAY_MS = 86_400_000
_DAY_OF_1970 = 25_569
"""1970-01-01 in days since the end of 1899, as spreadsheets count them."""

_DATE = re.compile(
    r"(?P<first>\d{1,2})(?P<sign>[./-])(?P<second>\d{1,2})(?P=sign)(?P<year>\d{4}|\d{2})"
    r"(?P<clock> \d{1,2}:\d{2}(?P<seconds>:\d{2})?)?"
)
"""A date as people write it, perhaps with a time of day."""


class _Reason(NamedTuple):
    """Why a time cannot be used.

    Attributes:
      name: A few words.
      holds: Maps milliseconds to those affected; bool [n].
      expected: What was expected.
      is_odd: Whether --allow_odd_times accepts it.
    """

    name: str
    holds: Callable[[np.ndarray], np.ndarray]
    expected: str
    is_odd: bool = False


def usable_times(
    checker: RowChecker, column: str, options: TimeOptions, seen: UnitSeen
) -> np.ndarray:
    """int64 [n], milliseconds of the rows with a usable time; the other rows are dropped.

    Args:
      checker: The rows.
      column: The column of times.
      options: How to read it.
      seen: The unit of the times so far; records that of these.

    Raises:
      DataError: A row is bad and the action is `error`. Whatever the action: times have an
        unexpected unit, or several, or are too coarse; or they are dates written as numbers.
    """
    unit = _unit_of(checker, column, options, seen)
    times_ms = to_milliseconds(checker.frame[column], unit, options.format)
    for reason in _reasons(options, unit):
        bad = reason.holds(times_ms)
        remark = ""
        if reason.is_odd and bad.any():
            index = int(np.argmax(bad))
            moment = describe_odd(int(times_ms[index]))
            remark = f", which is {moment}; " + (
                _of_spreadsheet(str(checker.frame[column][index]))
                or "--allow_odd_times reads such times too"
            )
        elif bad.any() and reason.name == _UNPARSABLE and options.format is None:
            remark = _format_of(str(checker.frame[column][int(np.argmax(bad))]))
        checker.drop(bad, column, reason.name, reason.expected, remark)
        times_ms = times_ms[~bad]
    return times_ms


def _reasons(options: TimeOptions, unit: Unit) -> list[_Reason]:
    number = "a number" if options.unit == "auto" else f"a number ({unit})"
    written = f"{number} or ISO 8601" if options.format is None else repr(options.format)
    reasons = [
        _Reason(_UNPARSABLE, lambda times: times == UNPARSABLE_MS, written),
        _Reason("negative time", lambda times: times < 0, "a time since 1970"),
        _Reason(
            "time out of range",
            lambda times: times > LATEST_MS,
            f"a time before the year 10000 (numbers are read as {unit}: is --time_unit right?)",
        ),
    ]
    if not options.allow_odd:
        latest, window = latest_ms(), "a time from 1995 to now"
        reasons += [
            _Reason("time before 1995", lambda times: times < EARLIEST_MS, window, True),
            _Reason("time in the future", lambda times: times > latest, window, True),
        ]
    return reasons


def _of_spreadsheet(text: str) -> str:
    """What to do about a date as spreadsheets store it, in days; nothing for other times."""
    try:
        milliseconds = round((float(text) - _DAY_OF_1970) * _DAY_MS)
    except (ValueError, OverflowError):
        return ""
    if not EARLIEST_MS <= milliseconds <= latest_ms():
        return ""
    return (
        f"spreadsheets count days so, then it is {to_iso(milliseconds // 1000 * 1000)}; write the "
        "column as text, such as 2024-05-31 18:00"
    )


def _format_of(text: str) -> str:
    """Which --time_format reads a date such as 09/13/2020 or 13.09.2020 12:26; nothing for others.

    Days and months up to 12 look the same: with slashes the month usually comes first.
    """
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return ""
    first, sign, second, year = match["first"], match["sign"], match["second"], match["year"]
    month_first = sign == "/" and int(first) <= 12
    days = sign.join("md" if month_first else "dm").replace("m", "%m").replace("d", "%d")
    clock = "" if match["clock"] is None else " %H:%M" + (":%S" if match["seconds"] else "")
    form = f"{days}{sign}{'%Y' if len(year) == 4 else '%y'}{clock}"
    other = ""
    if month_first and int(second) <= 12:
        other = f", or with %d{sign}%m if days come first"
    return f"; --time_format='{form}' reads such times{other}"


def _unit_of(checker: RowChecker, column: str, options: TimeOptions, seen: UnitSeen) -> Unit:
    """The unit of the numbers in a column of times; any unit if there are none."""
    values = checker.frame[column]
    given: Unit = "s" if options.unit == "auto" else options.unit
    number_n = None if options.format is not None else numbers_of(values)
    if number_n is None or not np.isfinite(number_n).any():
        return given
    if options.allow_odd:
        index = int(np.argmax(np.isfinite(number_n)))
        if options.unit == "auto":
            raise DataError(
                f"{checker.where(index, column)}: got {checker.shown(index, column)}; with "
                "--allow_odd_times numbers need a unit: --time_unit=s, ms, us or ns"
            )
        seen.require(given, checker.where(index, column))
        return given
    _require_exact(checker, column)
    unit_n = places_of_units(number_n)
    # The given unit first: if another one occurs beside it, the log has two units.
    units = np.unique(unit_n[unit_n >= 0]).tolist()
    for unit_index in sorted(units, key=lambda index: UNITS[index] != given):
        unit, index = UNITS[unit_index], int(np.argmax(unit_n == unit_index))
        where, shown = checker.where(index, column), checker.shown(index, column)
        if options.unit not in ("auto", unit) and seen.unit is None:
            moment = int(to_milliseconds(values[index : index + 1], unit)[0])
            raise DataError(
                f"{where}: expected {NAMES[given]} since 1970 (--time_unit={given}), got {shown}: "
                f"that is {to_iso(moment)} in {NAMES[unit]}, which --time_unit={unit} reads"
            )
        seen.require(unit, f"{where}: {shown}")
    found = date_format(np.where(unit_n < 0, number_n, np.nan))
    if found is not None:
        index, form = found
        where, shown = checker.where(index, column), checker.shown(index, column)
        raise DataError(
            f"{where}: {shown} looks like a date that is written as a number; "
            f"--time_format={form} reads it"
        )
    return given if options.unit != "auto" or seen.unit is None else seen.unit


def _require_exact(checker: RowChecker, column: str) -> None:
    dtype = checker.frame[column].dtype
    if dtype in (pl.Float32, pl.Float16):
        raise DataError(
            f"{checker.source}: column {column!r}: {dtype} has steps of 128 seconds at the seconds "
            "of these years, so sessions and the order of events are lost; write int64 or float64 "
            "(--allow_odd_times reads it as it is)"
        )
