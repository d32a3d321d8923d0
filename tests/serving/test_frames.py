"""Tables of events of any data frame library, and times in any form."""

import datetime

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from hiertcn_jax.serving.frames import Names, events_by_user, seconds_of

ROWS = {"user_id": ["b", "a", "b"], "item_id": [3, 4, 5], "time": [20, 5, 10]}


@pytest.mark.parametrize("make", [pl.DataFrame, pa.table], ids=["polars", "pyarrow"])
def test_events_come_by_user_and_in_order_of_time(make):
    found = events_by_user(make(ROWS), Names())
    assert list(found) == ["b", "a"]
    assert found["b"].item_ids == [5, 3]
    assert found["b"].times.tolist() == [10, 20]
    assert found["a"].item_ids == [4]


def test_equal_times_stay_in_the_order_of_the_rows():
    rows = {"user_id": [1, 1, 1], "item_id": [7, 6, 5], "time": [3, 3, 3]}
    assert events_by_user(pl.DataFrame(rows), Names())[1].item_ids == [7, 6, 5]


def test_columns_have_the_names_of_the_log():
    frame = pl.DataFrame({"who": [1], "what": [2], "when": [datetime.datetime(1970, 1, 1, 0, 1)]})
    found = events_by_user(frame, Names("who", "what", "when"))
    assert found[1].times.tolist() == [60]


def test_times_in_any_form():
    zoned = datetime.datetime(1970, 1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
    times = [7, 7.9, np.int32(8), np.datetime64("1970-01-01T00:00:09"), zoned]
    assert seconds_of(times).tolist() == [7, 7, 8, 9, 0]
    assert seconds_of(5).tolist() == [5]


@pytest.mark.parametrize("time", ["5", None, float("nan"), 1e300, True, datetime.date(2020, 1, 1)])
def test_what_is_no_time(time):
    with pytest.raises(ValueError, match=r"when=.*must be seconds"):
        seconds_of([time], "when")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"user_id": [1], "item": [1], "time": [1]}), "no column 'item_id' for the"),
        (pl.DataFrame(ROWS | {"item_id": [1, None, 2]}), "row 1, column 'item_id': is null"),
        (pl.DataFrame(ROWS | {"time": [1, 2, "x"]}, strict=False), "must be seconds|is null"),
    ],
)
def test_tables_that_are_no_events(frame, message):
    with pytest.raises(ValueError, match=message):
        events_by_user(frame, Names())
