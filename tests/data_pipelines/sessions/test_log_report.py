import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.raw.ids import facts_of
from data_pipelines.raw.log_facts import LogFacts
from data_pipelines.sessions.log_report import LogReport, identical_rows
from data_pipelines.sessions.vocabulary import Vocabulary
from tests.data_pipelines.logs import codes_log

VOCABULARY = Vocabulary(
    pl.Series(["10", "20"]), np.ones(2, np.int64), np.ones(2, np.int64), "int64"
)


def facts():
    found = LogFacts()
    found.add_ids("user_id", facts_of(pl.Series(["7", "8"]), is_text=False))
    found.unit.require("ms", "somewhere")
    return found


def test_the_report():
    report = LogReport(VOCABULARY)
    lengths = np.array([1, 2, 2, 5], np.int32)
    # Of ten events one has an unknown item, and the second user has seven.
    items = np.array([2, 2, 2, 3, 1, 2, 2, 2, 2, 2], np.int32)
    times = np.arange(10) + 1_500_000_000
    report.add(["7", "8"], np.array([2, 2]), lengths, items, times)
    assert report.result(facts(), rows=12, identical=1) == {
        "from": "2017-07-14 02:40:00",
        "to": "2017-07-14 02:40:09",
        "time_unit": "ms",
        "rows": 12,
        "identical_rows": 1,
        "sessions_per_user": {"mean": 2.0, "median": 2.0},
        "events_per_session": {"mean": 2.5, "median": 2.0},
        "frequent_users": [{"id": 8, "events": 7}, {"id": 7, "events": 3}],
        "frequent_items": [{"id": 10, "events": 8}],
    }


@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=5), min_size=1, max_size=40))
def test_users_may_arrive_in_pieces(users):
    """Sessions of each user, by their lengths; user ids are sorted, as in a log."""
    names = [f"{place:03d}" for place in range(len(users))]

    def of(pieces):
        report = LogReport(VOCABULARY)
        for piece in pieces:
            lengths = np.array([length for user in piece for length in users[user]], np.int32)
            total = int(lengths.sum())
            report.add(
                [names[user] for user in piece],
                np.array([len(users[user]) for user in piece]),
                lengths,
                np.full(total, 2 + piece[0] % 2, np.int32),
                np.arange(total) + piece[0],
            )
        return report.result(LogFacts(), rows=1, identical=0)

    whole, apart = of([list(range(len(users)))]), of([[user] for user in range(len(users))])
    lengths = [length for user in users for length in user]
    assert whole["events_per_session"] == apart["events_per_session"]
    assert whole["events_per_session"]["median"] == np.median(lengths)
    assert whole["sessions_per_user"]["mean"] == pytest.approx(len(lengths) / len(users), abs=0.01)
    assert whole["frequent_users"] == apart["frequent_users"]
    expected = {
        name: sum(user)
        for name, user in zip(names, users, strict=True)
        if sum(user) > sum(lengths) / 10
    }
    assert {one["id"]: one["events"] for one in whole["frequent_users"]} == expected


def test_identical_rows():
    same = {"users": [0, 0, 0, 1], "items": [1, 1, 1, 1], "times_ms": [5, 5, 6, 5]}
    assert identical_rows(codes_log(**same)) == 1
    assert identical_rows(codes_log(**same, sessions=[0, 0, 0, 0])) == 1
    assert identical_rows(codes_log(**same, sessions=[0, 1, 0, 0])) == 0
    assert identical_rows(codes_log([3] * 9, [4] * 9, [5] * 9)) == 8
