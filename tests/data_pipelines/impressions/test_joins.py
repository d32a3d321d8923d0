"""Joins of events with shown lists, compared with loops over all pairs."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.impressions.files import Impressions
from data_pipelines.impressions.joins import join_by_click, join_by_session
from data_pipelines.sessions.sessionize import by_column, by_gap
from tests.data_pipelines.logs import codes_log

ITEMS = st.integers(0, 5)
TIMES = st.integers(0, 30)
EVENTS = st.lists(st.tuples(st.integers(0, 2), ITEMS, TIMES), min_size=1, max_size=12)
LISTS = st.lists(
    st.tuples(
        st.integers(0, 2),
        TIMES,
        st.lists(ITEMS, min_size=1, max_size=5).flatmap(
            lambda shown: st.tuples(
                st.just(shown), st.lists(st.sampled_from(shown), max_size=2, unique=True)
            )
        ),
    ),
    max_size=10,
)


def impressions_of(lists):
    """Impressions of (user, time, (shown, clicked))."""

    def flat(place):
        return (
            np.repeat(np.arange(len(lists)), [len(one[2][place]) for one in lists]),
            np.array([item for one in lists for item in one[2][place]], np.int32),
        )

    return Impressions(
        pl.Series([f"item {item}" for item in range(6)]),
        np.array([user for user, _, _ in lists], np.int32),
        np.array([time for _, time, _ in lists], np.int64),
        *flat(0),
        *flat(1),
        rows=len(lists),
    )


def shown_beside(beside):
    """The items joined with each event: a set, or None if nothing matches."""
    return [
        None if group < 0 else set(beside.item_p[beside.group_p == group].tolist())
        for group in beside.group_n.tolist()
    ]


def plain_click(lists, user, item, time, tolerance):
    """The nearest list of a click: by distance, then earlier ones, then the first."""
    near = [
        (abs(list_time - time), list_time > time, place)
        for place, (list_user, list_time, (_, clicked)) in enumerate(lists)
        if list_user == user and item in clicked and abs(list_time - time) <= tolerance
    ]
    if not near:
        return None
    shown, clicked = lists[min(near)[2]][2]
    return set(shown) - set(clicked)


@given(EVENTS, LISTS, st.integers(0, 8))
def test_a_click_gets_the_nearest_list_in_which_it_was_clicked(rows, lists, tolerance):
    events = by_gap(codes_log(*zip(*rows, strict=True)), gap_minutes=1)
    beside = join_by_click(impressions_of(lists), events, tolerance)
    assert shown_beside(beside) == [
        plain_click(lists, user, item, time, tolerance)
        for user, item, time in zip(
            events.users.tolist(), events.items.tolist(), events.times_ms.tolist(), strict=True
        )
    ]


def test_of_two_lists_equally_near_the_earlier_is_taken():
    events = by_gap(codes_log([0], [0], [10]), gap_minutes=1)
    lists = [(0, 12, ([0, 1], [0])), (0, 8, ([0, 2], [0])), (0, 8, ([0, 3], [0]))]
    assert shown_beside(join_by_click(impressions_of(lists), events, 5)) == [{2}]


@given(EVENTS, LISTS, st.integers(0, 8), st.integers(1, 10))
def test_a_session_gets_all_that_was_shown_in_it_and_not_clicked(rows, lists, tolerance, gap):
    events = by_gap(codes_log(*zip(*rows, strict=True)), gap_minutes=gap / 60_000)
    beside = join_by_session(impressions_of(lists), events, tolerance)
    expected, used = [], set()
    for place in range(len(events)):
        session = events.sessions == events.sessions[place]
        first, last = events.times_ms[session][[0, -1]]
        during = [
            number
            for number, (user, time, _) in enumerate(lists)
            if user == events.users[place] and first - tolerance <= time <= last + tolerance
        ]
        used |= set(during)
        shown = {item for number in during for item in lists[number][2][0]}
        clicked = {item for number in during for item in lists[number][2][1]}
        left = shown - clicked - set(events.items[session].tolist())
        expected.append(left if during else None)
    assert shown_beside(beside) == expected
    assert beside.lists_used == len(used)


def test_sessions_at_one_moment_share_what_was_shown_then():
    events, _ = by_column(codes_log([0, 0], [0, 1], [5, 5], sessions=[0, 1]))
    beside = join_by_session(impressions_of([(0, 5, ([0, 1, 2, 3], [2]))]), events, 0)
    # Item 2 was clicked in the list; each session leaves out its own items.
    assert shown_beside(beside) == [{1, 3}, {0, 3}]


@pytest.mark.parametrize("join", [join_by_click, join_by_session])
def test_nothing_shown_matches_nothing(join):
    events = by_gap(codes_log([0, 1], [0, 1], [0, 5]), gap_minutes=1)
    beside = join(impressions_of([]), events, 60_000)
    assert shown_beside(beside) == [None, None]
    assert beside.lists_used == 0


@pytest.mark.parametrize("join", [join_by_click, join_by_session])
def test_no_events_match_nothing(join):
    events = by_gap(codes_log([0], [0], [0]), gap_minutes=1).keep(np.zeros(1, bool))
    beside = join(impressions_of([(0, 0, ([0, 1], [0]))]), events, 60_000)
    assert shown_beside(beside) == []
    assert beside.lists_used == 0
