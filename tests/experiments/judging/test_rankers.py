"""Rankers: popularity compared with counting by hand, on the same events as neural models."""

import collections
import json

import jax
import numpy as np
import pytest

from data_pipelines.histories.record import Split
from experiments.judging.config import EvalConfig
from experiments.judging.evaluation import Evaluator
from experiments.judging.rankers import evaluate_ranker, fitted_histories, make_ranker
from experiments.sweeping.study import StudyError
from hiertcn_jax.baselines.popularity import Popularity
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.learning.optimizer import Optimizer, OptimizerConfig
from hiertcn_jax.learning.train_state import init_train_state
from hiertcn_jax.models import build
from hiertcn_jax.models.hiertcn import HierTCNConfig
from tests.experiments.test_sweep import ranker_sweep


def events_of(data, last):
    """(user, session, position, item) of every event of the parts up to `last`."""
    for user, history in enumerate(data.histories.__getitems__(range(len(data.histories)))):
        ends = np.cumsum(history.session_lengths).tolist()
        for session, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if history.session_splits[session] <= last:
                for position, item in enumerate(history.item_ids[start:end].tolist()):
                    yield user, session, position, item


@pytest.fixture(scope="module")
def popular(data):
    ranker = Popularity(data.vocabulary.size)
    ranker.fit(fitted_histories(data, "train"))
    return evaluate_ranker(ranker, data, Split.TEST)


@pytest.mark.parametrize("fit_on, last", [("train", Split.TRAIN), ("train_valid", Split.VALID)])
def test_fitting_uses_each_event_of_the_parts(data, fit_on, last):
    fitted = list(fitted_histories(data, fit_on))
    expected = [item for *_, item in events_of(data, last)]
    assert np.concatenate([history.item_ids_n for history in fitted]).tolist() == expected
    assert len(expected) == data.fitted_events(fit_on)
    for history in fitted:
        assert len(history.times_n) == len(history.item_ids_n) == history.session_lengths_m.sum()


def test_popularity_ranks_by_counts_with_ties_half(data, popular):
    counts = collections.Counter(item for *_, item in events_of(data, Split.TRAIN))
    catalogue = range(FIRST_ITEM_ID, data.vocabulary.size)
    ranks = dict(zip(popular.events.item_n.tolist(), popular.rank_n.tolist(), strict=True))
    assert len(ranks) > 50
    for item, rank in ranks.items():
        above = sum(counts[other] > counts[item] for other in catalogue)
        equal = sum(counts[other] == counts[item] for other in catalogue) - 1
        assert rank == 1 + above + equal / 2
    assert any(rank % 1 for rank in ranks.values())


@pytest.mark.parametrize("mask_seen", ["none", "user"])
def test_popularity_recommends_the_items_of_the_most_events(data, mask_seen):
    ranker = Popularity(data.vocabulary.size)
    ranker.fit(fitted_histories(data, "train"))
    metrics = evaluate_ranker(ranker, data, Split.TEST, mask_seen).metrics["all"]
    counts_v = data.vocabulary.counts_v
    # Of equal counts the lower row comes first, and rows stand in the order of their counts.
    order = sorted(range(FIRST_ITEM_ID, len(counts_v)), key=lambda item: (-counts_v[item], item))
    covered, popularity, seen = set(), [], collections.defaultdict(set)
    splits = [history.session_splits for history in data.histories.__getitems__(range(40))]
    for user, session, _, item in events_of(data, Split.TEST):
        left = seen[user] if mask_seen == "user" else ()
        if splits[user][session] == Split.TEST and item >= FIRST_ITEM_ID:
            top = [other for other in order if other not in left][:20]
            covered |= set(top)
            popularity.append(np.mean([np.log(1 + counts_v[other]) for other in top]))
        seen[user].add(item)
    assert len(popularity) == metrics["events"]
    assert metrics["coverage@20"] == pytest.approx(len(covered) / len(order), rel=1e-12)
    assert (len(covered) > 20) == (mask_seen == "user")
    assert metrics["log_popularity@20"] == pytest.approx(np.mean(popularity), rel=1e-12)


def test_a_neural_model_is_scored_on_the_same_events(data, popular):
    config = HierTCNConfig(item_dim=2, gru_dim=2, tcn_channels=(2,), kernel_size=1)
    model = build(config)
    optimizer = Optimizer(OptimizerConfig(), lambda step: 0.0, rows=False)
    params = init_train_state(
        jax.random.key(0), model, config, optimizer, 1, data.vocabulary.size
    ).params
    evaluation = EvalConfig(lanes=16, events=128, sessions=32)
    neural = Evaluator(model, config, evaluation, data, Split.TEST)(params).metrics
    for name in ("events", "events_hash", "unknown_targets", "data_hash"):
        assert popular.metrics[name] == neural[name]
    for group in ("all", "first", "next"):
        assert popular.metrics[group]["events"] == neural[group]["events"]
        assert popular.metrics["per_user"][group]["users"] == neural["per_user"][group]["users"]


def test_a_sweep_of_a_ranker_masks_what_users_saw(data, tmp_path):
    (trial,) = ranker_sweep(data, tmp_path, "--mask_seen=user", trials=1)["trials"]
    ranker = make_ranker("rolling_popularity", data.vocabulary.size, trial["params"])
    ranker.fit(fitted_histories(data, "train"))
    masked = evaluate_ranker(ranker, data, Split.VALID, "user").metrics
    assert masked["all"]["mrr"] > evaluate_ranker(ranker, data, Split.VALID).metrics["all"]["mrr"]
    valid = tmp_path / "sweep" / "trials" / "0000" / "valid.json"
    assert json.loads(valid.read_text()) == json.loads(json.dumps(masked))
    with pytest.raises(StudyError, match="mask_seen: checkpoint user, this run None"):
        ranker_sweep(data, tmp_path, trials=1)
