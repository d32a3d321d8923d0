"""Two tabs at once: kept whole one after the other they leak, and the audit detects it."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.histories.record import Split
from data_pipelines.prepare import prepare
from experiments.comparison.alterations import ListedHistories
from experiments.comparison.audit_checks import FROZEN_CHECKS, check_frozen, sample_targets
from experiments.comparison.audit_fits import fit
from experiments.comparison.scorers import EventIndex, ranker_scorer
from experiments.judging.rankers import make_ranker, rank_of
from experiments.runs.data import open_data
from hiertcn_jax.batch import FIRST_ITEM_ID
from tests.data_pipelines.logs import small_times_config, write_csv

USERS, ITEMS = 200, 1000


def interleaved_rows():
    """Random items: 12 in two earlier sessions, then c and, two minutes later, d in tab A.

    Between these two, d occurs in tab B. Only the later event of tab A reveals it.
    """
    rng = np.random.default_rng(0)
    for user in range(USERS):
        start, items = int(rng.integers(10**6)), rng.integers(ITEMS, size=14).tolist()
        for place, item in enumerate(items[:12]):
            yield f"{user},{'YZ'[place // 6]},{item},{start + place // 6 * 86_400 + place}"
        start += 3 * 86_400
        yield f"{user},A,{items[12]},{start + 100}"
        yield f"{user},B,{items[13]},{start + 160}"
        yield f"{user},A,{items[13]},{start + 220}"


def kept_whole(history):
    """The history with tab A whole before tab B, as valid and test."""
    order = [*range(12), 12, 14, 13]
    return dataclasses.replace(
        history,
        item_ids=history.item_ids[order],
        times=history.times[order],
        session_lengths=np.array([6, 6, 2, 1], np.int32),
        session_splits=np.array([0, 0, 1, 2], np.uint8),
    )


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """The log, prepared correctly."""
    room = tmp_path_factory.mktemp("interleaved")
    header = "user_id,session_id,item_id,timestamp"
    path = write_csv(room / "log.csv", *interleaved_rows(), header=header)
    config = small_times_config(
        input=(path,), session_column="session_id", output_dir=str(room / "D"), split="last_session"
    )
    assert prepare(config)["merged_sessions"]["into"] == USERS
    data = open_data(room / "D")
    histories = data.histories.__getitems__(range(USERS))
    assert all(history.session_lengths.tolist() == [6, 6, 3] for history in histories)
    return data._replace(histories=ListedHistories(histories))


@pytest.fixture(scope="module")
def whole(merged):
    """The log, prepared wrongly: sessions kept whole."""
    histories = merged.histories.__getitems__(range(USERS))
    return merged._replace(histories=ListedHistories(map(kept_whole, histories)))


def fitted(name, data):
    """The scores of a ranker with its defaults."""
    return ranker_scorer(
        fit(lambda: make_ranker(name, data.vocabulary.size, {}), data, "train_valid")
    )


def mean_reciprocal_rank(score, data, event):
    """Selects, for all users, the event at this index of their history, if its item is known."""
    histories = data.histories.__getitems__(range(USERS))
    known = [history for history in histories if history.item_ids[event] >= FIRST_ITEM_ID]
    assert len(known) > USERS / 2
    ranks = [rank_of(score([h], [EventIndex(0, event)])[0], h.item_ids[event]) for h in known]
    return np.mean(1 / np.array(ranks))


@pytest.mark.parametrize("name", ["stan", "vsknn"])
def test_an_event_of_tab_b_is_predicted_by_chance_unless_later_events_leak(merged, whole, name):
    size = merged.vocabulary.size
    chance = np.mean(1 / np.arange(1, size - FIRST_ITEM_ID + 1))
    for data, event in ((merged, 13), (whole, 14)):
        histories = data.histories.__getitems__([0])
        assert histories[0].times[event] % 86_400 == (histories[0].times[12] + 60) % 86_400
    assert mean_reciprocal_rank(fitted(name, merged), merged, 13) < 2 * chance
    assert mean_reciprocal_rank(fitted(name, whole), whole, 14) > 0.9


@pytest.mark.parametrize("name", ["stan", "vsknn", "item_knn", "moving_average", "repeat_last"])
def test_the_audit_catches_sessions_that_are_kept_whole(merged, whole, name):
    for data, passes in ((merged, True), (whole, False)):
        targets = sample_targets(data, Split.TEST, 32, seed=0)
        found = check_frozen(fitted(name, data), targets, "train_valid", data.vocabulary.size, 1e-9)
        assert {check: result.passed for check, result in found.items()} == {
            check: passes or check != "own_later_events" for check in FROZEN_CHECKS
        }
        assert found["own_later_events"].events == 32
