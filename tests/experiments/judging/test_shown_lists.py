"""Training with impressions, and ranks within the shown lists, from end to end."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from experiments.comparison.scorers import EventIndex, model_scorer, ranker_scorer
from experiments.flags.data_flags import DataLocation
from experiments.judging.evaluation import Evaluator
from experiments.judging.rankers import evaluate_ranker, fitted_histories, rank_of
from experiments.judging.result_tables import metrics_table
from experiments.runs.restore import open_run_data, restore_run
from hiertcn_jax.baselines.popularity import Popularity
from hiertcn_jax.batch import FIRST_ITEM_ID, UNKNOWN_ID
from hiertcn_jax.models import eval_step
from hiertcn_jax.models.queries import batch_queries
from hiertcn_jax.scoring.scores import Additions
from tests.experiments.small_runs import journal, run_train, train_in
from tests.given_files import write_embeddings
from tests.volume import mostly_thorough

NEGATIVES = "--negatives=impressions:3,popularity:16"


@pytest.fixture(scope="module")
def trained(shown_data, tmp_path_factory):
    """A run whose loader draws the other negatives; in other tests here the step draws them."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    run_train(shown_data, workdir, NEGATIVES, "--item_mode=rows")
    return workdir


@pytest.fixture(scope="module")
def trained_given(shown_data, tmp_path_factory):
    """A run with given embeddings."""
    directory = tmp_path_factory.mktemp("given")
    paths = write_embeddings(directory, shown_data.vocabulary.item_ids.to_list(), 4)
    given = (f"--item_embeddings={paths[0]}", f"--item_embedding_ids={paths[1]}")
    run_train(shown_data, directory / "run", NEGATIVES, *given, "--steps=4")
    return directory / "run"


def plain_shown(data, scorer):
    """(rank, size, position) of every scored event with a list, from the scores of all items."""
    histories = [data.histories.__getitems__([user])[0] for user in range(len(data.histories))]
    places, lists = [], []
    for user, history in enumerate(histories):
        ends = np.cumsum(history.shown_counts)
        first = history.session_lengths[history.session_splits < Split.TEST].sum()
        for event in range(first, len(history.item_ids)):
            shown = history.shown_items[ends[event] - history.shown_counts[event] : ends[event]]
            if history.item_ids[event] != UNKNOWN_ID and len(shown):
                places.append(EventIndex(user, event))
                lists.append((history.item_ids[event], shown, event - first))
    scores_nv = scorer(histories, places)
    found = []
    for (target, shown, position), scores_v in zip(lists, scores_nv, strict=True):
        above = np.sum(scores_v[shown] > scores_v[target])
        equal = np.sum(scores_v[shown] == scores_v[target])
        found.append((1 + above + equal / 2, 1 + len(shown), position))
    return np.array(found)


def assert_metrics(metrics, found):
    for group, of_group in (("all", found), ("first", found[found[:, 2] == 0])):
        rank_n, size_n = of_group[:, 0], of_group[:, 1]
        values = metrics[group]
        assert values["events"] == len(rank_n)
        assert values["recall@1"] == pytest.approx(np.mean(rank_n <= 1))
        assert values["recall@5"] == pytest.approx(np.mean(rank_n <= 5))
        assert values["mrr"] == pytest.approx(np.mean(1 / rank_n))
        assert values["mrp"] == pytest.approx(np.mean(rank_n / size_n))
    assert metrics["mean_items"] == pytest.approx(found[:, 1].mean())


def test_a_run_is_scored_within_what_was_shown(shown_data, trained):
    metrics = json.loads((trained / "test.json").read_text())
    found = plain_shown(shown_data, model_scorer(restore_run(trained, "best"), None))
    assert len(found) > 50
    assert_metrics(metrics["shown"], found)
    # Events without a list are scored only over the catalogue.
    assert metrics["events"] > metrics["shown"]["events"]


def additions_by_position(rows):
    """Queries with additions to items that depend on the event's index in the history."""

    def queries_of(model, params, batch, carry, **options):
        queries, carry = batch_queries(model, params, batch, carry, **options)
        places = batch.user_position_bl[..., None] * 13 + jnp.arange(0, 40, 5)
        ids_blm = FIRST_ITEM_ID + places % (rows - FIRST_ITEM_ID)
        values = 0.1 * jnp.sin(places.astype(jnp.float32))
        return queries._replace(additions=Additions(ids_blm, values)), carry

    return queries_of


@pytest.mark.parametrize("run", mostly_thorough(["trained", "trained_given"], "trained_given"))
def test_what_is_added_to_scores_is_in_every_rank(monkeypatch, request, run):
    workdir = request.getfixturevalue(run)
    restored = restore_run(workdir, "best")
    data = open_run_data(restored, DataLocation())
    without = json.loads((workdir / "test.json").read_text())
    monkeypatch.setattr(eval_step, "batch_queries", additions_by_position(data.vocabulary.size))
    # Steps are cached per process: one without additions may exist, and this one must not stay.
    eval_step.make_eval_step.cache_clear()
    request.addfinalizer(eval_step.make_eval_step.cache_clear)
    metrics = Evaluator(restored.model, restored.config, restored.evaluation, data, Split.TEST)(
        restored.params
    ).metrics
    scorer = model_scorer(restored, data.embeddings)
    assert_metrics(metrics["shown"], plain_shown(data, scorer))
    assert metrics["shown"]["all"]["mrr"] != without["shown"]["all"]["mrr"]
    histories = [data.histories.__getitems__([user])[0] for user in range(len(data.histories))]
    events = []
    for user, history in enumerate(histories):
        first = history.session_lengths[history.session_splits < Split.TEST].sum()
        events += [
            EventIndex(user, event)
            for event in range(first, len(history.item_ids))
            if history.item_ids[event] != UNKNOWN_ID
        ]
    targets = [int(histories[user].item_ids[event]) for user, event in events]
    rank_n = list(map(rank_of, scorer(histories, events), targets))
    assert metrics["all"]["events"] == len(rank_n)
    assert metrics["all"]["mrr"] == pytest.approx(np.mean(1 / np.array(rank_n)), rel=1e-4)
    assert metrics["all"]["mrr"] != without["all"]["mrr"]


def test_devices_that_share_lanes_and_table_find_the_same_ranks(shown_data, trained):
    restored = restore_run(trained, "best", data_parallelism=4, model_parallelism=2)
    assert len(restored.params["items"].input_vd.sharding.device_set) == 8
    evaluator = Evaluator(
        restored.model, restored.config, restored.evaluation, shown_data, Split.TEST,
        restored.layout,
    )  # fmt: skip
    metrics = evaluator(restored.params).metrics
    alone = json.loads((trained / "test.json").read_text())
    assert metrics["events_hash"] == alone["events_hash"]
    assert metrics["shown"]["events_hash"] == alone["shown"]["events_hash"]
    assert metrics["shown"]["mean_items"] == alone["shown"]["mean_items"]
    for group in ("all", "first", "next"):
        assert metrics[group] == pytest.approx(alone[group])
        assert metrics["shown"][group] == pytest.approx(alone["shown"][group])


def test_rankers_are_scored_within_what_was_shown(shown_data):
    popularity = Popularity(shown_data.vocabulary.size)
    popularity.fit(fitted_histories(shown_data, "train"))
    metrics = evaluate_ranker(popularity, shown_data, Split.TEST).metrics
    # Many items are equally popular: their ties count half.
    found = plain_shown(shown_data, ranker_scorer(popularity))
    assert np.any(found[:, 0] % 1)
    assert_metrics(metrics["shown"], found)


def test_the_table_has_both(shown_data, trained):
    metrics = json.loads((trained / "test.json").read_text())
    table = metrics_table({"hiertcn": metrics})
    names = list(table.columns[0].cells)
    assert names == ["hiertcn", "", "", "hiertcn (shown)", "", ""]
    assert list(table.columns[2].cells)[3] == f"{metrics['shown']['all']['events']:,}"


def test_without_impressions_the_results_do_not_mention_them(data, whole):
    assert "shown" not in json.loads((whole / "test.json").read_text())


def test_a_run_with_impressions_resumes_where_it_stopped(shown_data, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    train_in(shown_data, whole, NEGATIVES)
    for steps in (4, 10):
        train_in(shown_data, parts, NEGATIVES, f"--steps={steps}")
    assert [line for line in journal(parts) if line["step"] > 4] == [
        line for line in journal(whole) if line["step"] > 4
    ]


def test_impressions_that_the_data_does_not_have_are_refused(data, shown_data, tmp_path):
    with pytest.raises(DataError, match="has no impressions for negatives=impressions:3; prepare"):
        train_in(data, tmp_path / "none", NEGATIVES)
    with pytest.raises(DataError, match=r"keeps 100 impressions of an event at most"):
        train_in(shown_data, tmp_path / "few", "--negatives=impressions:101")


def test_given_embeddings_are_ranked_within_what_was_shown(shown_data, trained_given):
    restored = restore_run(trained_given, "best")
    assert restored.config.item_mode == "given"
    embeddings = open_run_data(restored, DataLocation()).embeddings
    metrics = json.loads((trained_given / "test.json").read_text())
    assert_metrics(metrics["shown"], plain_shown(shown_data, model_scorer(restored, embeddings)))
