"""Comparisons: one set of events, cells that are kept, tables that say what they are made of."""

import csv
import json
import shutil
import signal

import numpy as np
import pytest
from absl import flags

from data_pipelines.command import StoppedError
from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from data_pipelines.prepare import prepare
from experiments import compare
from experiments.cells import Cell
from experiments.flags import RunConfig, override
from hiertcn_jax.config import EvalConfig, LossConfig, ModelConfig, OptimizerConfig, TrainConfig
from tests.experiments.runs import signal_in_step

MODELS = ["popularity", "session_popularity", "hiertcn"]

RUN = RunConfig(
    ModelConfig(item_dim=8, gru_dim=8, tcn_channels=(8,)),
    LossConfig(negatives=(("uniform", 16),)),
    OptimizerConfig(),
    TrainConfig(steps=4, lanes=8, events=16, sessions=8),
    EvalConfig(lanes=8, events=32, sessions=16),
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "log"
    prepare(PrepareConfig(synthetic="planted", synthetic_users=40, output_dir=str(directory)))
    return directory


@pytest.fixture(scope="module")
def settings(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("compare")
    return compare.Settings(RUN, data_dir, workdir, MODELS, [0, 1], Split.TEST, 0, {})


@pytest.fixture(scope="module")
def compared(settings):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
        compare.main(settings)
    return json.loads((settings.workdir / "compare.json").read_text())


def test_every_model_is_there_once_a_seed_and_rankers_once(compared):
    assert {model: len(cells) for model, cells in compared["models"].items()} == {
        "popularity": 1,
        "session_popularity": 1,
        "hiertcn": 2,
    }
    assert [cell["seed"] for cell in compared["models"]["hiertcn"]] == [0, 1]


def test_all_cells_scored_the_events_whose_hash_is_told(compared):
    cells = [cell for cells in compared["models"].values() for cell in cells]
    assert {cell["metrics"]["events_hash"] for cell in cells} == {compared["events_hash"]}
    assert len({cell["metrics"]["events"] for cell in cells}) == 1


def test_the_best_of_each_group_is_compared_with_all_others(compared):
    metrics = {
        model: [cell["metrics"] for cell in cells] for model, cells in compared["models"].items()
    }

    def mean(model, group, metric):
        return np.mean([cell[group][metric] for cell in metrics[model]])

    assert len(compared["differences"]) == 3 * 2 * (len(MODELS) - 1)
    for line in compared["differences"]:
        group, metric = line["group"], line["metric"]
        assert line["first"] == max(MODELS, key=lambda model: mean(model, group, "mrr"))
        one, other = (mean(line[side], group, metric) for side in ("first", "second"))
        assert line["difference"] == pytest.approx(one - other)
        assert line["low"] <= line["difference"] <= line["high"]


def test_every_format_says_what_it_is_made_of(settings, compared):
    events_hash = compared["events_hash"]
    for name, lines in (("compare.csv", len(MODELS) * 2 * 3), ("compare_differences.csv", 12)):
        with (settings.workdir / name).open() as file:
            found = list(csv.DictReader(file))
        assert len(found) == lines
        assert {line["events_hash"] for line in found} == {events_hash}
    markdown = (settings.workdir / "compare.md").read_text()
    facts = (events_hash, compared["data_hash"], "seeds: 0, 1", "fit_on: train", "mask_seen: none")
    for fact in (*facts, f"commits: {', '.join(compared['commits'])}"):
        assert fact in markdown
    mrr = [cell["metrics"]["next"]["mrr"] for cell in compared["models"]["hiertcn"]]
    assert compared["summary"]["hiertcn"]["next"]["mrr"] == {
        "mean": pytest.approx(np.mean(mrr)),
        "std": pytest.approx(np.std(mrr, ddof=1)),
    }


def test_each_cell_keeps_the_commit_of_its_code(settings, tmp_path, monkeypatch):
    """Those of before the commit was kept have none; all that occur are told."""
    monkeypatch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
    models = ["popularity", "repeat_last", "markov"]
    for number, commit in enumerate(("1111", "2222-dirty", None), start=1):
        monkeypatch.setattr(compare, "current_commit", lambda commit=commit: commit)
        compare.main(settings._replace(workdir=tmp_path, models=models[:number]))
        if number == 1:
            path = tmp_path / "popularity" / "cell.json"
            values = json.loads(path.read_text())
            assert values.pop("commit") == "1111"
            path.write_text(json.dumps(values))
    compared = json.loads((tmp_path / "compare.json").read_text())
    assert [cells[0]["commit"] for cells in compared["models"].values()] == [
        None,
        "2222-dirty",
        None,
    ]
    assert compared["commits"] == ["unknown", "2222-dirty"]
    assert "commits: unknown, 2222-dirty" in (tmp_path / "compare.md").read_text()


def test_cells_that_are_done_are_kept(settings, compared, monkeypatch):
    monkeypatch.setattr("experiments.cells.train", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr("experiments.cells.evaluate_ranker", lambda *_: pytest.fail("scored again"))
    monkeypatch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
    compare.main(settings)
    assert json.loads((settings.workdir / "compare.json").read_text()) == compared


def test_a_stopped_comparison_goes_on_with_its_cell(settings, compared, tmp_path, monkeypatch):
    monkeypatch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
    one = settings._replace(workdir=tmp_path, models=["hiertcn"], seeds=[1])
    with monkeypatch.context() as patch:
        signal_in_step(patch, 3, signal.SIGTERM)
        with pytest.raises(StoppedError, match="143") as caught:
            compare.main(one)
    assert caught.value.line == "stopped by SIGTERM at step 3, which is saved"
    assert not (tmp_path / "hiertcn" / "seed_1" / "cell.json").exists()
    compare.main(one)
    (cell,) = json.loads((tmp_path / "compare.json").read_text())["models"]["hiertcn"]
    assert cell["metrics"] == compared["models"]["hiertcn"][1]["metrics"]


def test_a_cell_of_other_settings_is_refused_by_name(settings, compared, monkeypatch):
    monkeypatch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
    other = settings._replace(run=override(RUN, {"dropout": 0.25}))
    with pytest.raises(DataError, match=r"model\.dropout: checkpoint 0\.0, this run 0\.25"):
        compare.main(other)


def test_variants_of_one_model_stand_side_by_side(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
    variants = {
        "rolling_popularity": {"events": 9},
        "rolling_300": {"ranker": "rolling_popularity", "events": 300},
        "nogap": {"model": "hiertcn", "gap_decay": "none"},
        "gap": {"model": "hiertcn", "gap_decay": "learned"},
    }
    given = settings._replace(workdir=tmp_path, models=[*variants], seeds=[1], settings=variants)
    compare.main(given)
    models = json.loads((tmp_path / "compare.json").read_text())["models"]
    assert {name: [cell["seed"] for cell in cells] for name, cells in models.items()} == {
        "rolling_popularity": [None],
        "rolling_300": [None],
        "nogap": [1],
        "gap": [1],
    }
    assert len({cells[0]["metrics"]["all"]["mrr"] for cells in models.values()}) == 4
    assert (tmp_path / "rolling_300" / "cell.json").exists()
    made_with = json.loads((tmp_path / "gap" / "seed_1" / "cell.json").read_text())["made_with"]
    assert (made_with["model"]["name"], made_with["model"]["gap_decay"]) == ("hiertcn", "learned")
    markdown = (tmp_path / "compare.md").read_text()
    assert all(f"| {name} |" in markdown for name in variants)
    # A setting that is not there any more is another setting.
    del variants["rolling_300"]["events"]
    with pytest.raises(DataError, match=r"settings\.events: checkpoint 300, this run None"):
        compare.main(given)


def test_cells_of_other_events_stop_the_comparison(tmp_path):
    cells = [
        Cell(name, None, tmp_path / name, {"metrics": {"events_hash": value, "events": 3}})
        for name, value in (("a", "00"), ("b", "01"))
    ]
    with pytest.raises(DataError, match=r"b: scored 3 events of hash 01, but .*a 3 of 00"):
        compare.require_same_events(cells)


def test_settings_of_one_model_change_that_model_alone():
    changed = override(RUN, {"dropout": 0.5, "negatives": "uniform:3", "tcn_channels": [4, 4]})
    assert changed.model == ModelConfig(item_dim=8, gru_dim=8, tcn_channels=(4, 4), dropout=0.5)
    assert changed.loss == LossConfig(negatives=(("uniform", 3),))
    assert changed.train == RUN.train
    with pytest.raises(ValueError, match="dropuot=1: there is no such flag"):
        override(RUN, {"dropuot": 1})
    with pytest.raises(ValueError, match="dropout=2"):
        override(RUN, {"dropout": 2})
    with pytest.raises(flags.IllegalFlagValueError, match="negatives=uniform"):
        override(RUN, {"negatives": "uniform"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cell.json", b'{"metrics":', r"cell.json: not readable as JSON"),
        ("cell.json", b"[]", r"cell.json: is not what a comparison writes; remove it"),
        ("cell.json", b"{}", r"cell.json: is not what a comparison writes; remove it"),
        ("ranks.parquet", b"PAR1", r"ranks.parquet: not readable as Parquet"),
        ("ranks.parquet", None, r"ranks.parquet: no such file"),
    ],
)
def test_a_damaged_cell_is_named(settings, compared, tmp_path, monkeypatch, name, content, message):
    monkeypatch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
    copied = settings._replace(workdir=tmp_path / "W")
    shutil.copytree(settings.workdir, copied.workdir)
    path = copied.workdir / "popularity" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        compare.main(copied)
