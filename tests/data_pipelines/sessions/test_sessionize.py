import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.sessions.sessionize import by_column, by_gap, collapse_repeats
from tests.data_pipelines.logs import codes_log

LOGS = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 3), st.integers(0, 8).map(lambda t: t * 60_000),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=30,
)  # fmt: skip


def as_lists(events):
    """[(user, [(item, time), ...] of a session), ...]"""
    sessions = []
    rows = zip(events.users, events.items, events.times_ms, events.starts_session, strict=True)
    for user, item, time, starts in rows:
        if starts:
            sessions.append((int(user), []))
        assert sessions[-1][0] == user
        sessions[-1][1].append((int(item), int(time)))
    return sessions


@given(LOGS, st.integers(0, 3))
def test_gaps_as_in_a_plain_loop(rows, gap_minutes):
    expected = []
    for user in sorted({row[0] for row in rows}):
        last = None
        for _, item, time, _ in sorted((r for r in rows if r[0] == user), key=lambda r: r[2]):
            if last is None or time - last > gap_minutes * 60_000:
                expected.append((user, []))
            expected[-1][1].append((item, time))
            last = time
    assert as_lists(by_gap(codes_log(*zip(*rows, strict=True)), gap_minutes)) == expected


@given(LOGS)
def test_columns_as_in_a_plain_loop(rows):
    expected = []
    for user in sorted({row[0] for row in rows}):
        sessions = {}
        for _, item, time, session in sorted((r for r in rows if r[0] == user), key=lambda r: r[2]):
            sessions.setdefault(session, []).append((item, time))
        # dicts keep the order in which their keys came: that of the first events.
        expected += [(user, session) for session in sessions.values()]
    assert as_lists(by_column(codes_log(*zip(*rows, strict=True)))) == expected


def test_equal_times_keep_the_order_of_the_input():
    log = codes_log([0] * 5, [4, 2, 3, 1, 0], [7, 7, 7, 7, 7])
    assert as_lists(by_gap(log, 30)) == [(0, [(4, 7), (2, 7), (3, 7), (1, 7), (0, 7)])]


def test_interleaved_sessions_stay_together():
    log = codes_log([0] * 4, [0, 1, 2, 3], [1, 2, 3, 4], sessions=[5, 2, 5, 2])
    assert as_lists(by_column(log)) == [(0, [(0, 1), (2, 3)]), (0, [(1, 2), (3, 4)])]


def test_a_session_id_counts_within_its_user():
    log = codes_log([0, 1], [0, 1], [1, 2], sessions=[0, 0])
    assert len(as_lists(by_column(log))) == 2


def test_a_gap_of_exactly_the_limit_does_not_start_a_session():
    log = codes_log([0, 0, 0], [0, 0, 0], [0, 60_000, 120_001])
    assert by_gap(log, 1).starts_session.tolist() == [True, False, True]


@given(LOGS)
def test_collapse_leaves_one_of_each_run(rows):
    events = by_column(codes_log(*zip(*rows, strict=True)))
    expected = [
        (user, [event for k, event in enumerate(s) if not k or event[0] != s[k - 1][0]])
        for user, s in as_lists(events)
    ]
    assert as_lists(collapse_repeats(events)) == expected


@given(LOGS, st.data())
def test_keep_leaves_the_sessions_that_have_events(rows, data):
    events = by_column(codes_log(*zip(*rows, strict=True)))
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    np.testing.assert_array_equal(
        events.keep(kept).sessions, np.unique(events.sessions[kept], return_inverse=True)[1]
    )


def test_a_log_without_session_ids_has_no_sessions_by_column():
    with pytest.raises(ValueError, match="sessions=None"):
        by_column(codes_log([0], [0], [0]))


def test_sessions_in_order_of_the_first_event_that_is_left():
    # Session 0 begins at time 1 with item 9; without it, behind session 1.
    log = codes_log([0, 0, 0, 0], [9, 5, 6, 7], [1, 2, 3, 4], [0, 1, 0, 1])
    events = by_column(log)
    assert as_lists(events.in_order()) == [(0, [(9, 1), (6, 3)]), (0, [(5, 2), (7, 4)])]
    left = events.keep(events.items != 9)
    assert as_lists(left.in_order()) == [(0, [(5, 2), (7, 4)]), (0, [(6, 3)])]
