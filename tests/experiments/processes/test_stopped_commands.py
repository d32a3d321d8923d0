"""Every command, stopped at moments drawn from a seed: one line, exit code 130 or 143."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import export
from experiments.flags.data_flags import DataLocation
from tests.experiments.small_runs import FLAGS, ROOT
from tests.volume import few, is_thorough, mostly_thorough

LATEST_SECONDS = 6.0
"""The latest moment, after the command has begun to import its libraries."""

COMMANDS = (
    *("evaluate", "embed", "recommend", "export", "replay"),
    *("train", "compare", "sweep", "prepare", "serve"),
)


@pytest.fixture(scope="module")
def commands(data, whole, tmp_path_factory):
    """The arguments of each command, by name; they write into a given directory."""
    space = tmp_path_factory.mktemp("space") / "space.json"
    space.write_text('{"events": {"choices": [50, 200, 800]}}')
    data_dir = f"--data_dir={data.directory}"
    last_day = data.manifest["log"]["to"][:10]
    exported = tmp_path_factory.mktemp("export") / "X"
    if is_thorough():
        export.main(export.Settings(whole, exported, "best", DataLocation(), True, 100))

    def arguments(name, directory):
        run = directory / "run"
        directory.mkdir()
        if name in ("evaluate", "embed", "recommend", "export", "train"):
            shutil.copytree(whole, run)
        workdir = f"--workdir={run}"
        return {
            "evaluate": ["experiments.evaluate", workdir],
            "embed": ["experiments.embed", workdir, f"--output={directory / 'users.parquet'}"],
            "recommend": ["experiments.recommend", workdir, f"--output={directory / 'r.csv'}"],
            "export": ["experiments.export", workdir, f"--output_dir={directory / 'X'}"],
            "replay": ["experiments.replay", data_dir, "--rankers=popularity,stan", "--every=1h",
                       f"--from={last_day}", f"--output_dir={directory / 'R'}"],
            "serve": ["experiments.serve", f"--export_dir={exported}", "--port=0",
                      f"--store={directory / 'shop.db'}"],
            # Its training is done, so it only evaluates.
            "train": ["experiments.train", data_dir, workdir, *FLAGS],
            "compare": ["experiments.compare", data_dir, workdir, *FLAGS, "--steps=3",
                        "--models=item_knn,vsknn,hiertcn"],
            "sweep": ["experiments.sweep", data_dir, workdir, f"--space={space}", "--trials=8",
                      "--ranker=rolling_popularity"],
            "prepare": ["data_pipelines.prepare", "--synthetic=planted", "--synthetic_users=20000",
                        f"--output_dir={run}"],
        }[name]  # fmt: skip

    return arguments


def start(arguments):
    """A command that compiles all its programs, and so spends most of its time compiling."""
    environment = {name: value for name, value in os.environ.items() if "COMPILATION" not in name}
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**environment, "TERM": "dumb"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_handlers(process):
    """Waits until the command catches SIGTERM; before that the interpreter is still starting."""
    while process.poll() is None:
        (caught,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            return


def stopped_after(seconds, arguments, number):
    """Sends a command a signal after a delay: exit code and stderr, or None if it ended before."""
    process = start(arguments)
    try:
        wait_for_handlers(process)
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    # If it hangs, fail the test and leave no process.
    try:
        output, error = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode in (0, 128 + number), (process.returncode, output, error)
    return error if process.returncode else None


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells when a command catches signals")
@pytest.mark.parametrize("seed", range(few(1, of=20)))
@pytest.mark.parametrize("name", mostly_thorough(COMMANDS, "train", "prepare"))
def test_a_command_that_is_stopped_says_so_and_leaves_nothing_half_written(
    commands, tmp_path, name, seed
):
    rng = random.Random(f"{name} {seed}")
    seconds, number = rng.uniform(0, LATEST_SECONDS), rng.choice([signal.SIGINT, signal.SIGTERM])
    error, tries = None, 0
    while error is None:
        # A command that ended before the signal is stopped earlier next time.
        tries += 1
        error = stopped_after(seconds / tries, commands(name, tmp_path / str(tries)), number)
    assert error.splitlines()[-1].startswith(f"stopped by {number.name}"), error
    assert "Traceback" not in error
    assert not [path for path in (tmp_path / str(tries)).rglob("*") if ".partial" in path.name]
