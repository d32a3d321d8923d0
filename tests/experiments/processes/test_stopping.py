"""SIGTERM and SIGINT: the step is saved, and the resumed run ends like an undisturbed one."""

import json
import os
import platform
import shlex
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from data_pipelines.commands.command import StoppedError
from experiments.processes.stopping import StopSignals
from experiments.runs import train_loop as loop
from experiments.runs import training_run as training
from experiments.runs.restore import restore_run
from tests.experiments.small_runs import ROOT, checkpoint_steps, journal, signal_in_step, train_in
from tests.forked import run_forked
from tests.volume import mostly_thorough


def signal_in_validation(monkeypatch, number, kind):
    """Sends the signal during the validation of this number."""
    evaluate_split, done = loop.Evaluator.__call__, []

    def call(self, params, between_batches):
        done.append(1)
        if len(done) == number:
            signal.raise_signal(kind)
        return evaluate_split(self, params, between_batches)

    monkeypatch.setattr(loop.Evaluator, "__call__", call)


# Lines at 2, 4, 6, 8, 10 and at saved steps: 3, 6, 9 and after the validations at 7 and 10.
@pytest.mark.parametrize(
    "place, number, kind, step",
    mostly_thorough(
        [
            (signal_in_step, 1, signal.SIGTERM, 1),
            (signal_in_step, 5, signal.SIGINT, 5),
            (signal_in_validation, 1, signal.SIGINT, 7),
            (signal_in_validation, 2, signal.SIGTERM, 10),
        ],
        (signal_in_step, 5, signal.SIGINT, 5),
        (signal_in_validation, 2, signal.SIGTERM, 10),
    ),
)
def test_a_stopped_run_resumes_and_ends_like_an_undisturbed_one(
    data, whole, tmp_path, monkeypatch, capsys, place, number, kind, step
):
    before = signal.getsignal(kind)
    with monkeypatch.context() as patch:
        place(patch, number, kind)
        with pytest.raises(StoppedError) as caught:
            train_in(data, tmp_path)
    assert caught.value.code == 128 + kind
    assert caught.value.line == f"stopped by {kind.name} at step {step}, which is saved"
    assert signal.getsignal(kind) is before
    assert checkpoint_steps(tmp_path)[-1] == step
    assert all(line["step"] <= step for line in journal(tmp_path))

    train_in(data, tmp_path)
    assert f"resuming from step {step}\n" in capsys.readouterr().out
    assert journal(tmp_path) == journal(whole)
    for name in ("best", "last"):
        one, other = restore_run(tmp_path, name), restore_run(whole, name)
        assert one.step == other.step
        jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def note_work(monkeypatch, at, kind):
    """A list that records the work done: step, batch (of a validation), save; and `signal`.

    Args:
      monkeypatch: The test's.
      at: Work and its number; the signal comes during it.
      kind: The signal.
    """
    done = []

    def noting(name, function):
        def call(*arguments, **named):
            done.append(name)
            if (name, done.count(name)) == at:
                signal.raise_signal(kind)
                done.append("signal")
            return function(*arguments, **named)

        return call

    assemble, begin = loop.assemble, loop.Evaluator.__init__

    def assemble_noting(run):
        parts = assemble(run)
        return parts._replace(step=noting("step", parts.step))

    def begin_noting(self, *arguments, **named):
        begin(self, *arguments, **named)
        self._eval_step = noting("batch", self._eval_step)

    monkeypatch.setattr(loop, "assemble", assemble_noting)
    monkeypatch.setattr(loop.Evaluator, "__init__", begin_noting)
    save = noting("save", training.Checkpoints.save)
    monkeypatch.setattr(training.Checkpoints, "save", lambda *a, **named: save(*a, **named))
    return done


# Step 5 would not be saved otherwise, step 6 always is, step 7 ends with a validation.
@pytest.mark.parametrize(
    ("work", "number"),
    mostly_thorough(
        [("step", 5), ("step", 6), ("step", 7), ("batch", 2), ("save", 1)],
        ("step", 5),
        ("batch", 2),
        ("save", 1),
    ),
)
def test_after_a_signal_only_the_current_work_and_one_save_happen(
    data, tmp_path, monkeypatch, work, number
):
    """The duration of a stop is not measured but bounded: one step or one batch, and one save."""
    done = note_work(monkeypatch, (work, number), signal.SIGTERM)
    with pytest.raises(StoppedError):
        train_in(data, tmp_path)
    behind = done[done.index("signal") + 1 :]
    assert behind == ([] if work == "save" else ["save"])


def test_a_validation_that_is_due_is_done_once_whatever_comes_between(
    data, whole, tmp_path, monkeypatch
):
    for _ in range(2):
        with monkeypatch.context() as patch:
            signal_in_validation(patch, 1, signal.SIGTERM)
            with pytest.raises(StoppedError):
                train_in(data, tmp_path)
        assert {line["kind"] for line in journal(tmp_path)} == {"train"}
        assert checkpoint_steps(tmp_path)[-1] == 7
    # Killed between its line and the checkpoint that records it.
    with monkeypatch.context() as patch:
        patch.setattr(loop.Training, "save", lambda self, monitored: pytest.exit("killed"))
        with pytest.raises(pytest.exit.Exception):
            train_in(data, tmp_path)
    assert journal(tmp_path)[-1]["kind"] == "valid"
    train_in(data, tmp_path)
    assert journal(tmp_path) == journal(whole)


def test_the_line_of_a_stopped_command_is_the_command_that_resumes(data, whole, tmp_path):
    command = [
        sys.executable, "-m", "experiments.train", f"--flagfile={whole}/flags.txt",
        f"--workdir={tmp_path / 'a run'}", "--steps=100000",
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TERM": "dumb"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert any("valid" in line for line in iter(process.stdout.readline, ""))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said.count("\n") == 1
    line, _, again = said.strip().partition("; resume with: ")
    (step,) = checkpoint_steps(tmp_path / "a run")[-1:]
    assert line == f"stopped by SIGINT at step {step}, which is saved"
    assert shlex.split(again) == command
    done = run_forked(*shlex.split(again)[2:], f"--steps={step + 1}")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"resuming from step {step}\n" in done.stdout
    assert json.loads((tmp_path / "a run" / "test.json").read_text())["checkpoint_step"] <= step + 1


_WAITS = """
import signal
from experiments.processes.stopping import StopSignals
with StopSignals() as stop:
    print("ready", flush=True)
    for kind in (signal.SIGINT, signal.SIGTERM):
        while signal.getsignal(kind) != signal.SIG_DFL:
            pass
        print(stop.asked, flush=True)
    while True:
        pass
"""


def test_the_same_signal_again_ends_the_process_at_once():
    process = subprocess.Popen(
        [sys.executable, "-c", _WAITS], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == "ready\n"
    for kind in (signal.SIGINT, signal.SIGTERM):  # From the terminal, and from the parent.
        process.send_signal(kind)
        assert process.stdout.readline() == "True\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate() == ("", None)
    assert process.returncode == -signal.SIGTERM


_HANGS_IN_NATIVE_CODE = """
import ctypes, os, re, signal, threading
from pathlib import Path
from experiments.processes.stopping import StopSignals

def is_caught(number):
    caught = re.search(r"SigCgt:\\s*(\\w+)", Path("/proc/self/status").read_text())[1]
    return int(caught, 16) >> number - 1 & 1

def ask_twice():
    while mutex.raw[0] != 2:  # Somebody waits for it.
        pass
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        while is_caught(signal.SIGTERM):
            pass

mutex = ctypes.create_string_buffer(64)  # Of zeros, as PTHREAD_MUTEX_INITIALIZER.
lock = ctypes.CDLL(None).pthread_mutex_lock
with StopSignals():
    lock(mutex)
    threading.Thread(target=ask_twice, daemon=True).start()
    lock(mutex)  # As a compilation, or a collective operation whose partner is gone.
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="elsewhere the end of native code is waited for"
)
def test_the_same_signal_again_ends_native_code():
    done = subprocess.run([sys.executable, "-c", _HANGS_IN_NATIVE_CODE], cwd=ROOT, timeout=60)
    assert done.returncode == -signal.SIGTERM


_WAITS_AS_ONE_OF_TWO = """
import signal, sys
import jax
from tests.experiments.cluster_runs import free_port
from experiments.processes.stopping import StopSignals

# JAX's own handler and agreement; of one process, for they are what is asked here.
jax.distributed.initialize(f"127.0.0.1:{free_port()}", 1, 0)
jax.process_count = lambda: 2
kind = signal.Signals(int(sys.argv[1]))
with StopSignals() as stop:
    signal.raise_signal(kind)
    while not stop.asked:
        pass
    print(stop._number == kind, flush=True)
    signal.raise_signal(kind)
    print("still here", flush=True)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere JAX catches it again")
@pytest.mark.parametrize("kind", mostly_thorough([signal.SIGTERM, signal.SIGINT], signal.SIGTERM))
def test_the_same_signal_again_ends_one_of_several_processes_at_once(kind):
    done = subprocess.run(
        [sys.executable, "-c", _WAITS_AS_ONE_OF_TWO, str(int(kind))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("True\n", -kind), done.stderr


def test_before_the_first_step_there_is_nothing_to_save():
    with pytest.raises(StoppedError) as caught, StopSignals() as stop:
        signal.raise_signal(signal.SIGTERM)
        stop.end(0)
    assert caught.value.line == "stopped by SIGTERM"
