"""Rankers as Recommenders: the scores of an evaluation, in streams, as bytes, refused."""

import numpy as np
import pytest

import hiertcn_jax
from data_pipelines.histories.record import Split
from experiments.judging.rankers import (
    context_before,
    evaluate_ranker,
    fitted_histories,
    ranker_for,
)
from experiments.service.known_users import session_starts
from hiertcn_jax.baselines.registry import RANKERS
from hiertcn_jax.memory.levels import Level
from hiertcn_jax.scoring.top_items import top_items
from hiertcn_jax.serving.ranker_scorer import RankerScorer
from hiertcn_jax.serving.scorer import Request
from hiertcn_jax.serving.user_states import Events


@pytest.mark.parametrize("name", RANKERS)
def test_each_event_is_asked_for_as_in_an_evaluation(data, name):
    ranker = ranker_for(name, data, {})
    ranker.fit(fitted_histories(data, "train_valid", Level("live")))
    scorer = RankerScorer(name, ranker, 1e12)
    for history in data.histories.__getitems__(range(3)):
        starts = session_starts(history)
        state = scorer.start()
        sessions = np.cumsum(starts) - 1
        for place in range(min(len(history.times), 12)):
            if place and not starts[place]:
                expected_v = ranker.score(context_before(history, int(sessions[place]), place))
                time_n = history.times[place : place + 1]
                rows, scores = scorer.best(Request(state, time_n, 5))
                assert rows[0].tolist() == top_items(expected_v, 5).tolist()
                np.testing.assert_allclose(scores[0], expected_v[rows[0]], rtol=1e-6)
            part = slice(place, place + 1)
            event = Events(history.item_ids[part], history.times[part], starts[part])
            state = scorer.observe(state, [event])


@pytest.fixture(scope="module")
def rec(data):
    return hiertcn_jax.load_ranker("stan", data.directory, {"neighbours": 20})


def test_one_by_one_or_as_a_history(rec, data):
    history = data.histories.__getitems__([0])[0]
    whole = rec.recommend([int(history.user_id)], k=4, at=int(history.times[-1]))
    state, starts = rec.start(), session_starts(history)
    known = history.item_ids > 1
    for item, time, begins, is_known in zip(
        history.item_ids, history.times.tolist(), starts, known, strict=True
    ):
        raw = data.vocabulary.decode(np.array([item]))[0] if is_known else -1
        state = rec.observe(state, raw, time, new_session=bool(begins))
        state = rec.from_bytes(rec.to_bytes(state))
    streamed = rec.recommend(state, k=4, at=int(history.times[-1]))
    assert streamed["item_id"].to_list() == whole["item_id"].to_list()


def test_evaluate_is_what_compare_does(rec, data):
    ranker = ranker_for("stan", data, {"neighbours": 20})
    ranker.fit(fitted_histories(data, "train"))
    expected = evaluate_ranker(ranker, data, Split.TEST).metrics
    assert rec.evaluate("test")["all"] == expected["all"]


def test_filters_and_the_type_of_ids(rec, data):
    user = int(data.histories.__getitems__([0])[0].user_id)
    items = rec.catalogue.decode(np.arange(2, 8))
    table = rec.recommend([user], k=9, candidates=items, exclude=items[:2])
    assert sorted(table["item_id"]) == sorted(items[2:])


def test_what_a_ranker_does_not_have(rec, data):
    user = int(data.histories.__getitems__([0])[0].user_id)
    with pytest.raises(ValueError, match="stan are no sums of parts"):
        rec.recommend([user], explain=True)
    with pytest.raises(ValueError, match="stan: a ranker has no embeddings"):
        rec.embed([user])
    with pytest.raises(ValueError, match="stan: a ranker has no embeddings"):
        rec.item_embeddings()
    with pytest.raises(ValueError, match="ranker='stun': must be one of popularity"):
        hiertcn_jax.load_ranker("stun", data.directory)
    with pytest.raises(ValueError, match="state: "):
        rec.from_bytes(rec.to_bytes(rec.start()) + b"123")
