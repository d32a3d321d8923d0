"""Tiny training runs, in this process or as commands, and the files they leave."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import train
from experiments.runs import train_loop as loop
from experiments.runs.resolve import resolve
from tests.experiments.flags.test_run_flags import parsed

ROOT = Path(__file__).parents[2]

FLAGS = (
    "--item_dim=4", "--gru_dim=3", "--tcn_channels=3", "--kernel_size=2", "--dropout=0.1",
    "--negatives=popularity:16", "--learning_rate=0.01", "--schedule=constant", "--steps=10",
    "--lanes=8", "--events=16", "--sessions=2", "--log_every_steps=2", "--eval_every_epochs=0.4",
    "--checkpoint_every_steps=3", "--eval_lanes=8", "--eval_events=64", "--eval_sessions=32",
)  # fmt: skip


REMEMBERING = (
    "--steps=4", "--memory=world,followers,own", "--memory_units=2", "--loss=cross_entropy",
)  # fmt: skip
"""More flags, of a short run with memory."""


def settings_of(data, workdir, *more):
    with parsed(f"--data_dir={data.directory}", f"--workdir={workdir}", *FLAGS, *more):
        return train.read_settings()


def run_train(data, workdir, *more, draws=False):
    """Runs experiments.train in this process.

    Args:
      data: The prepared log.
      workdir: The run's directory.
      more: Flags besides `FLAGS`.
      draws: Whether to draw the learning curve, which takes a fifth of the time.
    """
    place = (f"--data_dir={data.directory}", f"--workdir={workdir}")
    with pytest.MonkeyPatch.context() as patch, parsed(*place, *FLAGS, *more):
        if not draws:
            patch.setattr(train, "draw_learning_curve", lambda *_: None)
        train.main(train.read_settings())


def train_in(data, workdir, *more):
    """Runs the training of experiments.train, without the final evaluations."""
    loop.train(resolve(settings_of(data, workdir, *more).run, data), workdir)


def journal(workdir):
    """The lines of metrics.jsonl without times."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name != "events_per_s"}
        for line in lines
    ]


def contents(workdir):
    """Every file except TensorBoard's, which each start makes anew."""
    return {
        path.relative_to(workdir): path.read_bytes()
        for path in sorted(workdir.rglob("*"))
        if path.is_file() and "tensorboard" not in path.parts
    }


def checkpoint_steps(workdir):
    return sorted(
        int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdecimal()
    )


def fresh_command(*arguments):
    """Runs a command in a fresh interpreter; stderr is no terminal: there is no progress bar."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, "TERM": "dumb"},
        capture_output=True,
        text=True,
    )


def signal_in_step(monkeypatch, number, kind):
    """Sends the signal during the step of this number."""
    assemble = loop.assemble

    def assemble_and_signal(run):
        parts, done = assemble(run), []

        def step(*arguments):
            done.append(1)
            if len(done) == number:
                signal.raise_signal(kind)
            return parts.step(*arguments)

        return parts._replace(step=step)

    monkeypatch.setattr(loop, "assemble", assemble_and_signal)
