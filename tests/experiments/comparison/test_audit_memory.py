"""The audit of counts: each term at each level keeps what it promises, and leaks are caught."""

import dataclasses

import jax
import numpy as np
import pytest

from data_pipelines.histories.record import Split
from data_pipelines.lanes import memory_lists
from experiments import compare
from experiments.comparison import audit as audit_lib
from experiments.comparison.alterations import ListedHistories
from experiments.comparison.audit_checks import FROZEN_CHECKS, sample_targets
from experiments.comparison.audit_memory import check_counts
from experiments.comparison.cells import Cell
from experiments.judging import ranker_levels
from experiments.runs import recall as recall_lib
from experiments.runs.assembly import assemble
from experiments.runs.resolve import resolve
from experiments.runs.restore import Restored
from hiertcn_jax.learning.train_state import init_train_state
from hiertcn_jax.memory.levels import parse
from tests.experiments.comparison.test_audit import RUN
from tests.experiments.conftest import prepared

LEVELS = ("fitted", "live", "delayed:6h", "static")
ALL = {"world_by_time", "followers_by_time", "own_by_time"}
MEMORY = RUN.with_model("memory").override(
    {"memory": "world,followers,own", "loss": "cross_entropy"}
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    data = prepared(tmp_path_factory.mktemp("log") / "data", users=30)
    return data._replace(
        histories=ListedHistories(data.histories.__getitems__(range(len(data.histories))))
    )


@pytest.fixture(scope="module")
def targets(data):
    return sample_targets(data, Split.TEST, 10, seed=0)


def failed(data, targets, level):
    # The cache of counts goes by the log: a leak must not meet counts from before it.
    recall_lib._remembered.cache_clear()
    found = check_counts(data, MEMORY.model, "train", parse(level), targets)
    recall_lib._remembered.cache_clear()
    assert set(found) == ALL
    assert all(result.events == 2 * len(targets) for result in found.values())
    return {check for check, result in found.items() if not result.passed}


@pytest.mark.parametrize("level", LEVELS)
def test_honest_counts_pass(data, targets, level):
    assert failed(data, targets, level) == set()


def test_only_the_kinds_of_a_model_are_checked(data, targets):
    model = dataclasses.replace(MEMORY.model, memory=("own",))
    found = check_counts(data, model, "train", parse("live"), targets[:2])
    assert set(found) == {"own_by_time"}


def asked_early(monkeypatch, seconds):
    """Events are known so many seconds too early."""
    lists = memory_lists.Memory.lists
    monkeypatch.setattr(
        memory_lists.Memory,
        "lists",
        lambda memory, time_n, *rest: lists(memory, time_n + seconds, *rest),
    )


@pytest.mark.parametrize("level", LEVELS)
def test_counts_that_know_the_future_are_caught(data, targets, level, monkeypatch):
    asked_early(monkeypatch, 30 * 86_400)
    assert failed(data, targets, level) == {"world_by_time", "followers_by_time"}


def test_counts_that_know_their_own_instant_are_caught(data, targets, monkeypatch):
    """At `live` the event itself would count: one second is enough."""
    asked_early(monkeypatch, 1)
    assert "world_by_time" in failed(data, targets, "live")


def test_counts_that_are_less_late_than_they_say_are_caught(data, targets, monkeypatch):
    asked_early(monkeypatch, 5 * 3600)
    assert "world_by_time" in failed(data, targets, "delayed:6h")


@pytest.mark.parametrize("level", ["fitted", "static"])
def test_held_out_events_that_count_as_fitted_are_caught(data, targets, level, monkeypatch):
    monkeypatch.setattr(recall_lib, "last_counted", lambda *_: Split.TEST)
    assert "world_by_time" in failed(data, targets, level)


@pytest.mark.parametrize("level", LEVELS)
def test_own_picks_that_hold_the_event_itself_are_caught(data, targets, level, monkeypatch):
    own = memory_lists.own_items
    monkeypatch.setattr(
        memory_lists, "own_items", lambda recall, user_n, place_n: own(recall, user_n, place_n + 1)
    )
    assert "own_by_time" in failed(data, targets, level)


@pytest.mark.parametrize("level", ["fitted", "delayed:6h"])
def test_a_model_with_memory_is_audited(data, targets, tmp_path, monkeypatch, level):
    """Not trained, but with weights of every size; its scores and its counts are checked."""
    resolved = resolve(MEMORY, data)
    parts, config, rows = assemble(resolved), resolved.config.model, data.vocabulary.size
    state = init_train_state(jax.random.key(0), parts.model, config, parts.optimizer, 8, rows)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape), state.params)
    restored = Restored(parts.model, config, MEMORY.evaluation, params, 0, {})
    places = []

    def restore(directory, *_):
        places.append(directory.name)
        return restored

    monkeypatch.setattr(audit_lib, "restore_run", restore)
    comparison = compare.Comparison(MEMORY, data, Split.TEST, tmp_path, 0, {})
    cell = Cell("memory", 0, tmp_path / "cell", {}, parse(level))
    results = audit_lib.audit_model(comparison, cell, targets[:4])
    assert set(results) == {*FROZEN_CHECKS, "fit_without_held_out", "start_state", *ALL}
    assert all(found.passed and found.events for found in results.values())
    # The run lies with the cell of `fitted`.
    assert places == ["cell" if level == "fitted" else "seed_0"]


RANKERS = ("rolling_popularity", "stan", "vsknn")


@pytest.mark.parametrize("level", ["live", "delayed:6h", "static"])
@pytest.mark.parametrize("name", RANKERS)
def test_rankers_keep_what_their_level_promises(data, targets, tmp_path, name, level):
    comparison = compare.Comparison(RUN, data, Split.TEST, tmp_path, 0, {})
    cell = Cell(name, None, tmp_path, {}, parse(level))
    results = audit_lib.audit_ranker(comparison, cell, targets)
    checks = {*FROZEN_CHECKS, "causal_fit"}
    assert set(results) == checks | ({"fit_without_held_out"} if level == "static" else set())
    assert all(found.passed and found.events for found in results.values())


@pytest.mark.parametrize("name", RANKERS)
def test_a_ranker_that_is_less_late_than_it_says_is_caught(
    data, targets, tmp_path, monkeypatch, name
):
    score = ranker_levels.RankerAtLevel.score
    monkeypatch.setattr(
        ranker_levels.RankerAtLevel,
        "score",
        lambda self, context: score(self, context._replace(time=context.time + 5 * 3600)),
    )
    comparison = compare.Comparison(RUN, data, Split.TEST, tmp_path, 0, {})
    cell = Cell(name, None, tmp_path, {}, parse("delayed:6h"))
    assert not audit_lib.audit_ranker(comparison, cell, targets)["causal_fit"].passed
