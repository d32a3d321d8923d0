"""What version 0.1.0 wrote is read by every later one; 0.1.0/README.md says how it was made."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import compare, evaluate, train
from tests.experiments.flags.test_run_flags import parsed

WRITTEN = Path(__file__).parent / "0.1.0"
RUNS = {"hiertcn": 42, "hiergru": 36}
"""By run: the steps that it is continued to."""


@pytest.fixture
def old(tmp_path):
    """A copy that may be written to."""
    return shutil.copytree(WRITTEN, tmp_path / "0.1.0")


@contextlib.contextmanager
def flags_of(define, *arguments):
    """The flags of a command, parsed; gone again at the end."""
    with flagsaver.flagsaver():
        define()
        flags.FLAGS(["command", *arguments])
        yield


def assert_near(values, expected, tolerance):
    """All numbers are, whatever lists and dicts they are in; everything else is equal."""
    if isinstance(expected, dict):
        assert values.keys() >= expected.keys()
        for name in expected:
            assert_near(values[name], expected[name], tolerance)
    elif isinstance(expected, str):
        assert values == expected
    else:
        assert values == pytest.approx(expected, rel=tolerance, abs=tolerance)


def read(path):
    return json.loads(path.read_text())


def train_losses(workdir, steps):
    """The loss and its gradient's norm at each of these steps."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {
        line["step"]: (line["loss"], line["grad_norm"])
        for line in lines
        if line["kind"] == "train" and line["step"] in steps
    }


@pytest.mark.parametrize("run", RUNS)
def test_a_run_is_evaluated(old, run):
    for split in ("test", "valid"):
        expected = read(old / run / f"{split}.json")
        (old / run / f"{split}.json").unlink()
        with flags_of(
            evaluate.define_flags,
            f"--workdir={old}/{run}",
            f"--data_dir={old}/log",
            f"--split={split}",
        ):
            evaluate.main(evaluate.read_settings())
        assert_near(read(old / run / f"{split}.json"), expected, 1e-5)


@pytest.mark.parametrize("run", RUNS)
def test_a_run_resumes(old, run, capsys):
    """Each of its next steps has the loss that it had in the version that wrote the checkpoint."""
    workdir, newest = old / run, max(int(p.name) for p in (old / run / "checkpoints").iterdir())
    with parsed(
        f"--flagfile={workdir}/flags.txt",
        f"--data_dir={old}/log",
        f"--workdir={workdir}",
        f"--steps={RUNS[run]}",
        "--log_every_steps=1",
    ):
        train.main(train.read_settings())
    assert f"resuming from step {newest}\n" in capsys.readouterr().out
    steps = range(newest + 1, RUNS[run] + 1)
    losses, expected = (train_losses(at, steps) for at in (workdir, old / "continued" / run))
    assert len(expected) == len(steps)
    assert_near(losses, expected, 1e-4)
    assert_near(read(workdir / "test.json"), read(old / "continued" / run / "test.json"), 1e-3)


def test_a_finished_comparison_is_read_and_nothing_is_repeated(old):
    before = {
        path: path.read_bytes()
        for path in sorted((old / "comparison").rglob("*.*"))
        if path.is_file() and path.name != "flags.txt"
    }
    with flags_of(
        compare.define_flags,
        f"--flagfile={old}/comparison/flags.txt",
        f"--data_dir={old}/log",
        f"--workdir={old}/comparison",
    ):
        compare.main(compare.read_settings())
    assert set(read(old / "comparison" / "compare.json")["models"]) == {
        "popularity", "stan", "gru_session", "hiertcn",
    }  # fmt: skip
    assert {path: path.read_bytes() for path in before} == before
    assert not list((old / "comparison").rglob("checkpoints"))
