"""Item-kNN and popularity beside a trained model, unless the log is too large for them."""

import pytest

from data_pipelines.histories.record import Split
from experiments.judging import simple_rankers
from experiments.judging.rankers import evaluate_ranker, fitted_histories, ranker_for
from experiments.judging.simple_rankers import losing_lines, score_simple


def test_they_are_scored_like_any_ranker(data):
    beside = score_simple(data, "train", Split.TEST, "session")
    assert (list(beside.metrics), beside.why_not) == (["item_knn", "popularity"], None)
    for name, metrics in beside.metrics.items():
        ranker = ranker_for(name, data, {})
        ranker.fit(fitted_histories(data, "train"))
        assert metrics == evaluate_ranker(ranker, data, Split.TEST, "session").metrics


@pytest.mark.parametrize("limit", ["_MOST_SCORES", "_MOST_EVENTS"])
def test_on_a_large_log_they_are_left_out_and_it_is_said(data, monkeypatch, limit):
    def over(least):
        monkeypatch.setattr(simple_rankers, limit, least)
        return score_simple(data, "train", Split.TEST, "none")

    events, items = data.known_events(Split.TEST), data.vocabulary.size
    most = {"_MOST_SCORES": events * items, "_MOST_EVENTS": data.fitted_events("train")}[limit]
    assert over(most).why_not is None
    beside = over(most - 1)
    assert beside.metrics == {}
    assert beside.why_not.startswith("item_knn and popularity are left out: ")
    assert "hiertcn compare --models=item_knn,popularity" in beside.why_not


def metrics(value):
    return {"all": {"mrr": value}, "next": {"mrr": 1 - value if value else None}}


def test_who_beats_the_model_is_named_with_both_figures():
    beside = {"item_knn": metrics(0.4259), "popularity": metrics(0.0174)}
    assert losing_lines("hiertcn", metrics(0.3825), beside, "all/mrr") == [
        "hiertcn loses to item_knn: all/mrr 0.3825 against 0.4259",
        "hiertcn sweep searches better settings",
    ]
    # What is monitored decides.
    assert losing_lines("hiertcn", metrics(0.3825), beside, "next/mrr") == [
        "hiertcn loses to popularity: next/mrr 0.6175 against 0.9826",
        "hiertcn sweep searches better settings",
    ]


def test_an_equal_or_better_model_is_not_talked_about():
    assert losing_lines("hiertcn", metrics(0.5), {"item_knn": metrics(0.5)}, "all/mrr") == []
    assert losing_lines("hiertcn", metrics(None), {"item_knn": metrics(None)}, "all/mrr") == []
