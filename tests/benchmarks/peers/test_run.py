import json
import re
import stat
import sys

import pytest

from benchmarks.peers import run
from benchmarks.peers.workers import Slice, Worker, WorkerError
from experiments.runs.data import open_data
from tests.experiments.conftest import prepared
from tests.forked import run_forked

# Speaks like worker_torch and draws its batches, but trains nothing and needs no PyTorch.
FAKE = """
import sys
import numpy as np
from benchmarks.peers.events import Events
from benchmarks.peers.grid import Grid, cut_sessions, grid_batches
from benchmarks.peers.slices import Slices, installed_versions, open_channel

channel = open_channel()
print("what a peer prints is no message")
(events,) = [a.partition("=")[2] for a in sys.argv if a.startswith("--events=")]
sessions = cut_sessions(Events.load(events), Grid().events)
labels = np.count_nonzero(sessions.item_ids_mt) + LIE
describe = lambda: {
    "parameters": 7, "labels_per_epoch": int(labels), "versions": installed_versions("numpy"),
}
for _ in Slices(*channel, describe).watch(
    grid_batches(sessions, Grid(), 0), lambda batch: int(np.count_nonzero(batch.item_ids_bst))
):
    pass
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("log") / "data").directory


def fake_python(tmp_path, lie=0):
    """A program that runs `FAKE` instead of its arguments."""
    script, program = tmp_path / "fake.py", tmp_path / "python"
    script.write_text(FAKE.replace("LIE", str(lie)))
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def settings(tmp_path, data_dir, **environments):
    return run.Settings(
        data_dir, tmp_path / "peers.json", environments, None, 2, 0.1, other_cores=1e9
    )


@pytest.mark.thorough
def test_from_a_log_to_the_report(tmp_path, data_dir, monkeypatch, capsys):
    rows = {name: run.ROWS[name] for name in ("hiertcn", "torch_hiertcn_grid", "recbole_sasrec")}
    monkeypatch.setattr(run, "ROWS", rows)
    monkeypatch.setattr(run, "OURS", ("hiertcn",))
    run.main(settings(tmp_path, data_dir, torch=fake_python(tmp_path)))
    report = json.loads((tmp_path / "peers.json").read_text())
    # RecBole has no environment here.
    assert list(report["models"]) == ["hiertcn", "torch_hiertcn_grid"]
    hiertcn, peer = report["models"].values()
    manifest = json.loads((data_dir / "manifest.json").read_text())
    events = manifest["counts"]["splits"]["train"]["events"]["all"]
    assert hiertcn["labels_per_epoch"] == events
    assert report["machine"]["data"] == manifest["content_hash"]
    assert hiertcn["parameters"] > 128 * manifest["counts"]["items"]
    assert hiertcn["hiertcn_times"] == 1
    assert {"python", "jax", "flax", "numpy"} == set(hiertcn["versions"])
    assert peer["parameters"] == 7
    assert 0 < peer["events_per_s_min"] <= peer["events_per_s"] <= peer["events_per_s_max"]
    printed = capsys.readouterr().out
    assert re.search(r"torch_hiertcn_grid +[\d,]+ events/s, 7 parameters; hiertcn is", printed)


def test_a_worker_with_a_wrong_count_is_refused(tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr(run, "ROWS", {"torch_hiertcn_grid": ("torch", ())})
    lying = settings(tmp_path, data_dir, torch=fake_python(tmp_path, lie=1))
    with pytest.raises(WorkerError, match=r"torch_hiertcn_grid: counts [\d,]+ labels an epoch"):
        run.measure(lying, open_data(data_dir))


def test_a_worker_that_ends_is_named_with_its_last_line(tmp_path):
    program = "import sys; print('first', file=sys.stderr); sys.exit('no such model')"
    worker = Worker("peer", [sys.executable, "-c", program], tmp_path)
    with pytest.raises(WorkerError, match=r"^peer: .* exit code 1: no such model$"):
        worker.wait_until_ready()
    with pytest.raises(WorkerError, match="no such model"):
        worker.train(1.0)
    worker.close()


class BusyMachine:
    """A worker whose first slices are disturbed."""

    def __init__(self, disturbed):
        self.disturbed, self.slices = disturbed, 0

    def train(self, seconds):
        self.slices += 1
        others = 0.9 if self.slices <= self.disturbed else 0.05
        return Slice(100, 1, seconds, 2 * seconds, others * seconds)


def test_a_disturbed_slice_is_repeated(tmp_path):
    quiet = settings(tmp_path, tmp_path)._replace(other_cores=0.1)
    worker = BusyMachine(disturbed=3)
    assert run.train_undisturbed("peer", worker, quiet).other_cpu_seconds < 0.1
    assert worker.slices == 4
    worker = BusyMachine(disturbed=run.TRIES)
    with pytest.raises(WorkerError, match=r"keep 0\.9 cores busy"):
        run.train_undisturbed("peer", worker, quiet)
    assert worker.slices == run.TRIES


def test_the_figures_of_a_row():
    def piece(labels, seconds, others=0.0):
        return Slice(labels, 4, seconds, 1.5 * seconds, others)

    rounds = [
        # 300 and 100, 400 and 100, 100 and 50 labels a second.
        {"hiertcn": piece(600, 2.0), "hiertcn_full_softmax": piece(2, 2.0), "x": piece(200, 2.0)},
        {"hiertcn": piece(400, 1.0), "hiertcn_full_softmax": piece(9, 1.0), "x": piece(100, 1.0)},
        {
            "hiertcn": piece(200, 2.0),
            "hiertcn_full_softmax": piece(100, 2.0),
            "x": piece(100, 2.0, others=0.5),
        },
    ]
    assert run.summarise("x", rounds) == {
        "events_per_s": 100,
        "events_per_s_min": 50,
        "events_per_s_max": 100,
        "batches_per_s": 2.0,
        "cores": 1.5,
        "other_cores_max": 0.25,
        # Within a round: 3, 4, 2; and 0.01, 0.09, 1. Not the ratio of the medians, 300 / 100.
        "hiertcn_times": 3.0,
        "hiertcn_full_softmax_times": 0.09,
    }


def command(*arguments):
    return run_forked("benchmarks.peers.run", *arguments)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--env=keras=/bin/sh"], 2, "--env=keras=/bin/sh: expected one of torch"),
        (["--env=torch=/nowhere/python"], 2, "/nowhere/python is no program"),
        (["--env=gru4rec=/bin/sh"], 2, "--gru4rec_dir: --env=gru4rec needs it"),
        ([], 1, "manifest.json: no such file"),
    ],
)
def test_exit_codes_and_the_one_line(tmp_path, arguments, code, message):
    done = command(f"--data_dir={tmp_path}", f"--json={tmp_path}/peers.json", *arguments)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
