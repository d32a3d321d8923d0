"""Several devices and processes give the run of one device, whoever is killed or stopped.

Eight simulated devices in one process begin. From their checkpoint, one device resumes, and so do
two processes of two devices each, undisturbed and stopped. (Killed: test_kills.py.)
"""

import re
import shutil
import signal
import socket
import threading
import types

import jax
import numpy as np
import pytest
from absl import flags

from data_pipelines.commands.command import StoppedError
from experiments import train
from experiments.processes import cluster
from experiments.runs.restore import restore_run
from hiertcn_jax.devices.mesh import MeshError
from hiertcn_jax.saving.checkpoint import CheckpointError
from tests.experiments.cluster_runs import (
    assert_close,
    ended,
    free_port,
    results,
    start,
    state_of,
    wait_for_start,
)
from tests.experiments.small_runs import checkpoint_steps, contents, journal, run_train, settings_of

STEPS = 40
RUN = (
    "--item_mode=rows", "--clip_norm=1", f"--steps={STEPS}", "--checkpoint_every_steps=20",
    "--eval_every_epochs=1000", "--log_every_steps=20",
)  # fmt: skip
MESH = ("--data_parallelism=2", "--model_parallelism=2")


def begun(directory, name):
    """A copy of the run that eight devices began."""
    workdir = directory / name
    shutil.copytree(directory / "eight", workdir)
    return workdir


@pytest.fixture(scope="module")
def eight(data, tmp_path_factory):
    """The folder of all workdirs; `eight` holds six steps on eight devices."""
    directory = tmp_path_factory.mktemp("cluster")
    run_train(data, directory / "eight", *RUN, "--steps=6", "--data_parallelism=4",
              "--model_parallelism=2")  # fmt: skip
    return directory


@pytest.fixture(scope="module")
def one(data, eight):
    """One device resumes."""
    workdir = begun(eight, "one")
    run_train(data, workdir, *RUN)
    return workdir


@pytest.fixture(scope="module")
def two(data, eight):
    """Two processes resume, are stopped and resume again.

    Their workdir, and (exit code, stdout, stderr) of each, when stopped and at the end.
    """
    workdir = begun(eight, "two")
    # One of them gets the signal; both stop after the same step.
    processes = start(data, workdir, eight, *RUN, *MESH)
    wait_for_start(workdir, processes)
    processes[1].send_signal(signal.SIGTERM)
    stopped = ended(processes)
    assert [code for code, _, _ in stopped] == [143, 143], stopped
    step = checkpoint_steps(workdir)[-1]
    return workdir, step, stopped, ended(start(data, workdir, eight, *RUN, *MESH))


def test_eight_devices_begin_as_one_does(data, eight, tmp_path):
    run_train(data, tmp_path / "run", *RUN, "--steps=6")
    for split in ("valid", "test"):
        (counted, measured), (alone, values) = (
            results(workdir, split) for workdir in (eight / "eight", tmp_path / "run")
        )
        assert counted == alone
        assert_close(measured, values, 1e-5)
    assert state_of(eight / "eight", 6)["batches"] == state_of(tmp_path / "run", 6)["batches"]
    shared, alone = (restore_run(w, "last") for w in (eight / "eight", tmp_path / "run"))
    assert shared.params["items"].input_vd.shape == (data.vocabulary.size, 4)
    assert_close(shared.params, alone.params, 1e-5)


def test_two_processes_stop_after_the_same_step_which_is_saved(two):
    workdir, step, stopped, done = two
    assert 6 <= step < STEPS
    for _, _, error in stopped:
        assert f"stopped by SIGTERM at step {step}, which is saved; resume with: " in error
    assert [code for code, _, _ in done] == [0, 0]
    for (_, first, _), (_, second, _), begin in ((*stopped, 6), (*done, step)):
        assert f"resuming from step {begin}\n" in first
        assert re.sub(r"\[Gloo\].*\n", "", second) == ""
    assert f"{workdir}, checkpoint of step {STEPS}\n" in done[0][1]


def test_one_device_and_two_processes_resume_the_same_checkpoint(one, two):
    workdir, *_ = two
    for split in ("valid", "test"):
        (counted, measured), (alone, values) = (results(w, split) for w in (workdir, one))
        assert counted == alone
        assert_close(measured, values, 0.02)
    together, alone = (state_of(w, STEPS) for w in (workdir, one))
    assert together["batches"] == alone["batches"]
    lines, alone = (
        [line for line in journal(w) if line["kind"] == "train"] for w in (workdir, one)
    )
    assert [line["events"] for line in lines] == [line["events"] for line in alone]
    assert_close([line["loss"] for line in lines], [line["loss"] for line in alone], 1e-3)


@pytest.mark.thorough
def test_two_stopped_processes_end_like_undisturbed_ones(data, eight, two):
    workdir, *_ = two
    whole = begun(eight, "undisturbed")
    assert [code for code, _, _ in ended(start(data, whole, eight, *RUN, *MESH))] == [0, 0]
    assert journal(workdir) == journal(whole)
    files = [
        {path: content for path, content in contents(w).items() if path.suffix == ".json"}
        for w in (workdir, whole)
    ]
    shared = {path for path in files[0] if path.parts[0] in ("valid.json", "test.json")}
    assert len(shared) == 2
    for path in shared:
        assert files[0][path] == files[1][path]
    together, undisturbed = (restore_run(w, "last") for w in (workdir, whole))
    jax.tree.map(np.testing.assert_array_equal, together.params, undisturbed.params)


def test_a_process_that_fails_is_named_by_all(data, tmp_path):
    processes = start(data, tmp_path / "run", tmp_path, *MESH, own={1: ["--data_dir=/nowhere"]})
    for code, _, error in ended(processes):
        assert code == 1
        lines = [line for line in error.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert lines[0].startswith("error: process 1 of 2: /nowhere/manifest.json: no such file")


@pytest.mark.parametrize(
    "given, message",
    [
        (["--data_parallelism=3"], "data_parallelism=3: must divide lanes=8"),
        (["--data_parallelism=4", "--eval_lanes=6"], "must divide eval_lanes=6"),
        (["--model_parallelism=0"], "model_parallelism=0: must be >= 1"),
        (["--coordinator_address=here"], "coordinator_address=here: must be host:port"),
        (["--coordinator_address=here:1"], "needs --num_processes and --process_id"),
        (["--num_processes=2"], "need --coordinator_address=host:port"),
        (["--coordinator_address=h:1", "--num_processes=2", "--process_id=2"], "below num_proc"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(data, tmp_path, given, message):
    with pytest.raises((flags.Error, ValueError), match=re.escape(message)):
        settings_of(data, tmp_path, *given)


@pytest.mark.parametrize(
    "message, waits",
    [
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.", False),
        ("INTERNAL: Failed to launch a kernel", False),
        ("UNKNOWN: Gloo all-reduce failed: Connection closed by peer", True),
    ],
)
def test_a_processs_own_error_is_reported_at_once(monkeypatch, capsys, message, waits):
    class Watch:
        name = "process 1 of 2"

        def __init__(self, address):
            pass

        def leave(self, reason, code):
            raise SystemExit(f"error: {self.name}: {reason}")

    waited = []
    monkeypatch.setattr(cluster, "_meet", lambda _: None)
    monkeypatch.setattr(cluster, "_Watch", Watch)
    monkeypatch.setattr(cluster.time, "sleep", waited.append)
    with (
        pytest.raises(SystemExit, match=f"error: process 1 of 2: {message}"),
        cluster.joined(cluster.Cluster("h:1", 2, 1), train.MENDABLE),
    ):
        raise jax.errors.JaxRuntimeError(message)
    said = capsys.readouterr().err
    assert (f"process 1 of 2: {message}; waiting 60 s for the others to say why\n" in said) == waits
    assert waited == ([60.0] if waits else [])


class Notes:
    """A stand-in for JAX's client, through which processes exchange messages."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value, overwrite=False):
        self.values[key] = value

    def key_value_dir_get(self, prefix):
        return [item for item in list(self.values.items()) if item[0].startswith(prefix)]


@pytest.mark.parametrize(
    "error, code, line",
    [
        (StoppedError(signal.SIGTERM), 143, "process 1 of 2: stopped by SIGTERM\n"),
        (StoppedError(signal.SIGINT), 130, "process 1 of 2: stopped by SIGINT\n"),
        (CheckpointError("no such step"), 1, "error: process 1 of 2: no such step\n"),
    ],
    ids=["SIGTERM", "SIGINT", "failure"],
)
def test_all_processes_end_like_the_one_that_was_stopped_or_failed(
    monkeypatch, capsys, error, code, line
):
    """After the training, in the final evaluations, where processes agree on no step."""
    monkeypatch.setattr(cluster, "_meet", lambda _: None)
    monkeypatch.setattr(cluster, "BEAT_SECONDS", 0.001)
    notes = Notes()
    monkeypatch.setattr(cluster, "notes_of_jax", lambda: notes)
    monkeypatch.setattr(cluster.jax, "process_count", lambda: 2)
    ended = []

    def end(code):
        ended.append(code)
        if threading.current_thread() is threading.main_thread():
            raise SystemExit
        other._ends.set()

    monkeypatch.setattr(cluster.os, "_exit", end)
    monkeypatch.setattr(cluster.jax, "process_index", lambda: 0)
    other = cluster._Watch()
    monkeypatch.setattr(cluster.jax, "process_index", lambda: 1)
    with pytest.raises(SystemExit), cluster.joined(cluster.Cluster("h:1", 2, 1), train.MENDABLE):
        raise error
    other._thread.join()
    assert ended == [code, code]
    assert capsys.readouterr().err == 2 * line


def test_a_process_silent_for_40_seconds_is_named(monkeypatch):
    """The first process reports it to the others; the test provides the clock."""
    notes = Notes()
    monkeypatch.setattr(cluster, "notes_of_jax", lambda: notes)
    monkeypatch.setattr(cluster.jax, "process_count", lambda: 2)
    monkeypatch.setattr(cluster.jax, "process_index", lambda: 0)
    watch = cluster._Watch()
    watch.end()
    last_sign = {0: (None, 0.0), 1: (None, 0.0)}

    def look(now, *beats):
        for index, beat in enumerate(beats):
            notes.key_value_set(f"hiertcn_jax/alive/{index}", str(beat))
        monkeypatch.setattr(cluster, "time", types.SimpleNamespace(monotonic=lambda: now))
        return watch._silent(last_sign)

    assert look(2.0, 1, 1) == look(30.0, 2, 1) == look(42.0, 3, 1) == []
    (word,) = look(42.5, 4, 1)
    assert word == (
        "1 process 1 of 2: no sign of life for 40 s: it was killed, or its machine does not answer"
    )
    assert notes.key_value_dir_get("hiertcn_jax/failed/") == [("hiertcn_jax/failed/gone", word)]


def test_a_process_whose_connection_breaks_is_named_at_once(monkeypatch, capsys):
    """The others are told; nobody waits for the dead one to leave."""
    notes, codes = Notes(), []
    monkeypatch.setattr(cluster, "notes_of_jax", lambda: notes)
    monkeypatch.setattr(cluster.jax, "process_count", lambda: 2)
    monkeypatch.setattr(cluster.jax, "process_index", lambda: 0)
    monkeypatch.setattr(cluster, "BEAT_SECONDS", 0.001)

    def end(code):
        codes.append(code)
        watch._ends.set()

    monkeypatch.setattr(cluster.os, "_exit", end)
    watch = cluster._Watch("localhost:1")
    port = int(notes.values["hiertcn_jax/listens/0"].split()[0])
    with socket.create_connection(("localhost", port)) as connection:
        connection.sendall(b"1\n")
    watch._thread.join(60)
    assert codes == [1]
    line = "process 1 of 2: its connection broke: it was killed, or it crashed"
    assert capsys.readouterr().err == f"error: {line}\n"
    assert notes.values["hiertcn_jax/failed/gone"] == f"1 {line}"
    watch.end()


def test_a_missing_first_process_is_reported(monkeypatch):
    monkeypatch.setattr(cluster, "MEETING_SECONDS", 0.0)
    address = f"127.0.0.1:{free_port()}"
    with (
        pytest.raises(cluster.ClusterError, match=f"{address}: process 0 does not listen there"),
        cluster.joined(cluster.Cluster(address, 2, 1), train.MENDABLE),
    ):
        pass


def test_a_mesh_without_devices_is_refused_before_anything_is_written(data, tmp_path):
    settings = settings_of(data, tmp_path / "run", "--data_parallelism=8", "--model_parallelism=2")
    with pytest.raises(MeshError, match="a mesh of 16 devices, but there are 8"):
        train.main(settings)
    assert not (tmp_path / "run").exists()
