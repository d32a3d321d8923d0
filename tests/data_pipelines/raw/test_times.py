import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.raw.times import (
    LATEST_MS,
    UNPARSABLE_MS,
    parse_iso,
    parse_time,
    to_iso,
    to_milliseconds,
)


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        ("12", 12_000),
        ("12.5", 12_500),
        ("1e3", 1_000_000),
        ("1.001", 1_001),
        ("1445617130.289", 1_445_617_130_289),
        ("1.0009", 1_000),
        ("-3", -3_000),
        ("1970-01-02", 86_400_000),
        ("1970-01-01 00:00:01", 1_000),
        ("1970-01-01T02:00:00.250+02:00", 250),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01 00:00:00 UTC", 0),
        (" 1970-01-01T00:00:01.5UTC ", 1_500),
        ("1970-01-02 GMT", 86_400_000),
        ("1970-01-01T00:00:01+00:00 UTC", UNPARSABLE_MS),
        ("1970-01-01 24:00:00 UTC", UNPARSABLE_MS),
        ("1970-02-30 00:00:00", UNPARSABLE_MS),
        ("UTC", UNPARSABLE_MS),
        ("nan", UNPARSABLE_MS),
        ("noon", UNPARSABLE_MS),
        ("1970-13-01", UNPARSABLE_MS),
    ],
)
def test_text_in_seconds(value, milliseconds):
    # With one of each other kind beside it, the value's own parser must be found.
    column = pl.Series(["1", value, "0.5", "1970-01-01"])
    expected = [1_000, milliseconds, 500, 0]
    np.testing.assert_array_equal(to_milliseconds(column, "s"), expected)


@pytest.mark.parametrize("value", ["99999999999999999999", "9223372036854775807", "1e300", "inf"])
@pytest.mark.parametrize("unit", ["s", "ms"])
def test_too_large_is_beyond_the_latest_time_and_does_not_overflow(value, unit):
    assert to_milliseconds(pl.Series([value]), unit)[0] > LATEST_MS


@given(
    st.datetimes(datetime.datetime(1000, 1, 1), datetime.datetime(9999, 12, 30)),
    st.sampled_from(["T", " "]),
    st.sampled_from(["auto", "seconds", "milliseconds", "microseconds", "minutes"]),
    st.sampled_from(["", "Z", " UTC", "UTC", " GMT", "+00:00", "-03:30", "+14:00", "+0100", " Z"]),
)
def test_many_at_once_are_read_as_one_by_one(moment, separator, precision, zone):
    texts = [moment.isoformat(separator, precision) + zone, f" {moment.date()} "]
    one_by_one = [parse_iso(text) for text in texts]
    expected = [UNPARSABLE_MS if time is None else time for time in one_by_one]
    np.testing.assert_array_equal(to_milliseconds(pl.Series(texts), "s"), expected)


@pytest.mark.parametrize(
    ("text", "form", "moment"),
    [
        ("09/13/2020", "%m/%d/%Y", "2020-09-13 00:00:00"),
        ("13.09.2020", "%d.%m.%Y", "2020-09-13 00:00:00"),
        (" 13.09.2020 12:26 ", "%d.%m.%Y %H:%M", "2020-09-13 12:26:00"),
        ("9/3/2020 1:05:07 PM", "%m/%d/%Y %I:%M:%S %p", "2020-09-03 13:05:07"),
        ("13/Sep/2020:12:26:40 +0200", "%d/%b/%Y:%H:%M:%S %z", "2020-09-13 10:26:40"),
        ("2020-09-13 12", "%Y-%m-%d %H", "2020-09-13 12:00:00"),
        ("13.09.20 12:26:40.250", "%d.%m.%y %H:%M:%S.%f", "2020-09-13 12:26:40.250000"),
        ("2020-09-13 12:26:40 UTC", "%Y-%m-%d %H:%M:%S UTC", "2020-09-13 12:26:40"),
        ("20200913T122640Z", "%Y%m%dT%H%M%SZ", "2020-09-13 12:26:40"),
    ],
)
def test_text_by_a_format(text, form, moment):
    times = to_milliseconds(pl.Series([text, "noon", ""]), "s", form)
    assert to_iso(times[0]) == moment
    assert times[1:].tolist() == [UNPARSABLE_MS] * 2


def test_numbers_by_a_format():
    whole = pl.Series([20_200_913, 20_201_399, 5])
    for column in (whole, whole.cast(pl.Float64), whole.cast(pl.Decimal(20, 3))):
        times = to_milliseconds(column, "s", "%Y%m%d")
        assert to_iso(times[0]) == "2020-09-13 00:00:00"
        assert times[1:].tolist() == [UNPARSABLE_MS] * 2
    floats = pl.Series([20_200_913.5, float("nan"), float("inf"), None])
    assert to_milliseconds(floats, "s", "%Y%m%d").tolist() == [UNPARSABLE_MS] * 4
    dates = pl.Series([datetime.date(2020, 9, 13)])
    assert to_milliseconds(dates, "s", "%d")[0] == 1_599_955_200_000


@pytest.mark.parametrize("unit, value", [("us", 1_500_999), ("ns", 1_500_999_999)])
def test_smaller_units_are_rounded_down(unit, value):
    for column in (pl.Series([value]), pl.Series([float(value)]), pl.Series([str(value)])):
        assert to_milliseconds(column, unit).tolist() == [1_500]
    assert to_milliseconds(pl.Series([-1]), unit).tolist() == [-1]


def test_typed_columns_agree_with_text():
    for column in (
        pl.Series([0, 1_500]),
        pl.Series([0, 1_500], dtype=pl.UInt64),
        pl.Series([0.0, 1_500.0], dtype=pl.Float32),
        pl.Series([0, 1_500]).cast(pl.Decimal(20, 3)),
        pl.Series(["0", "1500"], dtype=pl.Categorical),
        pl.Series([0, 1_500]).cast(pl.Datetime("ms")),
        pl.Series([0, 1_500_000]).cast(pl.Datetime("us", "Europe/Berlin")),
    ):
        np.testing.assert_array_equal(to_milliseconds(column, "ms"), [0, 1_500])


def test_a_column_of_something_else_is_no_time():
    assert to_milliseconds(pl.Series([True]), "s")[0] == UNPARSABLE_MS


def test_parse_time_takes_seconds_and_dates():
    assert parse_time("1445617130") == 1_445_617_130_000
    assert parse_time("2015-10-23T16:18:50") == 1_445_617_130_000


@pytest.mark.parametrize("text", ["", "soon", "-1", "1e300", "nan", "1960-01-01"])
def test_parse_time_refuses(text):
    with pytest.raises(ValueError, match="must be seconds since 1970 or an ISO date"):
        parse_time(text)
