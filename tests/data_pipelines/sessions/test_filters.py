import collections

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import DataError
from data_pipelines.raw.drops import Drop
from data_pipelines.sessions.filters import FilterOptions, apply_filters
from data_pipelines.sessions.sessionize import by_column
from tests.data_pipelines.logs import codes_log

ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40
)
OPTIONS = st.builds(
    FilterOptions,
    min_item_events=st.integers(1, 3),
    min_user_events=st.integers(1, 4),
    max_user_events=st.sampled_from([0, 4, 6]),
    min_sessions=st.integers(1, 3),
)


def events_of(rows):
    """Sessions laid end to end."""
    users, items, sessions = zip(*rows, strict=True)
    times = [session * len(rows) + place for place, session in enumerate(sessions)]
    events, merged = by_column(codes_log(users, items, times, sessions))
    assert not merged.sessions
    return events


def plain(rows, options):
    """The rows that are left, by a loop over users and items."""
    before = None
    while before != rows:
        before = rows
        items = collections.Counter(item for _, item, _ in rows)
        rows = [row for row in rows if items[row[1]] >= options.min_item_events]
        for rule in (
            lambda own: len(own) >= options.min_user_events,
            lambda own: not options.max_user_events or len(own) <= options.max_user_events,
            lambda own: len({session for _, _, session in own}) >= options.min_sessions,
        ):
            kept = {u for u, _, _ in rows if rule([row for row in rows if row[0] == u])}
            rows = [row for row in rows if row[0] in kept]
    return rows


@given(ROWS, OPTIONS)
def test_filters_equal_a_plain_loop_and_count_every_event(rows, options):
    expected = plain(rows, options)
    events = events_of(rows)
    if not expected:
        with pytest.raises(DataError, match=r"the filters leave nothing: .* dropped"):
            apply_filters(events, options)
        return
    left, drops = apply_filters(events, options)
    pairs = zip(left.users.tolist(), left.items.tolist(), strict=True)
    assert sorted(pairs) == sorted((user, item) for user, item, _ in expected)
    assert len(left) + sum(drop.events for drop in drops) == len(rows)
    users, items = len({row[0] for row in rows}), len({row[1] for row in rows})
    assert len(set(left.users.tolist())) + sum(drop.users for drop in drops) == users
    assert len(set(left.items.tolist())) + sum(drop.items for drop in drops) == items
    assert apply_filters(left, options)[1] == []


def test_counts_over_rounds():
    # Round 1: item 1 is rare, then user 1 has one event left. Round 2: without user 1, item 2 is
    # rare, and user 2 had only that item.
    rows = [(0, 0, 0), (0, 0, 0), (1, 1, 0), (1, 2, 0), (2, 2, 0), (2, 2, 1), (0, 0, 1)]
    _, drops = apply_filters(events_of(rows), FilterOptions(min_item_events=3, min_user_events=2))
    assert drops == [
        Drop("min_item_events=3", 1 + 2, users=1, items=2),
        Drop("min_user_events=2", 1, users=1, items=0),
    ]


def test_a_user_with_100_000_events_is_dropped_whole():
    rows = [(0, k % 50, k // 10) for k in range(100_000)] + [(1, 0, 0)]
    left, drops = apply_filters(events_of(rows), FilterOptions(max_user_events=500))
    assert left.users.tolist() == [1]
    assert drops == [Drop("max_user_events=500", 100_000, users=1, items=49)]
