"""The benchmark of whatever accelerator there is, at sizes that any machine can do."""

import json

import pytest

from tests.forked import run_forked
from tests.volume import few


@pytest.mark.thorough
def test_every_case_has_figures(tmp_path):
    report = tmp_path / "accelerator.json"
    command = ["benchmarks.accelerator", f"--json={report}"]
    command += ["--lanes=2", "--events=8", "--sessions=4", "--items=300", "--negatives=16"]
    command += ["--dim=8", "--users=20", "--batches=1", "--seconds=0", "--product_size=8"]
    models = ("hiertcn_memory", "hstu")[: few(1, of=2)]
    command += [f"--models={','.join(models)}"]
    result = run_forked(*command)
    assert result.returncode == 0, result.stderr
    cases = json.loads(report.read_text())["cases"]
    trained = [f"{model} {kind}" for model in models for kind in ("float32", "bfloat16")]
    assert list(cases) == [
        "matmul float32",
        "matmul bfloat16",
        "loader",
        "loader_memory",
        "evaluation",
        *trained,
    ]
    assert not [case for case, figures in cases.items() if "error" in figures]
    for case in (*trained, "loader", "loader_memory", "evaluation"):
        assert cases[case]["events_per_s"] > 0
        assert case in result.stdout


def test_cases_that_do_not_start_in_time_are_named(tmp_path):
    report = tmp_path / "accelerator.json"
    command = ["benchmarks.accelerator", f"--json={report}", "--minutes=0"]
    command += ["--items=300", "--users=5", "--seconds=0", "--product_size=8", "--dim=8"]
    result = run_forked(*command)
    assert result.returncode == 0, result.stderr
    cases = json.loads(report.read_text())["cases"]
    assert cases["hiertcn float32"] == {"error": "not started within --minutes=0.0"}


def test_an_unknown_model_is_one_line(tmp_path):
    command = ["benchmarks.accelerator", "--json=x.json", "--models=bert"]
    result = run_forked(*command)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "models=bert: must be one of hiertcn" in result.stderr
