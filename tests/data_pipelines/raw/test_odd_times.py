"""Logs whose times have an unexpected unit, or are no times."""

import datetime
import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import DataError
from data_pipelines.raw import delimited
from data_pipelines.raw.columns import Columns
from data_pipelines.raw.drops import Drop
from data_pipelines.raw.ingest import ReadOptions
from data_pipelines.raw.odd_times import EARLIEST_MS, UNITS, latest_ms, places_of_units
from data_pipelines.raw.readers import read_files
from data_pipelines.raw.times import PER_SECOND, TimeOptions
from tests.data_pipelines.logs import write_csv

SECONDS = 1_506_826_800
MOMENT = "2017-10-01 03:00:00"
PER = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def options(unit="auto", form=None, allow_odd=False, **changes):
    return ReadOptions(Columns(times=TimeOptions(unit, form, allow_odd)), **changes)


def log_of(path, *times):
    """A log with exactly these times, as text or numbers by the name of the file."""
    if path.suffix == ".parquet":
        frame = {"user_id": "u", "item_id": "i", "timestamp": list(times)}
        pl.DataFrame(frame).write_parquet(path)
        return str(path)
    return write_csv(path, *(f"u,i,{time}" for time in times))


def refusal(paths, read=None):
    with pytest.raises(DataError) as caught:
        read_files(paths, read or options())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(st.integers(EARLIEST_MS, latest_ms() - 1), st.sampled_from(UNITS))
def test_from_1995_to_now_a_number_is_of_one_unit(milliseconds, unit):
    number = milliseconds * PER_SECOND[unit] // 1000
    (place,) = places_of_units(pl.Series([float(number)]).to_numpy())
    assert UNITS[place] == unit


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
@pytest.mark.parametrize("unit", UNITS)
def test_auto_finds_the_unit_and_another_is_refused(tmp_path, name, unit):
    path = log_of(tmp_path / name, SECONDS * PER[unit], (SECONDS + 1) * PER[unit])
    for asked in ("auto", unit):
        assert read_files([path], options(asked))[0].times_ms.tolist() == [
            SECONDS * 1000,
            SECONDS * 1000 + 1000,
        ]
    for asked in set(UNITS) - {unit}:
        for on_bad_row in ("error", "skip"):
            said = refusal([path], options(asked, on_bad_row=on_bad_row))
            assert re.search(r"row 1( \(line 2\))?, column 'timestamp': expected \w+ since", said)
            assert f"that is {MOMENT} in " in said
            assert said.endswith(f"which --time_unit={unit} reads")


@pytest.mark.parametrize("asked", ["auto", "s", "ms"])
@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
def test_mixed_units_are_refused_wherever_they_meet(tmp_path, monkeypatch, asked, on_bad_row):
    read = options(asked, on_bad_row=on_bad_row)
    times = [SECONDS, SECONDS + 1, SECONDS * 1000]
    one = log_of(tmp_path / "a.csv", *times)
    said = refusal([one], read)
    assert re.search(
        r"a.csv: row [13] \(line \d\), column 'timestamp': '\d+' counts (milli)?seconds by its "
        r"size, but .*a.csv: row [13] .* counts (milli)?seconds; bring the times of the log to one",
        said,
    )
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 45)
    assert "milliseconds" in refusal([one], read)
    apart = [log_of(tmp_path / "b.csv", *times[:2]), log_of(tmp_path / "c.csv", times[2])]
    if asked != "ms":
        said = refusal(apart, read)
        assert said.startswith(f"{apart[1]}: row 1") and f"but {apart[0]}: row 1" in said


DATES = {
    "20180301": ("%Y%m%d", "2018-03-01 00:00:00"),
    "2018030117": ("%Y%m%d%H", "2018-03-01 17:00:00"),
    "201803011726": ("%Y%m%d%H%M", "2018-03-01 17:26:00"),
    "20200913122640": ("%Y%m%d%H%M%S", "2020-09-13 12:26:40"),
}


@pytest.mark.parametrize("text", DATES)
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_date_as_a_number_is_named_with_the_flag_that_reads_it(tmp_path, text, name):
    form, moment = DATES[text]
    path = log_of(tmp_path / name, int(text), int(text))
    for asked in ("auto", *UNITS):
        for on_bad_row in ("error", "skip"):
            said = refusal([path], options(asked, on_bad_row=on_bad_row))
            assert said.endswith(
                f"{text if name == 'a.parquet' else repr(text)} looks like a date that is written "
                f"as a number; --time_format={form} reads it"
            )
    log, _ = read_files([path], options(form=form))
    assert log.times_ms.tolist() == [milliseconds_of(moment)] * 2


def milliseconds_of(moment):
    parsed = datetime.datetime.fromisoformat(moment).replace(tzinfo=datetime.UTC)
    return int(parsed.timestamp() * 1000)


@pytest.mark.parametrize(
    ("time", "reason", "meaning"),
    [
        ("100", "time before 1995", "1970-01-01 00:01:40"),
        ("0", "time before 1995", "1970-01-01 00:00:00"),
        ("788918399", "time before 1995", "1994-12-31 23:59:59"),
        ("1994-12-31", "time before 1995", "1994-12-31 00:00:00"),
        ("4102444800", "time in the future", r"2100-01-01 00:00:00, while it is 20\d\d-.+"),
        ("2100-01-01T00:00:00Z", "time in the future", "2100-01-01 00:00:00, while it is .+"),
        ("20201399", "time before 1995", "1970-08-22 .+"),
    ],
)
def test_times_that_no_log_has_are_bad_rows(tmp_path, time, reason, meaning):
    path = log_of(tmp_path / "a.csv", SECONDS, time, MOMENT)
    assert re.search(
        rf"row 2 \(line 3\), column 'timestamp': expected a time from 1995 to now, got '{time}', "
        rf"which is {meaning}; --allow_odd_times reads such times too$",
        refusal([path]),
    )
    log, drops = read_files([path], options(on_bad_row="skip"))
    assert log.times_ms.tolist() == [SECONDS * 1000] * 2
    assert drops == [Drop(reason, 1)]
    odd, drops = read_files([path], options("s", allow_odd=True))
    assert len(odd) == 3 and drops == []


@pytest.mark.parametrize(
    ("days", "moment"),
    [
        ("45443.75", "2024-05-31 18:00:00"),
        ("34700", "1995-01-01"),
        ("40000", "2009-07-06"),
    ],
)
def test_the_days_of_a_spreadsheet_are_named(tmp_path, days, moment):
    """--allow_odd_times would read them as seconds of 1970."""
    said = refusal([log_of(tmp_path / "a.csv", days)])
    assert f"; spreadsheets count days so, then it is {moment}" in said
    assert said.endswith("; write the column as text, such as 2024-05-31 18:00")


def test_tomorrow_is_not_the_future_yet(tmp_path):
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=23)
    path = log_of(tmp_path / "a.csv", int(soon.timestamp()))
    assert len(read_files([path], options())[0]) == 1


def test_odd_times_need_a_unit_where_they_are_numbers(tmp_path):
    numbers = log_of(tmp_path / "a.csv", 100, 160)
    assert refusal([numbers], options(allow_odd=True)).endswith(
        "row 1 (line 2), column 'timestamp': got '100'; with --allow_odd_times numbers need a "
        "unit: --time_unit=s, ms, us or ns"
    )
    dates = log_of(tmp_path / "b.csv", "1815-06-18", "1969-12-31")
    assert "expected a time since 1970" in refusal([dates], options(allow_odd=True))
    dates = log_of(tmp_path / "c.csv", "1985-06-18", "2050-12-31")
    assert len(read_files([dates], options(allow_odd=True))[0]) == 2


@pytest.mark.parametrize("unit", ["auto", "s"])
def test_32_bits_do_not_hold_a_time(tmp_path, unit):
    path = str(tmp_path / "a.parquet")
    frame = pl.DataFrame({"user_id": "u", "item_id": "i", "timestamp": [float(SECONDS)]})
    frame.with_columns(pl.col("timestamp").cast(pl.Float32)).write_parquet(path)
    said = refusal([path], options(unit))
    assert "a.parquet: column 'timestamp': Float32 has steps of 128 seconds at the seconds" in said
    assert len(read_files([path], options("s", allow_odd=True))[0]) == 1
    frame.write_parquet(path)
    assert len(read_files([path], options(unit))[0]) == 1


def test_nulls_and_nonsense_have_no_unit(tmp_path):
    path = log_of(tmp_path / "a.csv", "x", "nan", "inf", "", "1e300", SECONDS * 1000)
    log, drops = read_files([path], options(on_bad_row="skip"))
    assert log.times_ms.tolist() == [SECONDS * 1000]
    assert sum(drop.events for drop in drops) == 5


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("09/13/2020", "; --time_format='%m/%d/%Y' reads such times"),
        ("9/3/20 7:05", "'%m/%d/%y %H:%M' reads such times, or with %d/%m if days come first"),
        ("13/09/2020", "; --time_format='%d/%m/%Y' reads such times"),
        ("13.09.2020 12:26:40", "; --time_format='%d.%m.%Y %H:%M:%S' reads such times"),
        ("2020-13-01", "; --on_bad_row=skip leaves such rows out"),
    ],
)
def test_a_date_in_another_form_is_refused_with_the_format_that_reads_it(tmp_path, text, way):
    path = write_csv(tmp_path / "a.csv", f"u,i,{text}")
    with pytest.raises(DataError) as caught:
        read_files([path], ReadOptions())
    assert str(caught.value).endswith(way)
    form = way.partition("'")[2].partition("'")[0]
    if form:
        times = TimeOptions(format=form)
        log, _ = read_files([path], ReadOptions(Columns(times=times)))
        assert log.times_ms[0] > 1_590_000_000_000
