"""The benchmark of the two item modes on tiny catalogues."""

import json

import pytest

from benchmarks.item_modes import Command, compare, main
from benchmarks.step_rows import Settings
from hiertcn_jax.batch import Bucket
from hiertcn_jax.models.hiertcn import HierTCNConfig

SETTINGS = Settings(
    models=("hiertcn",),
    bucket=Bucket(4, 8, 4),
    grid_lanes=1,
    items=0,
    negatives=8,
    config=HierTCNConfig(item_dim=4, gru_dim=4, tcn_channels=(4,)),
    users=20,
    batches=1,
    rounds=1,
    seconds=0.0,
)


@pytest.mark.thorough
def test_the_report_has_every_case_and_figure(tmp_path):
    main(Command(SETTINGS, (30,), str(tmp_path / "modes.json")))
    report = json.loads((tmp_path / "modes.json").read_text())
    assert list(report) == ["machine", "commit", "cases"]
    cases = report["cases"]
    assert set(cases) == {"rows_30", "dense_30", "all"}
    assert cases.pop("all")["rows_flatness"] >= 0
    for case in cases.values():
        assert set(case) >= {"events_per_s", "bytes_per_event", "peak_bytes"}
        assert all(value > 0 for value in case.values())


def test_flatness_is_the_largest_deviation_over_catalogues():
    turns = {
        # Means 100, deviations 0 and 5 %; then mean 50, 20 %. The median over three turns.
        "rows_10": [100.0, 95.0, 40.0],
        "rows_1000": [100.0, 105.0, 60.0],
        "dense_10": [200.0, 190.0, 80.0],
        "dense_1000": [50.0, 52.5, 30.0],
    }
    figures = compare(turns, (10, 1000))
    assert figures["rows_flatness"] == pytest.approx(0.05)
    # Slower by 2 at 10 items, faster by 2 at 1000: equal at their geometric mean.
    assert figures["crossover_items"] == 100


def test_without_a_crossover_none_is_named():
    turns = {"rows_10": [9.0], "rows_20": [9.0], "dense_10": [8.0], "dense_20": [7.0]}
    assert compare(turns, (10, 20)) == {"rows_flatness": 0.0}
