"""The benchmark of imports and of the first step."""

import json

import pytest

from benchmarks import startup
from benchmarks.startup import Settings, main, seconds_to_first_step
from tests.experiments.conftest import prepared

TINY = (
    *("--item_dim=4", "--gru_dim=4", "--tcn_channels=4", "--loss=cross_entropy"),
    *("--lanes=2", "--events=8", "--sessions=4", "--steps=2"),
)


def test_every_import_is_compared_with_that_of_jax(tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "IMPORTS", {"jax": "json", "hiertcn_jax": "hiertcn_jax"})
    main(Settings(1, False, str(tmp_path / "startup.json")))
    report = json.loads((tmp_path / "startup.json").read_text())
    assert list(report) == ["machine", "commit", "cases"]
    assert set(report["cases"]) == {"jax", "hiertcn_jax"}
    assert all(case["import_s"] > 0 for case in report["cases"].values())
    assert report["cases"]["jax"]["times_import_of_jax"] == 1


@pytest.mark.thorough
def test_the_first_step_of_a_run(tmp_path):
    prepared(tmp_path / "data", users=12)
    arguments = [f"--data_dir={tmp_path / 'data'}", *TINY]
    assert seconds_to_first_step(arguments, tmp_path / "run") > 0
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["step"] == 1


def test_a_run_that_fails_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match=r"no first step of: .*--nothing_of_that_name"):
        seconds_to_first_step(["--nothing_of_that_name"], tmp_path / "run")
