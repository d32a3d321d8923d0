"""Levels of counts in evaluate and compare: other figures, in files and rows of their own."""

import json

import numpy as np
import polars as pl
import pytest
from absl import flags
from absl.testing import flagsaver

from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from experiments import compare, evaluate
from experiments.comparison import cells as cells_lib
from experiments.flags.data_flags import DataLocation
from hiertcn_jax.memory.levels import parse
from tests.experiments.small_runs import contents, run_train, settings_of

MEMORY = ("--model=memory", "--memory=world,followers,own", "--loss=cross_entropy")
LEVELS = ("fitted", "live", "delayed:6h", "static")


@pytest.fixture(scope="module")
def remembering(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("memory") / "run"
    run_train(data, workdir, *MEMORY, "--steps=20")
    return workdir


def evaluated(workdir, level, **changes):
    settings = evaluate.Settings(workdir, Split.TEST, "best", None, DataLocation(), None)
    evaluate.main(settings._replace(level=parse(level), **changes))


def test_each_level_has_figures_and_a_file_of_its_own(remembering, tmp_path, capsys):
    before = contents(remembering)
    values = {}
    for level in LEVELS:
        evaluated(remembering, level, ranks_out=tmp_path / "ranks.parquet")
        name = "test" if level == "fitted" else f"test.counts_{parse(level).file_name}"
        values[level] = json.loads((remembering / f"{name}.json").read_text())
        assert values[level]["counts"] == level
        rank_n = pl.read_parquet(tmp_path / "ranks.parquet")["rank"].to_numpy()
        assert np.mean(1 / rank_n) == pytest.approx(values[level]["all"]["mrr"])
    assert len({one["all"]["mrr"] for one in values.values()}) == len(LEVELS)
    assert len({one["events_hash"] for one in values.values()}) == 1
    now = contents(remembering)
    assert all(now[path] == content for path, content in before.items())
    assert "written to" in capsys.readouterr().out


def test_slices_of_a_level_have_its_name(remembering):
    evaluated(remembering, "live", slices=True)
    values = json.loads((remembering / "test.counts_live_slices.json").read_text())
    assert values["counts"] == "live"
    assert not (remembering / "test_slices.json").exists()


@pytest.mark.parametrize("memory", [(), ("--model=memory", "--memory=own")])
def test_a_model_without_counts_of_others_has_no_level(data, whole, tmp_path, memory):
    workdir = whole
    if memory:
        workdir = tmp_path / "own"
        run_train(data, workdir, *memory, "--loss=cross_entropy", "--steps=2")
    with pytest.raises(DataError, match=r"counts=live: \w+ has no counts of what others do"):
        evaluated(workdir, "live")
    assert not list(workdir.glob("test.counts*"))


def test_evaluate_reads_the_level_of_its_flag():
    with flagsaver.flagsaver():
        evaluate.define_flags()
        flags.FLAGS(["evaluate", "--workdir=W"])
        assert evaluate.read_settings().level == parse("fitted")
        flags.FLAGS(["evaluate", "--workdir=W", "--counts=delayed:15m"])
        assert evaluate.read_settings().level == parse("delayed:15m")
        flags.FLAGS(["evaluate", "--workdir=W", "--counts=lively"])
        with pytest.raises(ValueError, match="flag --counts: counts=lively: must be fitted, live"):
            evaluate.read_settings()


@pytest.fixture(scope="module")
def compared(data, tmp_path_factory):
    """A comparison at two levels, how often it trained, and the same once more."""
    workdir, trained = tmp_path_factory.mktemp("compared"), []
    run = settings_of(data, workdir, *MEMORY, "--steps=6").run
    names = ["popularity", "stan", "memory"]
    levels = (parse("fitted"), parse("live"))
    settings = compare.Settings(run, data.directory, workdir, names, [0], Split.TEST, 0, {})
    settings = settings._replace(levels=levels)
    train = cells_lib.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
        patch.setattr(cells_lib, "train", lambda *a, **k: (trained.append(a[1]), train(*a, **k)))
        compare.main(settings)
        first = json.loads((workdir / "compare.json").read_text())
        compare.main(settings)
    return workdir, first, trained


def test_a_comparison_has_a_row_for_each_level(compared):
    workdir, values, trained = compared
    rows = {"popularity": None, "stan": "fitted", "stan (live)": "live"}
    rows |= {"memory": "fitted", "memory (live)": "live"}
    assert {row: one["counts"] for row, one in values["summary"].items()} == rows
    assert values["counts"] == ["fitted", "live"]
    assert {row: len(cells) for row, cells in values["models"].items()} == dict.fromkeys(rows, 1)
    mrr = {row: cells[0]["metrics"]["all"]["mrr"] for row, cells in values["models"].items()}
    assert len(set(mrr.values())) == len(rows)
    # One training serves all levels: both score the checkpoint that lies there.
    assert set(trained) == {workdir / "memory" / "seed_0"}
    assert values == json.loads((workdir / "compare.json").read_text())
    markdown = (workdir / "compare.md").read_text()
    for row, causal in (
        ("popularity", "no"),
        ("stan", "no, fitted"),
        ("stan (live)", "yes, live"),
        ("memory (live)", "no, live"),
    ):
        assert any(f"| {row} | 1 | {causal} |" in line for line in markdown.splitlines()), row


def test_cells_of_levels_are_distinct(compared):
    workdir, *_ = compared
    made = {
        str(path.parent.relative_to(workdir)): json.loads(path.read_text())["made_with"]
        for path in workdir.rglob("cell.json")
    }
    assert set(made) == {
        "popularity",
        "stan",
        "stan.counts_live",
        "memory/seed_0",
        "memory.counts_live/seed_0",
    }
    assert {name: one.get("counts") for name, one in made.items() if "counts" in one} == {
        "stan.counts_live": "live",
        "memory.counts_live/seed_0": "live",
    }


def test_levels_are_listed_once_each():
    with flagsaver.flagsaver():
        compare.define_flags()
        base = ["compare", "--data_dir=D", "--workdir=W"]
        for text, message in (("live,live", "live is there twice"), ("", "must be one or more")):
            flags.FLAGS([*base, f"--counts={text}"])
            with pytest.raises(ValueError, match=message):
                compare.read_settings()
        flags.FLAGS([*base, "--counts=live", "--models=vsknn"])
        assert compare.read_settings().levels == (parse("live"),)
