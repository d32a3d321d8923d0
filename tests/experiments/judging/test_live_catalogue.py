"""The live catalogue: ranks among the items that anybody picked before the event."""

import dataclasses
import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from data_pipelines.embeddings.item_embeddings import open_item_embeddings
from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from experiments import evaluate
from experiments.comparison.alterations import ListedHistories
from experiments.judging.evaluation import Evaluator
from experiments.judging.rankers import evaluate_ranker, fitted_histories, ranker_for
from experiments.runs.data import open_data
from experiments.runs.recall import recall_of
from experiments.runs.restore import restore_run
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.memory.levels import parse
from tests.experiments.conftest import prepared
from tests.experiments.small_runs import run_train

LIVE = parse("live")
MEMORY = ("--memory=world,own", "--memory_units=2", "--loss=cross_entropy")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("log") / "D", users=30, split="time")


@pytest.fixture(scope="module")
def live(fitted):
    return open_data(fitted.directory, "live")


@pytest.fixture(scope="module")
def trained(fitted, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "W"
    run_train(fitted, workdir, *MEMORY)
    return restore_run(workdir, "best"), workdir


def events_of(data):
    """All events as (time, user, session, position, item), in order of time."""
    events = []
    for user, history in enumerate(data.histories.__getitems__(range(len(data.histories)))):
        session = np.repeat(np.arange(len(history.session_lengths)), history.session_lengths)
        starts = np.cumsum(history.session_lengths) - history.session_lengths
        position = np.arange(len(session)) - starts[session]
        columns = (history.times, [user] * len(session), session, position, history.item_ids)
        rows = zip(*map(list, columns), history.session_splits[session], strict=True)
        events += rows
    return sorted(events)


def rank_by_place(evaluation):
    """The rank of each scored event by (user, session, position)."""
    events = evaluation.events
    columns = (events.user_n, events.session_n, events.position_n, evaluation.rank_n)
    return {tuple(place): rank for *place, rank in zip(*(x.tolist() for x in columns), strict=True)}


def plain_ranks(data, split, half_life):
    """The rank of each event by a counter that decays, and the number of first appearances."""
    events, ranks, unseen = events_of(data), {}, 0
    for time, user, session, position, item, part in events:
        known = [other for other in events if other[0] < time]
        if part != split:
            continue
        if item not in {other[4] for other in known}:
            unseen += 1
            continue
        counts = dict.fromkeys((other[4] for other in known), 0.0)
        for other in known:
            counts[other[4]] += 2.0 ** ((other[0] - time) / half_life)
        scores = {one: np.float32(np.log2(count)) for one, count in counts.items()}
        above = sum(score > scores[item] for score in scores.values())
        level = sum(score == scores[item] for score in scores.values()) - 1
        ranks[user, session, position] = 1 + above + level / 2
    return ranks, unseen


def test_a_ranker_ranks_among_what_was_seen(live):
    arguments = {"weighting": "decay", "half_life_hours": 24.0}
    ranker = ranker_for("rolling_popularity", live, arguments, LIVE)
    ranker.fit(fitted_histories(live, "train", LIVE))
    evaluation = evaluate_ranker(ranker, live, Split.TEST)
    expected, unseen = plain_ranks(live, Split.TEST, 24 * 3600)
    events = evaluation.events
    keys = zip(
        *(x.tolist() for x in (events.user_n, events.session_n, events.position_n)), strict=True
    )
    found = dict(zip(keys, evaluation.rank_n.tolist(), strict=True))
    assert found.keys() == expected.keys()
    close = [found[key] == pytest.approx(expected[key], abs=1) for key in found]
    assert np.mean(close) > 0.98
    metrics, test = evaluation.metrics, live.manifest["counts"]["splits"]["test"]
    assert (metrics["catalogue"], metrics["unseen"], metrics["unknown_targets"]) == (
        "live",
        unseen,
        0,
    )
    assert metrics["events"] + unseen == test["events"]["all"]
    assert unseen == test["unseen"]["all"] > 0
    assert test["unknown_items"]["all"] > unseen


def scores_of(trained, data, level="live", **changes):
    restored, _ = trained
    config = dataclasses.replace(restored.evaluation, **changes)
    recall = recall_of(data, restored.config, "train", parse(level))
    evaluator = Evaluator(restored.model, restored.config, config, data, Split.TEST, recall=recall)
    return evaluator(restored.params)


def test_a_model_scores_the_same_events_in_any_chunks(live, trained):
    ranker = ranker_for("popularity", live, {})
    ranker.fit(fitted_histories(live, "train"))
    same = evaluate_ranker(ranker, live, Split.TEST).metrics
    one, other = scores_of(trained, live), scores_of(trained, live, rank_chunk=7, lanes=3, events=5)
    for metrics in (one.metrics, other.metrics):
        for name in ("events", "unseen", "events_hash", "unknown_targets"):
            assert metrics[name] == same[name]
    assert one.metrics["all"]["mrr"] == pytest.approx(other.metrics["all"]["mrr"], abs=1e-6)
    known = np.sort(live.vocabulary.known_from)
    times = {key[1:4]: key[0] for key in events_of(live)}
    events = one.events
    keys = zip(
        *(x.tolist() for x in (events.user_n, events.session_n, events.position_n)), strict=True
    )
    sizes = np.searchsorted(known, [times[key] for key in keys])
    assert (one.rank_n <= sizes).all()
    assert sizes.max() > sizes.min()


def test_no_rank_depends_on_what_happens_later(live, trained):
    """What others do from some time on is changed; events until then keep their ranks."""
    times = np.array([event[0] for event in events_of(live) if event[5] == Split.TEST])
    until, rows = int(np.quantile(times, 0.5)), live.vocabulary.size
    first_later = live.vocabulary.fitted_size

    def altered(history):
        late = history.times > until
        # Any later item stands for any other: the catalogue of the time is the same.
        items = np.where(late, rows - 1, history.item_ids).astype(np.int32)
        return dataclasses.replace(history, item_ids=items)

    histories = live.histories.__getitems__(range(len(live.histories)))
    assert first_later < rows
    other = live._replace(histories=ListedHistories(map(altered, histories)))
    by_place = []
    for data in (live, other):
        evaluation = scores_of(trained, data)
        events = evaluation.events
        place = zip(
            *(x.tolist() for x in (events.user_n, events.session_n, events.position_n)), strict=True
        )
        by_place.append(dict(zip(place, evaluation.rank_n.tolist(), strict=True)))
    at = {key[1:4]: key[0] for key in events_of(live)}
    early = [place for place in by_place[0] if at[place] <= until]
    assert len(early) > 20
    assert all(by_place[0][place] == by_place[1][place] for place in early)


def test_later_items_gain_by_their_counts(live, trained):
    """At `live` memory counts items that training never had; at `fitted` it does not."""
    later = {}
    for level in ("fitted", "live"):
        evaluation = scores_of(trained, live, level)
        is_later = evaluation.events.item_n >= live.vocabulary.fitted_size
        assert is_later.sum() > 10
        later[level] = np.mean(1 / evaluation.rank_n[is_later])
    assert later["live"] > later["fitted"]


def test_the_result_has_a_name_of_its_own(fitted, live, trained):
    _, workdir = trained
    before = (workdir / "test.json").read_bytes()
    arguments = (f"--workdir={workdir}", "--catalogue=live", "--counts=live")
    with flagsaver.flagsaver():
        evaluate.define_flags()
        flags.FLAGS(["evaluate", *arguments])
        evaluate.main(evaluate.read_settings())
    assert (workdir / "test.json").read_bytes() == before
    values = json.loads((workdir / "test.counts_live.catalogue_live.json").read_text())
    metrics = scores_of(trained, live).metrics
    assert {name: values[name] for name in metrics} == metrics
    assert values["events"] + values["unseen"] == len(
        [event for event in events_of(live) if event[5] == Split.TEST]
    )


def test_given_embeddings_of_later_items_are_their_own(live, tmp_path):
    rng = np.random.default_rng(0)
    items = live.vocabulary.size - FIRST_ITEM_ID
    np.save(tmp_path / "rows.npy", rng.normal(size=(items, 4)).astype(np.float32))
    (tmp_path / "ids.txt").write_text("\n".join(live.vocabulary.item_ids.reverse()) + "\n")
    paths = (tmp_path / "rows.npy", tmp_path / "ids.txt")
    given = open_item_embeddings(*paths, live.vocabulary, 0)
    fitted = open_item_embeddings(*paths, live.vocabulary.fitted_part(), 0)
    assert given.content_hash == fitted.content_hash
    assert given.table_rows == live.vocabulary.size


def test_a_log_of_an_earlier_version_has_no_live_catalogue():
    old = "tests/old_versions/0.1.0/log"
    with pytest.raises(DataError, match=r"an earlier version prepared it.+prepare it again for"):
        open_data(old, "live")
