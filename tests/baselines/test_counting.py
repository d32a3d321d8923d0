"""Rankers that count: kinds of popularity, item-kNN, Markov; each compared with a plain count."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from hiertcn_jax.baselines import rolling_popularity
from hiertcn_jax.baselines.item_knn import ItemKNN
from hiertcn_jax.baselines.markov import Markov
from hiertcn_jax.baselines.popularity import Popularity
from hiertcn_jax.baselines.rolling_popularity import RollingPopularity
from hiertcn_jax.baselines.session_popularity import RepeatLast, SessionPopularity
from tests.baselines.logs import ROWS, context, fitted, held_out, histories, random_log

SEEDS = range(4)


def fit(ranker, log):
    ranker.fit(histories(fitted(log)))
    return ranker


def vector(counts):
    return [counts.get(item, 0) for item in range(ROWS)]


def running(context):
    return context.item_ids_n[context.session_start :].tolist()


def query(context):
    previous = context.item_ids_n[context.previous_start : context.session_start].tolist()
    return running(context) or previous


@pytest.mark.parametrize("seed", SEEDS)
def test_popularity_counts_the_fitted_events(seed):
    log = random_log(seed)
    ranker = fit(Popularity(ROWS), log)
    counts = Counter(item for user in fitted(log) for session in user for item, _ in session)
    for before in held_out(log):
        np.testing.assert_array_equal(ranker.score(before), vector(counts))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("window", [1, 5, 1000])
def test_rolling_popularity_counts_the_last_events_before_the_time(seed, window):
    log = random_log(seed)
    ranker = fit(RollingPopularity(ROWS, events=window), log)
    # Sorting is stable: of equal times, in the order of fitting.
    events = [event for user in fitted(log) for session in user for event in session]
    events.sort(key=lambda event: event[1])
    for before in held_out(log):
        last = [item for item, time in events if time < before.time][-window:]
        np.testing.assert_array_equal(ranker.score(before), vector(Counter(last)))


def test_rolling_popularity_leaves_out_events_at_the_very_time():
    ranker = RollingPopularity(4, events=10)
    ranker.fit(histories([[[(2, 100), (3, 101)]]]))
    assert ranker.score(context([], 0, 0, 101)).tolist() == [0, 0, 1, 0]
    assert ranker.score(context([], 0, 0, 102)).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_decayed_popularity_is_the_sum_over_all_events_before_the_time(seed, monkeypatch):
    # Snapshots every 14 events: some contexts are between, some at one.
    monkeypatch.setattr(rolling_popularity, "_BLOCK", 14)
    log, half_life = random_log(seed), 0.3
    ranker = fit(RollingPopularity(ROWS, weighting="decay", half_life_hours=half_life), log)
    events = [event for user in fitted(log) for session in user for event in session]
    for before in held_out(log):
        sums = Counter()
        for item, time in events:
            if time < before.time:
                sums[item] += 2.0 ** ((time - before.time) / (3600 * half_life))
        expected = [math.log2(sums[item]) if sums[item] else -1100 for item in range(ROWS)]
        np.testing.assert_allclose(ranker.score(before), expected, rtol=1e-9)


def test_decayed_popularity_by_hand():
    ranker = RollingPopularity(5, weighting="decay", half_life_hours=1)
    ranker.fit(histories([[[(2, 0), (2, 3600), (3, 7200)]], [[(3, 7200), (4, 7201)]]]))
    # At 2 hours: 1/4 + 1/2 for item 2; what happens in that second is not known.
    scores = ranker.score(context([], 0, 0, 7200))
    np.testing.assert_allclose(scores, [-1100, -1100, math.log2(0.75), -1100, -1100])
    # An hour later: 3/8, and twice 1/2.
    scores = ranker.score(context([], 0, 0, 10800))
    np.testing.assert_allclose(scores[2:4], [math.log2(0.375), 0])
    # Long after, the order is still there, when float32 would have no numbers for the sums.
    scores = ranker.score(context([], 0, 0, 10800 + 3600 * 500)).astype(np.float32)
    assert scores[4] < scores[3] and scores[2] < scores[4]


def test_session_popularity_counts_the_session_and_breaks_ties_by_popularity():
    ranker = SessionPopularity(6)
    ranker.fit(histories([[[(2, 0), (2, 1), (2, 2), (3, 3), (4, 4), (4, 5)]]]))
    before = context([(2, 10), (5, 20), (3, 21), (5, 22), (4, 23)], 0, 1, 24)
    scores = ranker.score(before)
    # 5 twice in the session, 4 and 3 once, of which 4 is the more popular, 2 in none.
    assert np.argsort(-scores)[:4].tolist() == [5, 4, 3, 2]
    first = ranker.score(context([(5, 10)], 0, 1, 24))
    assert np.argsort(-first)[:3].tolist() == [2, 4, 3]
    assert first[5] == 0


def test_repeat_last_scores_the_last_item_alone():
    ranker = RepeatLast(5)
    assert ranker.score(context([(3, 0), (4, 1)], 0, 0, 2)).tolist() == [0, 0, 0, 0, 1]
    assert ranker.score(context([(3, 0), (4, 1)], 0, 2, 2)).tolist() == [0, 0, 0, 0, 1]
    assert ranker.score(context([(3, 0), (1, 1)], 0, 0, 2)).tolist() == [0, 0, 0, 1, 0]
    assert ranker.score(context([], 0, 0, 2)).tolist() == [0] * 5


def plain_item_knn(log, items, shrinkage, balance, neighbours, decay):
    sessions = [{item for item, _ in session} for user in log for session in user]
    count = Counter(item for session in sessions for item in session)
    scores = Counter()
    for steps, i in enumerate(reversed(items)):
        similar = {}
        for j in range(ROWS):
            together = sum(i in session and j in session for session in sessions)
            if j != i and together:
                norm = (count[i] + shrinkage) ** balance * (count[j] + shrinkage) ** (1 - balance)
                similar[j] = together / norm
        for j in sorted(similar, key=lambda j: (-similar[j], j))[:neighbours]:
            scores[j] += decay**steps * similar[j]
    return vector(scores)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "settings",
    [
        {"shrinkage": 0, "balance": 0.5, "neighbours": 100, "session_decay": 0},
        {"shrinkage": 3, "balance": 0.8, "neighbours": 100, "session_decay": 0.5},
        {"shrinkage": 2.5, "balance": 1.0, "neighbours": 3, "session_decay": 1},
    ],
)
def test_item_knn_is_the_shrunk_cosine(seed, settings):
    log = random_log(seed)
    ranker = fit(ItemKNN(ROWS, **settings), log)
    for before in held_out(log):
        expected = plain_item_knn(fitted(log), query(before), *settings.values())
        np.testing.assert_allclose(ranker.score(before), expected, rtol=1e-12)


def test_item_knn_by_hand():
    ranker = ItemKNN(5, shrinkage=1, session_decay=0.5)
    ranker.fit(histories([[[(2, 0), (3, 1)], [(2, 2), (3, 3), (4, 4), (3, 5)]]]))
    # Items 2 and 3 are in two sessions, 4 in one; pairs 2-3 in two, 2-4 and 3-4 in one.
    scores = ranker.score(context([(2, 10), (4, 11)], 0, 0, 12))
    one = 1 / math.sqrt((2 + 1) * (1 + 1))
    np.testing.assert_allclose(scores, [0, 0, one, one + 0.5 * 2 / 3, 0.5 * one])


@pytest.mark.parametrize("seed", SEEDS)
def test_markov_is_the_share_of_the_followers(seed):
    log = random_log(seed)
    ranker = fit(Markov(ROWS), log)
    for before in held_out(log):
        followers = Counter()
        for user in fitted(log):
            for session in user:
                for (i, _), (j, _) in itertools.pairwise(session):
                    followers[j] += [i] == query(before)[-1:]
        total = max(sum(followers.values()), 1)
        np.testing.assert_allclose(ranker.score(before), np.array(vector(followers)) / total)
