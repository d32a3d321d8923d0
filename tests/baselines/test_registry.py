"""Properties of every ranker: the protocol, causality, unknown items, empty contexts, settings."""

import numpy as np
import pytest

from hiertcn_jax.baselines import Ranker
from hiertcn_jax.baselines.registry import RANKERS
from tests.baselines.logs import (
    DAY,
    ROWS,
    context,
    fitted,
    held_out,
    histories,
    known,
    random_log,
    with_unknown,
)

SETTINGS = {"moving_average": {"dim": 4}, "max_item": {"dim": 4, "weighting": "gap"}}
CASES = [(name, SETTINGS.get(name, {})) for name in RANKERS]
CASES += [
    (name, {"causal": True, "neighbours": 4, "sample": 6, "recency_days": 0.5})
    for name in ("vsknn", "stan")
]
CASES += [("rolling_popularity", {"weighting": "decay", "half_life_hours": 9.0})]
CAUSAL = [case for case in CASES if RANKERS[case[0]](ROWS, **case[1]).causal]


def scores(case, log, contexts):
    ranker = RANKERS[case[0]](ROWS, **case[1])
    ranker.fit(histories(log))
    return np.array([ranker.score(before) for before in contexts])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_ranker_keeps_the_protocol(case):
    ranker = RANKERS[case[0]](ROWS, **case[1])
    assert isinstance(ranker, Ranker)
    log = random_log(0)
    # Before fitting, after it, and with or without a context: a number for every row.
    for _ in range(2):
        for before in held_out(log):
            values = ranker.score(before)
            assert values.shape == (ROWS,)
            assert values.dtype.kind == "f"
            assert np.isfinite(values).all()
        ranker.fit(histories(fitted(log)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fitting_again_forgets_the_first(case):
    log, other = random_log(0), random_log(1)
    ranker = RANKERS[case[0]](ROWS, **case[1])
    ranker.fit(histories(fitted(other)))
    ranker.fit(histories(fitted(log)))
    again = np.array([ranker.score(before) for before in held_out(log)])
    np.testing.assert_array_equal(again, scores(case, fitted(log), held_out(log)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_unknown_items_change_nothing(case):
    log = with_unknown(random_log(2), seed=0)
    bare = known(log)
    assert log != bare
    contexts = held_out(log)
    with_them = scores(case, fitted(log), contexts)
    without = scores(case, fitted(bare), [drop_unknown(before) for before in contexts])
    np.testing.assert_array_equal(with_them, without)


def drop_unknown(before):
    """The same context without unknown items."""
    keep = before.item_ids_n != 1
    return before._replace(
        item_ids_n=before.item_ids_n[keep],
        times_n=before.times_n[keep],
        previous_start=int(keep[: before.previous_start].sum()),
        session_start=int(keep[: before.session_start].sum()),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", CAUSAL, ids=str)
def test_later_events_do_not_move_a_causal_ranker(case, seed):
    log = fitted(random_log(seed))
    contexts = held_out(random_log(seed))
    full = scores(case, log, contexts)
    rng = np.random.default_rng(seed)
    for before, expected in zip(contexts[::3], full[::3], strict=True):
        # From that time on, all events have another item and are up to a day later.
        changed = [[later(session, before.time, rng) for session in user] for user in log]
        np.testing.assert_array_equal(scores(case, changed, [before])[0], expected)


def later(session, time, rng):
    """The session with other items from `time` on, all postponed by the same time."""
    delay = int(rng.integers(0, DAY))
    return [
        (item, at) if at < time else (int(rng.integers(2, ROWS)), at + delay)
        for item, at in session
    ]


def test_the_others_are_moved_by_later_events():
    log, contexts = fitted(random_log(0)), held_out(random_log(0))
    time = min(before.time for before in contexts)
    rng = np.random.default_rng(0)
    changed = [[later(session, time, rng) for session in user] for user in log]
    for case in CASES:
        if case not in CAUSAL:
            moved = scores(case, changed, contexts) != scores(case, log, contexts)
            assert moved.any(), case


@pytest.mark.parametrize("name", ["markov", "item_knn", "vsknn", "stan"])
def test_at_a_sessions_first_event_the_previous_session_is_used(name):
    log = random_log(0)
    events = [(2, 0), (3, 10), (4, DAY), (5, DAY + 10)]
    inside = context(events, 0, 2, 2 * DAY)
    first = context(events, 2, 4, 2 * DAY)
    unknown = context([*events, (1, 2 * DAY - 1)], 2, 4, 2 * DAY)
    in_running, in_previous, after_unknown = scores(
        (name, {}), fitted(log), [inside, first, unknown]
    )
    assert in_running.any()
    np.testing.assert_array_equal(in_running, in_previous)
    np.testing.assert_array_equal(in_running, after_unknown)


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("rolling_popularity", {"events": 0}, "events=0: must be >= 1"),
        ("rolling_popularity", {"weighting": "x"}, "weighting=x: must be one of window, decay"),
        ("rolling_popularity", {"half_life_hours": 0.0}, "half_life_hours=0.0: must be > 0"),
        ("moving_average", {"weighting": "none"}, "weighting=none: must be one of uniform, expo"),
        ("max_item", {"gap_hours": 0}, "gap_hours=0: must be > 0"),
        ("max_item", {"last": 0}, "last=0: must be >= 1"),
        ("item_knn", {"balance": 1.5}, r"balance=1.5: must be in \[0, 1\]"),
        ("item_knn", {"shrinkage": -1}, "shrinkage=-1: must be >= 0"),
        ("vsknn", {"similarity": "sine"}, "similarity=sine: must be one of cosine, dot"),
        ("vsknn", {"idf": 1, "causal": True}, "idf=1: must be 0 if causal"),
        ("stan", {"recency_days": float("nan")}, "recency_days=nan: must be > 0"),
        ("stan", {"neighbours": 0}, "neighbours=0: must be >= 1"),
    ],
)
def test_settings_out_of_range_are_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        RANKERS[name](ROWS, **settings)
