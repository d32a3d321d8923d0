"""The runner of the rankers: contexts, ranks, and the events that are fitted and scored."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipelines.histories.record import History, Split
from experiments.judging.rankers import context_before, evaluate_ranker, fitted_histories, rank_of
from experiments.runs.data import Data

HISTORY = History(
    user_id="a",
    item_ids=np.array([2, 3, 1, 4, 2, 5], np.int32),
    times=np.array([0, 10, 100, 110, 120, 200]),
    session_lengths=np.array([2, 3, 1], np.int32),
    session_splits=np.array([0, 1, 2], np.uint8),
)


class Source(list):
    """Histories in memory."""

    def __getitems__(self, indices):
        return [self[index] for index in indices]


def data(*histories):
    part = {"events": {"all": 4}, "unknown_items": {"all": 1}}
    counts = {"splits": {"valid": part, "test": part}}
    manifest = {"content_hash": "none", "counts": counts}
    vocabulary = SimpleNamespace(size=7, counts_v=np.ones(7, int))
    return Data(Path(), Source(histories), vocabulary, manifest)


def recorder(scores_v):
    """A ranker that notes the contexts it is asked for."""
    contexts = []

    def score(context):
        contexts.append(context)
        return np.array(scores_v, np.float64)

    return SimpleNamespace(score=score), contexts


@pytest.mark.parametrize(
    "session, end, previous, start, time",
    [(0, 0, 0, 0, 0), (0, 1, 0, 0, 10), (1, 2, 0, 2, 100), (1, 4, 0, 2, 120), (2, 5, 2, 5, 200)],
)
def test_a_context_is_what_comes_before(session, end, previous, start, time):
    context = context_before(HISTORY, session, end)
    np.testing.assert_array_equal(context.item_ids_n, HISTORY.item_ids[:end])
    np.testing.assert_array_equal(context.times_n, HISTORY.times[:end])
    assert context[2:] == (previous, start, time)


@pytest.mark.parametrize(
    "item, rank", [(2, 2.5), (3, 1.0), (4, 2.5), (5, 4.0)], ids=["tie", "best", "tie", "worst"]
)
def test_the_rank_counts_ties_half_and_leaves_out_padding_and_unknown(item, rank):
    assert rank_of(np.array([9, np.nan, 1, 2, 1, -np.inf]), item) == rank


def test_scores_that_differ_by_less_than_float32_are_equal():
    assert rank_of(np.array([0, 0, 1, 1 + 1e-12]), 2) == 1.5


@pytest.mark.parametrize("seed", range(20))
def test_seen_items_do_not_compete_but_the_target_does(seed):
    """Compared with ranking the rest: with ties, infinite scores, and the target among the seen."""
    rng = np.random.default_rng(seed)
    scores_v = rng.choice([-np.inf, 0.0, 1.0, 2.0], 12)
    seen_k = rng.choice(12, 6, replace=False)
    for item in range(2, 12):
        left = [row for row in range(2, 12) if row == item or row not in seen_k]
        above = sum(scores_v[row] > scores_v[item] for row in left)
        equal = sum(scores_v[row] == scores_v[item] for row in left) - 1
        assert rank_of(scores_v, item, seen_k) == 1 + above + equal / 2


@pytest.mark.parametrize(
    "mask_seen, ranks", [("none", [3, 1]), ("session", [3, 1]), ("user", [1, 1])]
)
def test_what_is_masked_is_what_the_user_saw_before_the_event(mask_seen, ranks):
    # Item 4 comes after 2 and 3, which the previous session had; then 2 is picked again.
    ranker, _ = recorder([0, 0, 5, 4, 3, 2, 1])
    result = evaluate_ranker(ranker, data(HISTORY), Split.VALID, mask_seen)
    assert result.rank_n.tolist() == ranks
    # Item 5 of the last session: before it 2, 3 and 4, none of them in the session.
    result = evaluate_ranker(ranker, data(HISTORY), Split.TEST, mask_seen)
    assert result.rank_n.tolist() == [1 if mask_seen == "user" else 4]
    # Within the session, here 2 was seen before 3.
    one = dataclasses.replace(
        HISTORY, session_lengths=np.array([6], np.int32), session_splits=np.array([1], np.uint8)
    )
    result = evaluate_ranker(ranker, data(one), Split.VALID, mask_seen)
    assert result.rank_n.tolist() == ([1, 2, 3, 1, 4] if mask_seen == "none" else [1, 1, 1, 1, 1])


def test_nan_is_refused():
    with pytest.raises(ValueError, match="scores: NaN"):
        rank_of(np.array([0, 0, 1, np.nan]), 2)


@pytest.mark.parametrize("fit_on, events", [("train", 2), ("train_valid", 5)])
def test_the_fitted_part_ends_before_what_is_held_out(fit_on, events):
    untrained = dataclasses.replace(HISTORY, session_splits=np.array([2, 2, 2], np.uint8))
    (fitted,) = fitted_histories(data(HISTORY, untrained), fit_on)
    np.testing.assert_array_equal(fitted.item_ids_n, HISTORY.item_ids[:events])
    np.testing.assert_array_equal(fitted.times_n, HISTORY.times[:events])
    assert fitted.session_lengths_m.sum() == events


def test_every_known_event_of_the_split_is_ranked_in_its_context():
    ranker, contexts = recorder([0, 0, 5, 4, 3, 2, 1])
    result = evaluate_ranker(ranker, data(HISTORY), Split.VALID)
    # The session 1, 4, 2: its first event is unknown, but in the context of the others.
    assert result.events.position_n.tolist() == [1, 2]
    assert result.rank_n.tolist() == [3, 1]
    assert [(c.session_start, c.time, len(c.times_n)) for c in contexts] == [
        (2, 110, 3),
        (2, 120, 4),
    ]
    assert result.metrics["unknown_targets"] == 1
    assert result.metrics["next"]["mrr"] == pytest.approx((1 + 1 / 3) / 2)
