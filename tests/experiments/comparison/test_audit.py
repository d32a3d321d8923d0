"""The leakage audit: honest models pass, and the right check catches each kind of leak."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from data_pipelines.config import PrepareConfig
from data_pipelines.histories.record import History, Split
from data_pipelines.lanes import loaders
from data_pipelines.prepare import prepare
from experiments import compare
from experiments.comparison import audit as audit_lib
from experiments.comparison.alterations import ListedHistories, as_known_at, changed, without
from experiments.comparison.audit import AuditError, audit
from experiments.comparison.audit_checks import (
    FROZEN_CHECKS,
    check_frozen,
    check_start_state,
    sample_targets,
)
from experiments.comparison.audit_fits import check_batches
from experiments.comparison.cells import Cell
from experiments.comparison.scorers import EventIndex, model_scorer
from experiments.judging.config import EvalConfig
from experiments.runs.assembly import assemble
from experiments.runs.config import RunConfig, TrainConfig
from experiments.runs.data import open_data
from experiments.runs.resolve import resolve
from experiments.runs.restore import Restored
from hiertcn_jax.baselines.popularity import Popularity
from hiertcn_jax.baselines.registry import RANKERS
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.learning.train_state import init_train_state
from hiertcn_jax.models import MODELS
from hiertcn_jax.models.hiertcn import HierTCNConfig
from tests.volume import mostly_thorough

RUN = RunConfig(
    HierTCNConfig(item_dim=8, gru_dim=8, tcn_channels=(8,)),
    LossConfig(negatives=(("uniform", 16),)),
    OptimizerConfig(),
    TrainConfig(steps=2, lanes=8, events=16, sessions=8),
    EvalConfig(lanes=8, events=32, sessions=16),
    {"attention_dim": 8, "attention_window": 8},
)

EVENTS = 8


class ReadsLater(Popularity):
    """A ranker that scores by the whole history from which the context is cut."""

    def score(self, context):
        return np.bincount(context.item_ids_n.base, minlength=len(self.counts_v)).astype(float)


class ReadsHeldOut(Popularity):
    """A ranker that counts the whole histories from which the fitted parts are cut."""

    def fit(self, histories):
        whole = [h._replace(item_ids_n=h.item_ids_n.base) for h in histories]
        self.counts_v = sum(np.bincount(h.item_ids_n, minlength=len(self.counts_v)) for h in whole)


class SaysCausal(Popularity):
    """A ranker that counts events of any time, and claims to be causal."""

    causal = True


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "log"
    prepare(PrepareConfig(synthetic="planted", synthetic_users=30, output_dir=str(directory)))
    data = open_data(directory)
    # Separate arrays, in which the fakes find what comes after the part they are given.
    histories = data.histories.__getitems__(range(len(data.histories)))
    own = [dataclasses.replace(h, item_ids=h.item_ids.copy()) for h in histories]
    return data._replace(histories=ListedHistories(own))


@pytest.fixture(scope="module")
def targets(data):
    return sample_targets(data, Split.TEST, EVENTS, seed=0)


def failed(data, workdir, monkeypatch, ranker):
    """The checks that a fake ranker fails."""
    monkeypatch.setattr(audit_lib, "_EVENTS", EVENTS)
    monkeypatch.setitem(RANKERS, "fake", ranker)
    comparison = compare.Comparison(RUN, data, Split.TEST, workdir, 0, {})
    cell = Cell("fake", None, workdir / "fake", {"causal": ranker.causal})
    with pytest.raises(AuditError, match=r"audit\.json: leakage audit failed: fake "):
        audit(comparison, [cell])
    checks = json.loads((workdir / "audit.json").read_text())["models"]["fake"]["checks"]
    return {name for name, found in checks.items() if not found["passed"]}


SETTINGS = {
    "moving_average": {"dim": 4},
    "max_item": {"dim": 4},
    "vsknn_causal": {"ranker": "vsknn", "causal": True},
    "stan_causal": {"ranker": "stan", "causal": True},
}


CAUSAL = {"rolling_popularity", "repeat_last", "vsknn_causal", "stan_causal"}


@pytest.mark.parametrize("name", [*RANKERS, "vsknn_causal", "stan_causal", "hiertcn"])
def test_honest_models_pass(data, tmp_path, monkeypatch, name):
    monkeypatch.setattr(audit_lib, "_EVENTS", EVENTS)
    comparison = compare.Comparison(RUN, data, Split.TEST, tmp_path, 0, SETTINGS)
    audit(comparison, compare.run_cells(comparison, name, [0]))
    (entry,) = json.loads((tmp_path / "audit.json").read_text())["models"].values()
    assert entry["causal"] == (name in CAUSAL)
    checks = [*FROZEN_CHECKS, "fit_without_held_out"]
    checks += ["causal_fit"] if entry["causal"] else []
    checks += ["start_state"] if name in MODELS else []
    assert list(entry["checks"]) == checks
    assert all(found["passed"] and found["events"] for found in entry["checks"].values())


@pytest.mark.parametrize(
    "name",
    mostly_thorough(
        [name for name in MODELS if name not in ("hiertcn", "memory")],
        "hiergru",
        "tcn_session",
        "hstu",
    ),
)
def test_no_model_leaks_whatever_its_parameters(data, targets, tmp_path, monkeypatch, name):
    """Not trained, which takes long, but moved away from its initial values, often 0."""
    run = RUN.with_model(name)
    resolved = resolve(run, data)
    parts, config, rows = assemble(resolved), resolved.config.model, data.vocabulary.size
    key = jax.random.key(0)
    state = init_train_state(key, parts.model, config, parts.optimizer, 8, rows)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape), state.params)
    restored = Restored(parts.model, config, run.evaluation, params, 0, {})
    monkeypatch.setattr(audit_lib, "restore_run", lambda *_: restored)
    comparison = compare.Comparison(RUN, data, Split.TEST, tmp_path, 0, {})
    results = audit_lib.audit_model(comparison, Cell(name, 0, tmp_path, {}), targets)
    assert set(results) == {*FROZEN_CHECKS, "fit_without_held_out", "start_state"}
    assert all(found.passed and found.events for found in results.values())
    # The scores also differ: a user's first event is scored differently from the last.
    history = targets[0].histories[0]
    places = [EventIndex(0, 0), EventIndex(0, len(history.item_ids) - 1)]
    first_v, last_v = model_scorer(restored, None)([history], places)
    assert np.abs(first_v - last_v).max() > 0.1


def test_a_comparison_is_audited(data, tmp_path, monkeypatch):
    monkeypatch.setattr(audit_lib, "_EVENTS", EVENTS)
    monkeypatch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
    given, models = (RUN, data.directory, tmp_path), ["popularity", "stan_causal"]
    compare.main(compare.Settings(*given, models, [0], Split.TEST, 0, SETTINGS, audit=True))
    entries = json.loads((tmp_path / "audit.json").read_text())["models"]
    assert [(name, entry["causal"]) for name, entry in entries.items()] == [
        ("popularity", False),
        ("stan_causal", True),
    ]


def test_a_ranker_that_reads_later_events_is_caught(data, tmp_path, monkeypatch):
    assert failed(data, tmp_path, monkeypatch, ReadsLater) == {"own_later_events"}


def test_a_ranker_that_fits_on_held_out_events_is_caught(data, tmp_path, monkeypatch):
    assert failed(data, tmp_path, monkeypatch, ReadsHeldOut) == {"fit_without_held_out"}


def test_a_ranker_that_is_not_as_causal_as_it_says_is_caught(data, tmp_path, monkeypatch):
    assert failed(data, tmp_path, monkeypatch, SaysCausal) == {"causal_fit"}


def test_a_model_that_mixes_users_is_caught(data, targets):
    def of_all(histories, places):
        sums = [sum(h.item_ids.sum() for h in histories) for _ in places]
        return np.array(sums, float)[:, None]

    results = check_frozen(of_all, targets, "train", data.vocabulary.size, 1e-4)
    assert {check for check, found in results.items() if not found.passed} == set(FROZEN_CHECKS)
    assert not check_start_state(of_all, targets, 1e-4).passed


def test_a_loader_that_trains_on_held_out_sessions_is_caught(data, monkeypatch):
    assert check_batches(RUN, data).passed
    monkeypatch.setitem(loaders.FIT_STREAMS, "train", loaders.FIT_STREAMS["train_valid"])
    assert not check_batches(RUN, data).passed


def test_alterations_of_a_history():
    history = History(
        "a",
        np.array([2, 3, 4, 5, 2], np.int32),
        np.array([0, 10, 20, 30, 40]),
        np.array([1, 3, 1], np.int32),
        np.array([0, 0, 2], np.uint8),
    )
    mask_n = np.array([False, False, True, True, False])
    other = changed(history, mask_n, mask_n, rows=6, seed=0)
    assert ((other.item_ids != history.item_ids) == mask_n).all()
    assert (other.item_ids >= 2).all() and (other.item_ids < 6).all()
    assert other.times.tolist() == [0, 10, 3620, 3630, 40]
    shorter = without(history, np.array([True, False, True, False, False]))
    assert shorter.item_ids.tolist() == [3, 5, 2]
    assert shorter.session_lengths.tolist() == [2, 1]
    assert shorter.session_splits.tolist() == [0, 2]
    # At 20 s the second session is running: its length stays; the last session does not exist yet.
    known = as_known_at(history, 20, rows=6, seed=0)
    assert known.session_lengths.tolist() == [1, 3]
    assert known.item_ids[:2].tolist() == [2, 3]
    assert known.times.tolist() == [0, 10, 3620, 3630]
