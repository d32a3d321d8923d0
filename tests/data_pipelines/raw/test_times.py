import numpy as np
import polars as pl
import pytest

from data_pipelines.raw.times import LATEST_MS, UNPARSABLE_MS, parse_time, to_milliseconds


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
        ("nan", UNPARSABLE_MS),
        ("noon", UNPARSABLE_MS),
        ("1970-13-01", UNPARSABLE_MS),
    ],
)
def test_text_in_seconds(value, milliseconds):
    # One of each kind beside it: the value's own parser must be found.
    column = pl.Series(["1", value, "0.5", "1970-01-01"])
    expected = [1_000, milliseconds, 500, 0]
    np.testing.assert_array_equal(to_milliseconds(column, "s"), expected)


@pytest.mark.parametrize("value", ["99999999999999999999", "9223372036854775807", "1e300", "inf"])
@pytest.mark.parametrize("unit", ["s", "ms"])
def test_too_large_is_beyond_the_latest_time_and_does_not_overflow(value, unit):
    assert to_milliseconds(pl.Series([value]), unit)[0] > LATEST_MS


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
