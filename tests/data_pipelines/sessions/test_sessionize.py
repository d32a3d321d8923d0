import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.sessions.overlaps import Merged
from data_pipelines.sessions.sessionize import by_column, by_gap, collapse_repeats, to_sessions
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


@given(LOGS, st.sampled_from([None, 0, 1, 3]))
def test_columns_as_in_a_plain_loop(rows, gap_minutes):
    """Sessions of a user are merged as long as any two share more than a moment."""
    expected, overlapping = [], 0
    for user in sorted({row[0] for row in rows}):
        own = sorted((r for r in rows if r[0] == user), key=lambda r: r[2])
        sessions = []
        for session in range(3):
            last = None
            for place, (_, item, time, _) in enumerate(own):
                if own[place][3] != session:
                    continue
                far = gap_minutes is not None and last and time - last[-1][1] > gap_minutes * 60_000
                if last is None or far:
                    last = []
                    sessions.append([last, 1])
                last.append((item, time, place))
        while joined := next(
            (
                (a, b)
                for a, b in itertools.combinations(sessions, 2)
                if a[0][0][1] < b[0][-1][1] and b[0][0][1] < a[0][-1][1]
            ),
            None,
        ):
            one, other = joined
            sessions = [session for session in sessions if session not in joined]
            both = sorted(one[0] + other[0], key=lambda event: event[2])
            sessions.append([both, one[1] + other[1]])
        sessions.sort(key=lambda session: (session[0][0][1], session[0][-1][1], session[0][0][2]))
        expected += [(user, [event[:2] for event in session]) for session, _ in sessions]
        overlapping += sum(number for _, number in sessions if number > 1)
    events, merged = by_column(codes_log(*zip(*rows, strict=True)), gap_minutes)
    assert as_lists(events) == expected
    assert merged.sessions == overlapping


@given(LOGS, st.sampled_from([None, 1]), st.booleans(), st.booleans(), st.data())
def test_no_context_contains_later_events(rows, gap_minutes, by_ids, collapses, data):
    users, items, times, sessions = zip(*rows, strict=True)
    log = codes_log(users, items, times, sessions if by_ids else None)
    events = to_sessions(log, gap_minutes, collapses).events
    kept = data.draw(st.lists(st.booleans(), min_size=len(events), max_size=len(events)))
    for left in (events, events.keep(np.array(kept, bool))):
        same_user = np.diff(left.users) == 0
        assert (np.diff(left.times_ms)[same_user] >= 0).all()
        assert (np.diff(left.users) >= 0).all()


def test_equal_times_keep_the_order_of_the_input():
    log = codes_log([0] * 5, [4, 2, 3, 1, 0], [7, 7, 7, 7, 7])
    assert as_lists(by_gap(log, 30)) == [(0, [(4, 7), (2, 7), (3, 7), (1, 7), (0, 7)])]


def sessions_of(*rows):
    """For one user, from (session, item, time): the items of each session, and merge counts."""
    sessions, items, times = zip(*rows, strict=True)
    events, merged = by_column(codes_log([0] * len(rows), items, times, sessions))
    return [[item for item, _ in session] for _, session in as_lists(events)], merged


def test_sessions_that_overlap_become_one_in_order_of_time():
    # Two tabs: 0 at 100 and 2 at 220 in one, 1 at 160 in the other.
    found, merged = sessions_of((0, 0, 100), (1, 1, 160), (0, 2, 220), (2, 3, 300))
    assert found == [[0, 1, 2], [3]]
    assert merged == Merged(users=1, sessions=2, into=1, events=3)


def test_the_running_end_covers_all_earlier_sessions():
    # Session 1 is within session 0; session 2 starts after its end, but within session 0.
    found, merged = sessions_of((0, 0, 0), (1, 1, 1), (1, 2, 2), (2, 3, 5), (0, 4, 9), (2, 5, 20))
    assert found == [[0, 1, 2, 3, 4, 5]]
    assert merged == Merged(users=1, sessions=3, into=1, events=6)


def test_a_session_that_starts_at_the_running_end_stays_its_own():
    assert sessions_of((0, 0, 1), (0, 1, 5), (1, 2, 5), (1, 3, 7)) == ([[0, 1], [2, 3]], Merged())


@pytest.mark.parametrize("first, second", [(0, 1), (1, 0)])
def test_sessions_of_a_single_moment(first, second):
    """An invoice: all its lines have the same time. Two at the same moment stay two."""
    rows = [(first, 0, 5), (second, 1, 5), (first, 2, 5), (second, 3, 5)]
    assert sessions_of(*rows) == ([[0, 2], [1, 3]], Merged())


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_moment_at_the_start_of_a_session_comes_before_it_and_one_within_it_is_merged(order):
    rows = [(0, 0, 5), (0, 1, 9), (1, 2, 5)]
    assert sessions_of(*(rows[place] for place in order)) == ([[2], [0, 1]], Merged())
    rows[2] = (1, 2, 6)
    found, merged = sessions_of(*(rows[place] for place in order))
    assert (found, merged.sessions) == ([[0, 2, 1]], 2)


def test_a_gap_splits_a_reused_id():
    hour = 3_600_000
    log = codes_log([0] * 4, [0, 1, 2, 3], [0, hour, 24 * hour, 25 * hour], [7, 3, 7, 3])
    events, merged = by_column(log)
    assert (len(as_lists(events)), merged.sessions) == (1, 2)
    events, merged = by_column(log, gap_minutes=30)
    assert as_lists(events) == [(0, [(k, time)]) for k, time in enumerate(log.times_ms.tolist())]
    assert merged == Merged()
    # The gap counts within an id; what the user does elsewhere meanwhile does not shorten it.
    assert len(as_lists(by_column(log, gap_minutes=23 * 60)[0])) == 4
    assert len(as_lists(by_column(log, gap_minutes=24 * 60)[0])) == 1


def test_a_session_id_counts_within_its_user():
    log = codes_log([0, 1], [0, 1], [1, 2], sessions=[0, 0])
    assert len(as_lists(by_column(log)[0])) == 2


def test_a_gap_of_exactly_the_limit_does_not_start_a_session():
    log = codes_log([0, 0, 0], [0, 0, 0], [0, 60_000, 120_001])
    assert by_gap(log, 1).starts_session.tolist() == [True, False, True]


@given(LOGS)
def test_collapse_leaves_one_of_each_run(rows):
    events, _ = by_column(codes_log(*zip(*rows, strict=True)))
    expected = [
        (user, [event for k, event in enumerate(s) if not k or event[0] != s[k - 1][0]])
        for user, s in as_lists(events)
    ]
    assert as_lists(collapse_repeats(events)) == expected


@given(LOGS, st.data())
def test_keep_leaves_the_sessions_that_have_events(rows, data):
    events, _ = by_column(codes_log(*zip(*rows, strict=True)))
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    np.testing.assert_array_equal(
        events.keep(kept).sessions, np.unique(events.sessions[kept], return_inverse=True)[1]
    )


def test_a_log_without_session_ids_has_no_sessions_by_column():
    with pytest.raises(ValueError, match="sessions=None"):
        by_column(codes_log([0], [0], [0]))
