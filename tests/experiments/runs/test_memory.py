"""Models with memory terms, from end to end: trained, resumed, evaluated in any bucket."""

import json
import signal

import pytest
from absl import flags

from benchmarks.run_differences import differences
from data_pipelines.histories.record import Split
from experiments.judging.evaluation import Evaluator
from experiments.runs.recall import recall_of
from experiments.runs.restore import restore_run
from tests.experiments.small_runs import run_train, signal_in_step

MEMORY = ("--memory=world,followers,own", "--memory_units=2")
MODES = {
    "dense": ("--loss=cross_entropy",),
    "rows": ("--item_mode=rows",),
    "own": ("--loss=bpr", "--own_negatives", "--negatives=uniform:4"),
    "hstu": (
        "--model=hstu", "--attention_dim=4", "--attention_window=3", "--normalize=both",
        "--temperature=0.05", "--noitem_bias", "--own_negatives", "--negatives=uniform:4",
        "--nologq", "--item_mode=rows",
    ),
    "alone": ("--model=memory", "--loss=cross_entropy"),
}  # fmt: skip


@pytest.mark.parametrize(
    "mode",
    [mode if mode == "rows" else pytest.param(mode, marks=pytest.mark.thorough) for mode in MODES],
)
def test_a_stopped_run_ends_as_one_that_was_not(data, tmp_path, monkeypatch, mode):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run_train(data, whole, *MEMORY, *MODES[mode])
    with monkeypatch.context() as patch:
        signal_in_step(patch, 5, signal.SIGTERM)
        with pytest.raises(SystemExit):
            run_train(data, stopped, *MEMORY, *MODES[mode])
    run_train(data, stopped, *MEMORY, *MODES[mode])
    assert differences(stopped, whole) == []


@pytest.fixture(scope="module")
def remembering(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("memory") / "run"
    run_train(data, workdir, *MEMORY, "--loss=cross_entropy", "--steps=30")
    return workdir


def test_the_bucket_of_an_evaluation_changes_nothing(data, remembering):
    restored = restore_run(remembering, "best")
    recall = recall_of(data, restored.config, "train")
    values = json.loads((remembering / "test.json").read_text())
    for changes in ({"lanes": 2, "events": 5, "sessions": 3}, {"lanes": 16, "rank_chunk": 50}):
        evaluation = type(restored.evaluation)(**{**restored.evaluation.to_dict(), **changes})
        evaluator = Evaluator(
            restored.model, restored.config, evaluation, data, Split.TEST, recall=recall
        )
        metrics = evaluator(restored.params).metrics
        assert metrics["events_hash"] == values["events_hash"]
        assert metrics["all"]["mrr"] == pytest.approx(values["all"]["mrr"], abs=1e-4)


def test_the_terms_alone_need_memories(data, tmp_path):
    with pytest.raises(flags.Error, match="memory=: the model memory needs one or more of world"):
        run_train(data, tmp_path / "run", "--model=memory")


def test_memory_is_never_ignored_silently(data, remembering):
    restored = restore_run(remembering, "best")
    with pytest.raises(ValueError, match="memory=world,followers,own: needs the log's memory"):
        Evaluator(restored.model, restored.config, restored.evaluation, data, Split.TEST)


def test_terms_are_learned(remembering):
    """The weights have changed from their initial values."""
    terms = restore_run(remembering, "best").params["model"]["terms"]
    assert abs(terms["weights"] - 0.3).max() > 1e-3
    assert abs(terms["by_moment"]["kernel"]).max() > 0
