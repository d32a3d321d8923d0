"""Comparisons: one set of events, cells that are kept, tables that state their origin."""

import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from data_pipelines.commands.command import StoppedError
from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from data_pipelines.prepare import prepare
from experiments import compare
from experiments.comparison import cells as cells_lib
from experiments.comparison.cells import Cell
from experiments.judging.config import EvalConfig
from experiments.judging.rankers import evaluate_ranker, fitted_histories
from experiments.judging.result_tables import LEGEND
from experiments.judging.results import read_ranks
from experiments.runs.config import RunConfig, TrainConfig
from experiments.runs.data import open_data
from experiments.runs.locking import lock_workdir
from hiertcn_jax.baselines.popularity import Popularity
from hiertcn_jax.baselines.recent_items import MaxItem, MovingAverage
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models.hiertcn import HierTCNConfig
from tests.experiments.small_runs import ROOT, signal_in_step
from tests.given_files import write_embeddings

MODELS = ["popularity", "session_popularity", "hiertcn"]

RUN = RunConfig(
    HierTCNConfig(item_dim=8, gru_dim=8, tcn_channels=(8,)),
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


def cell_directory(workdir, model):
    return workdir / model / "seed_0" if model == "hiertcn" else workdir / model


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


def test_every_format_states_its_origin(settings, compared):
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


def test_the_command_needs_no_git_and_its_flagfile_repeats_it(data_dir, tmp_path):
    (tmp_path / "settings.json").write_text('{"last": {"ranker": "repeat_last"}}')
    arguments = (f"--workdir={tmp_path / 'W'}", f"--settings={tmp_path / 'settings.json'}")
    done = subprocess.run(
        [sys.executable, "-m", "experiments.compare", f"--data_dir={data_dir}", *arguments,
         "--models=last,popularity", "--seeds=3,1", "--split=valid", "--mask_seen=session"],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    compared = json.loads((tmp_path / "W" / "compare.json").read_text())
    assert compared["commits"] == ["unknown"]
    for text in (
        "last: done, model 1 of 2\n",
        " valid events",
        "commits: unknown",
        "mask_seen: session",
        "next: averages over users",
        LEGEND,
        f"results: {tmp_path / 'W'}/compare.md, .json, .csv\n"
        f"look at it: hiertcn report --workdir={tmp_path / 'W'} --output=report.html\n",
    ):
        assert text in done.stdout
    # Paths and hashes may be longer.
    tables = done.stdout.partition("commits: ")[2].rpartition("results: ")[0]
    assert max(map(len, tables.splitlines())) <= 80
    with flagsaver.flagsaver():
        compare.define_flags()
        flags.FLAGS(["compare", f"--flagfile={tmp_path / 'W' / 'flags.txt'}"])
        again = compare.read_settings()
    assert again.models == ["last", "popularity"] and again.seeds == [3, 1]
    assert again.settings == {"last": {"ranker": "repeat_last"}}
    assert (again.split, again.run.evaluation.mask_seen) == (Split.VALID, "session")


def test_each_cell_keeps_the_commit_of_its_code(settings, tmp_path, monkeypatch):
    """Cells written before commits were recorded have none; the table lists all that occur."""
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
    monkeypatch.setattr(
        "experiments.comparison.cells.train", lambda *_: pytest.fail("trained again")
    )
    monkeypatch.setattr(
        "experiments.comparison.cells.evaluate_ranker", lambda *_: pytest.fail("scored again")
    )
    monkeypatch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
    compare.main(settings)
    assert json.loads((settings.workdir / "compare.json").read_text()) == compared


def test_a_stopped_comparison_resumes_its_cell(settings, compared, tmp_path, monkeypatch):
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


def test_seen_items_are_masked_for_every_model(settings, compared, tmp_path, monkeypatch):
    monkeypatch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
    run = RUN.override({"mask_seen": "user"})
    masked = settings._replace(workdir=tmp_path, seeds=[0], run=run)
    compare.main(masked)
    found = json.loads((tmp_path / "compare.json").read_text())
    assert found["mask_seen"] == "user" and found["events_hash"] == compared["events_hash"]
    assert "mask_seen: user" in (tmp_path / "compare.md").read_text()
    for model in MODELS:
        plain = read_ranks(cell_directory(settings.workdir, model) / "ranks.parquet")
        ranks = read_ranks(cell_directory(tmp_path, model) / "ranks.parquet")
        # With fewer items to compete, no rank is worse, and many are better.
        assert (ranks["rank"] <= plain["rank"]).all(), model
        assert (ranks["rank"] < plain["rank"]).mean() > 0.5, model
    for model in MODELS:
        with pytest.raises(DataError, match=r"mask_seen: checkpoint (None|none), this run user"):
            compare.main(settings._replace(models=[model], seeds=[0], run=run))
        with pytest.raises(DataError, match=r"mask_seen: checkpoint user, this run (None|none)"):
            compare.main(settings._replace(models=[model], seeds=[0], workdir=tmp_path))


def test_cells_older_than_masks_and_commits_are_valid(settings, compared, monkeypatch):
    monkeypatch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
    monkeypatch.setattr(
        "experiments.comparison.cells.evaluate_ranker", lambda *_: pytest.fail("scored again")
    )
    path = settings.workdir / "popularity" / "cell.json"
    values = json.loads(path.read_text())
    before = {name: value for name, value in values.items() if name != "commit"}
    for name in ("mask_seen", "embeddings_hash"):
        before["made_with"].pop(name)
    try:
        path.write_text(json.dumps(before))
        compare.main(settings._replace(models=["popularity"]))
    finally:
        path.write_text(json.dumps(values))


def test_given_embeddings_take_the_place_of_the_svd(settings, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
    data = open_data(data_dir)
    item_ids = data.vocabulary.item_ids.to_list()
    path, ids_path = write_embeddings(tmp_path, item_ids[::-1], width=5, dtype="f2")
    run = RUN.override({"item_embeddings": str(path), "item_embedding_ids": str(ids_path)})
    models = {"moving_average": MovingAverage, "max_item": MaxItem, "popularity": Popularity}
    given = settings._replace(workdir=tmp_path / "W", models=[*models], run=run)
    compare.main(given)
    found = json.loads((given.workdir / "compare.json").read_text())["models"]
    vectors_vd = np.zeros((data.vocabulary.size, 5), np.float32)
    vectors_vd[2:] = np.load(path)[::-1]
    for model, ranker in models.items():
        vectors = {} if model == "popularity" else {"item_vectors_vd": vectors_vd}
        expected = ranker(data.vocabulary.size, **vectors)
        expected.fit(fitted_histories(data, "train"))
        assert found[model][0]["metrics"] == evaluate_ranker(expected, data, Split.TEST).metrics
        # Nothing is learned if embeddings are given.
        assert (found[model][0]["train_events_per_s"] is None) == bool(vectors)
    write_embeddings(tmp_path, item_ids[::-1], width=5, dtype="f2", seed=1)
    compare.main(given._replace(models=["popularity"]))
    for model in ("moving_average", "max_item"):
        with pytest.raises(DataError, match="other settings: item_embeddings: another file; give"):
            compare.main(given._replace(models=[model]))


def test_the_training_speed_of_a_ranker_is_that_of_its_fit(
    settings, data_dir, tmp_path, monkeypatch
):
    """The clock advances by a second at each look, and whenever a history is read."""
    clock = itertools.count()
    monkeypatch.setattr(cells_lib.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))

    def read(data, fit_on, level):
        for history in fitted_histories(data, fit_on, level):
            next(clock)
            yield history

    monkeypatch.setattr(cells_lib, "fitted_histories", read)
    compare.main(settings._replace(workdir=tmp_path, models=["popularity", "repeat_last"]))
    models = json.loads((tmp_path / "compare.json").read_text())["models"]
    events = open_data(data_dir).fitted_events("train")
    assert models["popularity"][0]["train_events_per_s"] == events
    assert models["repeat_last"][0]["train_events_per_s"] is None
    assert models["repeat_last"][0]["score_events_per_s"] > 0


def test_a_cell_of_other_settings_is_refused_by_name(settings, compared, monkeypatch):
    monkeypatch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
    other = settings._replace(run=RUN.override({"dropout": 0.25}))
    with pytest.raises(DataError, match=r"model\.dropout: checkpoint 0\.0, this run 0\.25"):
        compare.main(other)


def test_variants_of_one_model_stand_side_by_side(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
    variants = {
        "rolling_popularity": {"events": 9},
        "rolling_300": {"ranker": "rolling_popularity", "events": 300},
        "gap": {"model": "hiertcn", "gap_decay": "learned"},
    }
    given = settings._replace(workdir=tmp_path, models=[*variants], seeds=[1], settings=variants)
    compare.main(given)
    models = json.loads((tmp_path / "compare.json").read_text())["models"]
    assert {name: [cell["seed"] for cell in cells] for name, cells in models.items()} == {
        "rolling_popularity": [None],
        "rolling_300": [None],
        "gap": [1],
    }
    assert len({cells[0]["metrics"]["all"]["mrr"] for cells in models.values()}) == 3
    assert (tmp_path / "rolling_300" / "cell.json").exists()
    made_with = json.loads((tmp_path / "gap" / "seed_1" / "cell.json").read_text())["made_with"]
    assert (made_with["model"]["name"], made_with["model"]["gap_decay"]) == ("hiertcn", "learned")
    markdown = (tmp_path / "compare.md").read_text()
    assert all(f"| {name} |" in markdown for name in variants)
    # Removing a setting changes the settings.
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
    changed = RUN.override({"dropout": 0.5, "negatives": "uniform:3", "tcn_channels": [4, 4]})
    assert changed.model == HierTCNConfig(item_dim=8, gru_dim=8, tcn_channels=(4, 4), dropout=0.5)
    assert changed.loss == LossConfig(negatives=(("uniform", 3),))
    assert changed.train == RUN.train
    with pytest.raises(ValueError, match="dropuot=1: there is no such flag"):
        RUN.override({"dropuot": 1})
    with pytest.raises(ValueError, match="dropout=2"):
        RUN.override({"dropout": 2})
    with pytest.raises(ValueError, match="negatives=uniform: expected source:count"):
        RUN.override({"negatives": "uniform"})


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


def test_a_cell_is_made_by_one_process_at_a_time(settings, compared, tmp_path, monkeypatch):
    workdir, made = tmp_path / "W", []
    shutil.copytree(settings.workdir, workdir)
    for path in workdir.rglob("cell.json"):
        path.unlink()
    write = cells_lib.write_ranks

    def write_alone(path, *arguments):
        with pytest.raises(BlockingIOError, match="trains here"), lock_workdir(path.parent):
            pass
        made.append(path)
        write(path, *arguments)

    monkeypatch.setattr(cells_lib, "write_ranks", write_alone)
    compare.main(settings._replace(workdir=workdir))
    assert len(made) == len(list(workdir.rglob("cell.json"))) == 4
