"""V-SKNN and STAN against the formulas of their papers in plain Python."""

import math
from collections import defaultdict

import numpy as np
import pytest

from hiertcn_jax.baselines.stan import STAN
from hiertcn_jax.baselines.vsknn import POSITION_WEIGHTS, SIMILARITIES, STEP_WEIGHTS, VSKNN
from tests.baselines.logs import DAY, ROWS, context, fitted, held_out, histories, random_log

SEEDS = range(4)
POSITION = {
    "same": lambda p, n: 1,
    "div": lambda p, n: p / n,
    "linear": lambda p, n: max(1 - 0.1 * (n - p), 0),
    "quadratic": lambda p, n: (p / n) ** 2,
    "log": lambda p, n: 1 / math.log10(n - p + 1.7),
}
STEP = {
    "same": lambda s: 1,
    "div": lambda s: 1 / s,
    "linear": lambda s: max(1 - 0.1 * s, 0),
    "quadratic": lambda s: 1 / (s * s),
    "log": lambda s: 1 / math.log10(s + 1.7),
}


def sessions_of(log, time, causal):
    """All fitted sessions as (items, end), by end; equal ends in the order of fitting."""
    sessions = [([i for i, _ in session], session[-1][1]) for user in log for session in user]
    sessions.sort(key=lambda session: session[1])
    return [session for session in sessions if not causal or session[1] < time]


def query(context):
    running = context.item_ids_n[context.session_start :].tolist()
    return running or context.item_ids_n[context.previous_start : context.session_start].tolist()


def last_position(items):
    return {item: position for position, item in enumerate(items, 1)}


def nearest(sessions, items, weight, time, cosine, recency_days, sample, neighbours):
    """The most similar sessions as (similarity, items); of equal ones the last to end first."""
    candidates = [session for session in sessions if set(session[0]) & set(items)][-sample:]
    found = []
    for order, (other, end) in enumerate(candidates):
        dot = sum(weight[item] for item in sorted(weight) if item in other)
        if cosine:
            length = math.sqrt(sum(weight[item] ** 2 for item in sorted(weight)))
            similarity = dot / (length * math.sqrt(len(set(other))))
        else:
            similarity = dot / len(weight)
        similarity *= math.exp(-abs(time - end) / DAY / recency_days)
        found.append((-similarity, -order, other))
    return [(-negative, other) for negative, _, other in sorted(found)[:neighbours]]


def plain_vsknn(log, before, *, similarity, position, step, idf, remind, causal, **search):
    items = query(before)
    every = sessions_of(log, 0, False)
    weight = {i: POSITION[position](p, len(items)) for i, p in last_position(items).items()}
    scores = defaultdict(float)
    sessions = sessions_of(log, before.time, causal)
    for value, other in nearest(
        sessions, items, weight, before.time, similarity == "cosine", **search
    ):
        steps = next(s for s, item in enumerate(reversed(items), 1) if item in other)
        for item in set(other):
            rarity = math.log(len(every) / sum(item in session for session, _ in every))
            if remind or item not in items:
                scores[item] += value * STEP[step](steps) * (1 + idf * rarity)
    return [scores[item] for item in range(ROWS)]


def plain_stan(log, before, *, position_decay, item_decay, remind, causal, **search):
    items = query(before)
    weight = {
        i: math.exp((p - len(items)) / position_decay) for i, p in last_position(items).items()
    }
    scores = defaultdict(float)
    sessions = sessions_of(log, before.time, causal)
    for value, other in nearest(sessions, items, weight, before.time, True, **search):
        places = last_position(other)
        shared = max(places[item] for item in items if item in places)
        for item, place in places.items():
            if remind or item not in items:
                scores[item] += value * math.exp(-abs(place - shared) / item_decay)
    return [scores[item] for item in range(ROWS)]


def check(ranker, log, expected):
    """Scores are equal up to a common factor."""
    ranker.fit(histories(fitted(log)))
    for before in held_out(log):
        scores, wanted = ranker.score(before), np.array(expected(before))
        assert (scores.max() == 0) == (wanted.max() == 0)
        norm = [max(values.max(), 1e-300) for values in (scores, wanted)]
        np.testing.assert_allclose(scores / norm[0], wanted / norm[1], rtol=1e-9)


VSKNN_SETTINGS = [
    {},
    {"neighbours": 3, "sample": 6},
    {"similarity": "dot", "neighbours": 4, "recency_days": 0.5},
    {"idf": 2, "remind": False},
    {"causal": True, "neighbours": 3, "sample": 5, "recency_days": 2},
    *({"position_weight": name, "step_weight": name} for name in POSITION),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("settings", VSKNN_SETTINGS, ids=str)
def test_vsknn_is_the_plain_one(seed, settings):
    log = random_log(seed)
    full = {
        "similarity": "cosine",
        "position": settings.get("position_weight", "div"),
        "step": settings.get("step_weight", "div"),
        "idf": 0,
        "remind": True,
        "causal": False,
        "recency_days": math.inf,
        "sample": 1000,
        "neighbours": 100,
    }
    full |= {name: settings[name] for name in settings if name in full}
    check(VSKNN(ROWS, **settings), log, lambda before: plain_vsknn(fitted(log), before, **full))


def test_the_tables_of_weights_are_those_checked():
    assert set(POSITION_WEIGHTS) == set(POSITION)
    assert set(STEP_WEIGHTS) == set(STEP)
    assert set(SIMILARITIES) == {"cosine", "dot"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"recency_days": 0.3, "neighbours": 3, "sample": 7},
        {"position_decay": 0.5, "item_decay": 5, "remind": False},
        {"causal": True, "neighbours": 4, "recency_days": 0.5},
    ],
    ids=str,
)
def test_stan_is_the_plain_one(seed, settings):
    log = random_log(seed)
    full = {
        "position_decay": 1.02,
        "item_decay": 2.05,
        "remind": True,
        "causal": False,
        "recency_days": 5,
        "sample": 5000,
        "neighbours": 500,
        **settings,
    }
    check(STAN(ROWS, **settings), log, lambda before: plain_stan(fitted(log), before, **full))


def test_stan_by_hand():
    """Query 2, 3. Session A = 3, 4 ended a day before, B = 5, 2 at the time, C shares nothing."""
    ranker = STAN(7, position_decay=2, recency_days=0.5, item_decay=1)
    ranker.fit(histories([[[(3, 0), (4, 1)]], [[(5, DAY), (2, DAY + 1)]], [[(6, 5)]]]))
    scores = ranker.score(context([(2, 0), (3, 0)], 0, 0, DAY + 1))
    length = math.sqrt(1 + math.exp(-1)) * math.sqrt(2)
    a = 1 / length * math.exp(-2)
    b = math.exp(-0.5) / length
    expected = [0, 0, b, a, a / math.e, b / math.e, 0]
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_old_neighbours_still_count_where_all_are_old():
    ranker = STAN(4, recency_days=0.01)
    ranker.fit(histories([[[(2, 0), (3, 1)]]]))
    assert ranker.score(context([(2, 0)], 0, 0, 1000 * DAY))[3] > 0


@pytest.mark.parametrize("ranker", [VSKNN, STAN])
def test_a_causal_neighbour_ended_before_the_event(ranker):
    """Item 3 in a session that ended at the event's time, 4 a second before."""
    scores = ranker(5, causal=True)
    scores.fit(histories([[[(2, 0), (3, 9)]], [[(2, 0), (4, 8)]]]))
    assert np.flatnonzero(scores.score(context([(2, 0)], 0, 0, 9))).tolist() == [2, 4]


def test_an_unknown_item_at_a_sessions_end_counts_for_its_end():
    scores = VSKNN(5, causal=True)
    scores.fit(histories([[[(2, 0), (3, 5), (1, 9)]]]))
    assert not scores.score(context([(2, 0)], 0, 0, 9)).any()
    assert scores.score(context([(2, 0)], 0, 0, 10)).any()
