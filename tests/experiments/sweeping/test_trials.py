"""A trial is a separate process: reported, stopped, waited for, and asked why it failed."""

import contextlib
import json
import os
import sys
import types

import pytest

from experiments.runs import locking
from experiments.sweeping import trials
from experiments.sweeping.trials import TrialError, run_training
from tests.experiments.small_runs import FLAGS


def test_a_trial_that_is_worse_is_pruned_and_its_run_told_to_stop(data, tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "_POLL_SECONDS", 0.05)
    lines = [
        *FLAGS,
        "--steps=100000",
        f"--data_dir={data.directory}",
        f"--workdir={tmp_path / 'w'}",
    ]
    seen = []

    def stops_after(validation):
        seen.append(validation)
        return len(seen) == 2

    assert run_training(tmp_path / "w", lines, "all/mrr", stops_after) is None
    assert [validation.number for validation in seen] == [1, 2]
    journal = (tmp_path / "w" / "metrics.jsonl").read_text()
    values = [json.loads(line) for line in journal.splitlines()]
    reported = [line["all/mrr"] for line in values if line["kind"] == "valid"]
    assert [validation.value for validation in seen] == reported[:2]


def test_a_failed_trial_reports_its_last_line(data, tmp_path):
    lines = [*FLAGS, "--data_dir=/nowhere", f"--workdir={tmp_path / 'w'}"]
    with pytest.raises(TrialError, match=r"exit code 1: error: /nowhere/manifest\.json"):
        run_training(tmp_path / "w", lines, "all/mrr", lambda validation: False)


TRAINS_AT_ONCE = """
import sys
from pathlib import Path
from data_pipelines.commands.command import fail
from experiments.runs.locking import lock_workdir

workdir = Path(sys.argv[1])
try:
    with lock_workdir(workdir):
        (workdir / "valid.json").write_text('{"all": {"mrr": 0.5}}')
except OSError as error:
    fail(error, 1)
"""


@pytest.mark.parametrize(("code", "recurs"), [(1, False), (2, True), (-6, False)])
def test_refused_flags_would_be_refused_again(tmp_path, monkeypatch, code, recurs):
    ends = f"import os; os._exit({code})" if code > 0 else "import os; os.abort()"
    monkeypatch.setattr(trials, "child_command", lambda *_: [sys.executable, "-c", ends])
    with pytest.raises(TrialError) as caught:
        run_training(tmp_path / "w", [], "all/mrr", lambda validation: False)
    assert caught.value.recurs == recurs


@pytest.mark.parametrize("late", [False, True], ids=["from before", "it was faster than our run"])
def test_another_run_in_the_workdir_is_waited_for(tmp_path, monkeypatch, capsys, late):
    """Also a run that gets the lock between our check and our run, which is then refused."""
    workdir = tmp_path / "w"
    workdir.mkdir()
    waits = contextlib.ExitStack()
    waits.enter_context(locking.lock_workdir(workdir))
    # The other run ends during the wait.
    clock = types.SimpleNamespace(sleep=lambda seconds: waits.close())
    monkeypatch.setattr(locking, "time", clock)
    looks = iter([lambda path: None] if late else [])
    monkeypatch.setattr(
        trials, "wait_until_free", lambda path: next(looks, locking.wait_until_free)(path)
    )
    command = [sys.executable, "-c", TRAINS_AT_ONCE, str(workdir)]
    monkeypatch.setattr(trials, "child_command", lambda *_: command)
    metrics = run_training(workdir, ["--a=1"], "all/mrr", lambda validation: False)
    assert metrics == {"all": {"mrr": 0.5}}
    assert f"waiting: {workdir}: process {os.getpid()} trains here" in capsys.readouterr().out
    assert ("trains here" in (workdir / "log.txt").read_text()) == late


def test_an_earlier_attempts_output_is_not_the_reason(tmp_path, monkeypatch):
    workdir = tmp_path / "w"
    workdir.mkdir()
    (workdir / "log.txt").write_text("error: W: process 7 trains here, and a workdir takes one\n")
    command = [sys.executable, "-c", "import os; os.abort()"]
    monkeypatch.setattr(trials, "child_command", lambda *_: command)
    with pytest.raises(TrialError, match="exit code -6: nothing was written"):
        run_training(workdir, [], "all/mrr", lambda validation: False)
