"""experiments.replay --update=train for models: trained on from period to period."""

import json
import shutil

import numpy as np
import pytest

from data_pipelines.histories.events import blocks_of
from experiments.replaying import scoring
from experiments.replaying.retraining import fitted_until, items_known
from experiments.runs.data import open_data
from hiertcn_jax.batch import FIRST_ITEM_ID, UNKNOWN_ID
from tests.experiments.conftest import prepared
from tests.experiments.small_runs import run_train
from tests.experiments.test_replay import run


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    directory = tmp_path_factory.mktemp("log") / "D"
    prepared(directory, users=30, split="time", valid_fraction=0.3, test_fraction=0.3)
    return open_data(directory, "live")


def test_a_view_holds_what_was_known_at_its_end(log):
    data = log
    until = data.manifest["cuts"]["test_after"]
    view = fitted_until(data, until)
    known = items_known(data.vocabulary, until)
    first = data.vocabulary.known_from
    assert known == np.sum(first < until) > data.manifest["counts"]["items"]
    counts = np.zeros(view.vocabulary.size, np.int64)
    for _, block in blocks_of(view.histories):
        for history in block:
            assert history.item_ids.max() < FIRST_ITEM_ID + known
            assert (history.item_ids[history.times < until] != UNKNOWN_ID).all()
            np.add.at(counts, history.item_ids[history.times < until], 1)
    np.testing.assert_array_equal(view.counts_v("train_valid")[2:], counts[2:])
    assert view.content_hash != data.content_hash


@pytest.mark.thorough
def test_a_model_is_trained_on_and_a_stopped_replay_resumes(log, tmp_path, monkeypatch):
    data, workdir = log, tmp_path / "W"
    run_train(open_data(log.directory), workdir, "--steps=4")
    flags = (f"--workdir={workdir}", "--every=9d", "--update=counts,train")
    whole = tmp_path / "whole"
    run(data, *flags, f"--output_dir={whole}")
    rows = json.loads((whole / "replay.json").read_text())["models"]
    train, never = (rows[f"hiertcn ({name})"] for name in ("train", "counts"))
    assert train["updates"] > never["updates"] == 1
    assert train["train_seconds"] > 0
    assert train["events_hash"] == never["events_hash"]
    assert train["all"]["mrr"] != never["all"]["mrr"]

    # A replay that stopped while it scored the last part.
    stopped = tmp_path / "stopped"
    shutil.copytree(whole, stopped)
    folder = stopped / "ranks" / "hiertcn_(train)"
    parts = sorted(folder.glob("*.parquet"))
    parts[-1].unlink()
    shutil.rmtree(folder / "models" / parts[-1].stem, ignore_errors=True)
    scored = []
    score = scoring._score
    monkeypatch.setattr(
        scoring, "_score", lambda *arguments: scored.append(arguments[3]) or score(*arguments)
    )
    run(data, *flags, f"--output_dir={stopped}")
    assert len(scored) == 1
    again = json.loads((stopped / "replay.json").read_text())["models"]["hiertcn (train)"]
    assert again["all"] == train["all"]
