"""The training benchmark on tiny sizes: it runs, and its report has every figure."""

import json

import numpy as np
import pytest

from benchmarks.step_rows import Row, Settings, equal_config
from benchmarks.train_step import Command, main, timed_figures
from benchmarks.users import draw_users
from hiertcn_jax.batch import Bucket
from hiertcn_jax.models.budget import count_parameters
from hiertcn_jax.models.hiertcn import HierTCNConfig
from tests.volume import mostly_thorough

SETTINGS = Settings(
    models=("hiertcn", "hiergru_grid", "hiertcn_grid", "hiertcn_grid_tight"),
    bucket=Bucket(4, 8, 4),
    grid_lanes=2,
    items=60,
    negatives=8,
    config=HierTCNConfig(item_dim=16, gru_dim=16, tcn_channels=(16, 16), item_mode="rows"),
    users=20,
    batches=1,
    rounds=1,
    seconds=0.0,
)
FIGURES = {
    "events_per_s",
    "useful_slots",
    "compile_s",
    "flops_per_event",
    "bytes_per_event",
    "peak_bytes",
    "sequential_steps",
    "matmul_peak_fraction",
    "hiertcn_times_as_fast",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("train_step") / "train_step.json"
    main(Command(SETTINGS, str(path)))
    return json.loads(path.read_text())


def test_the_report_has_every_row_and_figure(report):
    assert list(report) == ["machine", "commit", "models"]
    assert list(report["models"]) == list(SETTINGS.models)
    for figures in report["models"].values():
        assert set(figures) >= FIGURES
        assert all(np.isfinite(value) for value in figures.values())
    assert report["machine"]["matmul_flops_per_s"] > 0
    assert report["machine"]["settings"]["bucket"]["sessions"] == 4


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("hiertcn", 4),
        ("hiergru", 8),
        ("gru_user", 8),
        ("tcn_user", 0),
        ("sasrec", 0),
        ("esasrec", 0),
        ("hstu", 0),
        ("hiertcn_memory", 4),
        ("hiertcn_grid", 10),
        ("hiergru_grid", 10 * 20),
        ("hiertcn_grid_tight", 10),
    ],
)
def test_loops_have_the_length_of_the_layout(name, steps):
    assert Row(name, SETTINGS, draw_users(20, 60, 0)).sequential_steps() == steps


def test_only_real_events_count(report):
    grid, tight = (report["models"][name] for name in ("hiertcn_grid", "hiertcn_grid_tight"))
    assert grid["events_per_step"] == tight["events_per_step"]
    assert grid["useful_slots"] < tight["useful_slots"] < 1
    slots = 2 * 10 * 20
    assert grid["useful_slots"] == pytest.approx(grid["events_per_step"] / slots, abs=0.5 / slots)


@pytest.mark.parametrize(
    "name",
    mostly_thorough(["hiergru", "gru_user", "tcn_user", "sasrec", "esasrec", "hstu"], "hstu"),
)
def test_models_are_as_large_as_hiertcn(name):
    hiertcn = HierTCNConfig()
    config = equal_config(name, hiertcn)
    assert config.name == name
    # Half a step of 8 in a width of 88 or more.
    assert count_parameters(config) == pytest.approx(count_parameters(hiertcn), rel=0.06)


def test_figures_of_the_clock():
    figures = timed_figures(
        [10.0, 40.0, 20.0], {"flops_per_event": 3}, [100.0, 100.0, 200.0], [30.0, 40.0, 50.0]
    )
    assert figures["events_per_s"] == 20
    assert (figures["events_per_s_lowest"], figures["events_per_s_highest"]) == (10, 40)
    # Medians of what was measured in the same turn: 0.1, 0.4, 0.1 and 3, 1, 2.5.
    assert figures["matmul_peak_fraction"] == pytest.approx(0.1 * 3)
    assert figures["hiertcn_times_as_fast"] == 2.5
    assert "hiertcn_times_as_fast" not in timed_figures([1.0], {"flops_per_event": 1}, [1.0], None)
