"""Moving average and MaxItem against plain loops, and the vectors against a dense decomposition."""

import itertools
import math

import numpy as np
import pytest

from hiertcn_jax.baselines.cooccurrence import cooccurrence, sum_cooccurrence
from hiertcn_jax.baselines.events import fitted_events
from hiertcn_jax.baselines.item_vectors import svd_item_vectors
from hiertcn_jax.baselines.recent_items import WEIGHTINGS, MaxItem, MovingAverage
from tests.baselines.logs import ROWS, context, fitted, held_out, histories, random_log


def plain_scores(before, vectors, *, combine, last, weighting, gap_hours, remind=True):
    items, times = before.item_ids_n[-last:].tolist(), before.times_n[-last:].tolist()
    if not items:
        return [0] * ROWS
    weights = []
    for steps, time in zip(reversed(range(len(items))), times, strict=True):
        hours = max(times[-1] - time, 0) / 3600
        exponent = {"uniform": 0, "exponential": 3 * steps / len(items), "gap": hours / gap_hours}
        weights.append(math.exp(-exponent[weighting]))
    scores = []
    for candidate in range(ROWS):
        terms = [
            weight * float(np.dot(vectors[item], vectors[candidate]))
            for item, weight in zip(items, weights, strict=True)
        ]
        score = max(terms) if combine == "max" else sum(terms) / sum(weights)
        is_seen = candidate in before.item_ids_n[before.session_start :]
        scores.append(score if remind or not is_seen else -math.inf)
    return scores


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("ranker, combine", [(MovingAverage, "average"), (MaxItem, "max")])
@pytest.mark.parametrize("remind", [True, False])
def test_similarity_to_the_last_items(seed, weighting, ranker, combine, remind):
    log = random_log(seed)
    vectors = np.random.default_rng(seed).normal(size=(ROWS, 5))
    settings = {"last": 4, "weighting": weighting, "gap_hours": 5, "remind": remind}
    scores = ranker(ROWS, item_vectors_vd=vectors, **settings)
    for before in held_out(log):
        expected = plain_scores(before, vectors, combine=combine, **settings)
        np.testing.assert_allclose(scores.score(before), expected, rtol=1e-4, atol=1e-5)


def test_the_average_by_hand():
    vectors = np.array([[0, 0], [0, 0], [1, 0], [0, 2]])
    ranker = MovingAverage(4, item_vectors_vd=vectors, weighting="gap", gap_hours=2)
    before = context([(2, 0), (3, 7200)], 0, 0, 9000)
    share = math.exp(-1) / (1 + math.exp(-1))
    np.testing.assert_allclose(ranker.score(before), [0, 0, share, 4 * (1 - share)], rtol=1e-6)


@pytest.mark.parametrize("blocks", [1, 2, 7])
def test_cooccurrence_of_blocks_is_that_of_the_whole(blocks):
    log = list(histories(fitted(random_log(3))))
    whole = cooccurrence(fitted_events(log), ROWS)
    parts = [fitted_events(log[place::blocks]) for place in range(blocks)]
    summed = sum_cooccurrence(iter(parts), ROWS)
    np.testing.assert_array_equal(summed.pairs_vv.toarray(), whole.pairs_vv.toarray())
    np.testing.assert_array_equal(summed.sessions_v, whole.sessions_v)
    assert whole.sessions_v.sum() > 50


def test_cooccurrence_counts_sessions_once():
    log = [[[(2, 0), (3, 1), (2, 2), (3, 3)], [(3, 4), (4, 5)]], [[(2, 0), (3, 1)]]]
    counts = cooccurrence(fitted_events(histories(log)), 6)
    expected = np.zeros((6, 6))
    expected[2, 3] = expected[3, 2] = 2
    expected[3, 4] = expected[4, 3] = 1
    np.testing.assert_array_equal(counts.pairs_vv.toarray(), expected)
    np.testing.assert_array_equal(counts.sessions_v, [0, 0, 2, 3, 1, 0])


@pytest.mark.parametrize("seed", range(3))
def test_the_vectors_are_the_best_of_their_rank(seed):
    sessions = [{i for i, _ in session} for user in fitted(random_log(seed)) for session in user]
    cosine = np.zeros((ROWS, ROWS))
    for i, j in itertools.product(range(2, ROWS), repeat=2):
        together = sum(i in session and j in session for session in sessions)
        sizes = [2 + sum(item in session for session in sessions) for item in (i, j)]
        cosine[i, j] = together / math.sqrt(sizes[0] * sizes[1])
    values, basis = np.linalg.eigh(cosine)
    best = basis[:, -4:] * values[-4:] @ basis[:, -4:].T
    counts = cooccurrence(fitted_events(histories(fitted(random_log(seed)))), ROWS)
    vectors = svd_item_vectors(counts, dim=4, shrinkage=2, seed=seed)
    np.testing.assert_allclose(vectors @ vectors.T, best, atol=1e-5)


def test_the_vectors_repeat_and_are_used():
    log = random_log(0)
    scores = []
    for _ in range(2):
        ranker = MaxItem(ROWS, dim=4, seed=3)
        ranker.fit(histories(fitted(log)))
        scores.append([ranker.score(before) for before in held_out(log)])
    np.testing.assert_array_equal(*scores)
    assert np.any(scores[0])


def test_too_wide_vectors_are_refused():
    with pytest.raises(ValueError, match="dim=64: must be below the number of items, 2"):
        MovingAverage(ROWS).fit(histories([[[(2, 0), (3, 1)]]]))


def test_given_vectors_must_fit_the_table():
    with pytest.raises(ValueError, match="item_vectors_vd: 3 rows, but the item table has 14"):
        MaxItem(ROWS, item_vectors_vd=np.zeros((3, 2)))
