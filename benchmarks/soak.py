"""Checks that a long run does not grow: memory, open files, threads, compiled programs.

    python -m benchmarks.soak --json=FILE

Trains on the synthetic log like the quickstart, but with twenty times the users and without end. It
runs the real command, in both item modes at once, with a checkpoint every 500 steps and a
validation each epoch, so one or the other about every minute. With more frequent ones the figures
would show only what each checkpoint leaves in memory, which is TensorStore's (docs/reliability.md,
"Memory"). This process samples each run every second. After `--minutes` it sends SIGTERM; the run
must save and end. Only samples after the first pass count: after the line that follows the first
validation. Linux only: it reads /proc.

Cases: the item modes. Memory rises at each validation and falls after it, so figures are per epoch:
from the end of one validation to the end of the next, however long it takes. For each epoch
`resident_mb` is the peak resident memory, as the system counts it, and `resident_least_mb` the
lowest sample. Peaks of successive epochs differ by 3 %, by chance. So `resident_spread` compares
means: it drops the first five epochs, divides the others into three parts, and compares the highest
mean with the lowest. `files` and `threads` are the lowest of each epoch, because writing a
checkpoint takes some more. `compilations` counts each program that was built or read from a cache.
"""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from benchmarks.common import process_status, require_directory, write_report
from data_pipelines.commands.command import run_command
from data_pipelines.config import PrepareConfig
from data_pipelines.prepare import prepare

LOSSES = {"dense": "cross_entropy", "rows": "sampled_softmax"}
"""The loss of each item mode."""
MOST_SPREAD = 0.02
"""Allowed spread of an epoch's peak resident memory, averaged over a third of the epochs."""
LEAST_EPOCHS = 20
"""Five epochs in which memory may settle, and three times five to compare."""
MOST_STOP_S = 30.0
"""Limit from SIGTERM to the end, in seconds."""

_ROOT = Path(__file__).parents[1]
_EVERY_S = 1.0
_SETTLING = 5
_USERS = 40_000
_COUNTED = """
import runpy, sys, time
import jax
compiled = open(sys.argv.pop(1), "a", buffering=1)
def note(event, seconds, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.write(f"{time.monotonic()}\\n")
jax.monitoring.register_event_duration_secs_listener(note)
runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
"""


class GrowthError(Exception):
    """A run kept growing."""


class Sample(NamedTuple):
    """A process's resources at one moment.

    Attributes:
      monotonic_s: The time.
      epoch: How many validations had ended at the previous sample.
      resident_bytes: Resident memory.
      peak_bytes: Its peak since the previous sample.
      files: Number of open files.
      threads: Number of threads.
    """

    monotonic_s: float
    epoch: int
    resident_bytes: int
    peak_bytes: int
    files: int
    threads: int


def look(pid: int, epoch: int) -> Sample:
    """Samples a process, and resets its peak.

    Args:
      pid: The process.
      epoch: The epoch in which the peak began.

    Raises:
      OSError: It has ended.
    """
    status = process_status(pid)
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="utf-8")
    return Sample(
        time.monotonic(),
        epoch,
        status["VmRSS"],
        status["VmHWM"],
        len(os.listdir(f"/proc/{pid}/fd")),
        status["Threads"],
    )


def figures(samples: list[Sample], compiled_s: list[float]) -> dict[str, Any]:
    """The figures of one run.

    Args:
      samples: From the end of its first pass on.
      compiled_s: Times of all compilations, since the start.
    """
    began_s = samples[0].monotonic_s
    epochs = [list(epoch) for _, epoch in itertools.groupby(samples, lambda sample: sample.epoch)]
    # The last epoch is incomplete.
    epochs = epochs[:-1] or epochs
    most = [max(_megabytes(sample.peak_bytes for sample in epoch)) for epoch in epochs]
    means = [part.mean() for part in np.array_split(most[_SETTLING:] or most, 3) if part.size]
    return {
        "epochs": len(epochs),
        "resident_mb": most,
        "resident_least_mb": [min(_megabytes(s.resident_bytes for s in epoch)) for epoch in epochs],
        "resident_spread": round(float(max(means) / min(means)) - 1, 4),
        "files": [min(sample.files for sample in epoch) for epoch in epochs],
        "threads": [min(sample.threads for sample in epoch) for epoch in epochs],
        "compilations": len(compiled_s),
        "later_compilations": sum(second > began_s for second in compiled_s),
    }


def _megabytes(sizes: Iterable[int]) -> list[float]:
    return [round(size / 1e6, 1) for size in sizes]


def growth(case: Mapping[str, Any]) -> list[str]:
    """The figures of a run that grow, or that are too few to tell."""
    wrong = {
        "epochs": case["epochs"] < LEAST_EPOCHS,
        "resident_spread": case["resident_spread"] > MOST_SPREAD,
        "files": _grows(case["files"]),
        "threads": _grows(case["threads"]),
        "later_compilations": case["later_compilations"] > 0,
        "stop_s": case["stop_s"] > MOST_STOP_S,
    }
    return [f"{figure}={case[figure]}" for figure, is_wrong in wrong.items() if is_wrong]


def _grows(counts: list[int]) -> bool:
    """Whether every value of the last third is above every value of the first."""
    third = max(1, len(counts) // 3)
    return min(counts[-third:]) > max(counts[:third])


class Run:
    """A running command.

    Args:
      directory: Contains `log`; receives the workdir, and the command's output.
      item_mode: One of `LOSSES`.
      *arguments: More arguments of the command.
    """

    def __init__(self, directory: Path, item_mode: str, *arguments: str) -> None:
        self.item_mode, self.samples, self._epoch = item_mode, list[Sample](), 0
        self._workdir, self._compiled = directory / item_mode, directory / f"{item_mode}.compiled"
        self._said = directory / f"{item_mode}.txt"
        command = [
            *(sys.executable, "-c", _COUNTED, str(self._compiled)),
            "--flagfile=experiments/flagfiles/quickstart.flags",
            *(f"--data_dir={directory / 'log'}", f"--workdir={self._workdir}"),
            *(f"--item_mode={item_mode}", f"--loss={LOSSES[item_mode]}"),
            *("--steps=10000000", "--patience=0"),
            *("--log_every_steps=5", "--checkpoint_every_steps=500", *arguments),
        ]
        with self._said.open("w") as said:
            self.process = subprocess.Popen(command, cwd=_ROOT, stdout=said, stderr=said)

    def look(self) -> None:
        """Takes a sample, if the first pass is over.

        Raises:
          RuntimeError: The run has ended.
        """
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.item_mode}: ended: {self._last_words()}")
        kinds = [line["kind"] for line in self._lines()]
        if self.samples or "valid" in kinds[:-1]:
            self.samples.append(look(self.process.pid, self._epoch))
        self._epoch = kinds.count("valid")

    def stop(self) -> dict[str, Any]:
        """Stops the run; returns its figures.

        Raises:
          RuntimeError: Its first pass was not over, or it did not end properly.
        """
        clock = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait()
        stop_s = time.monotonic() - clock
        if code != 128 + signal.SIGTERM or not self.samples:
            raise RuntimeError(f"{self.item_mode}: exit code {code}: {self._last_words()}")
        compiled_s = [float(line) for line in self._compiled.read_text().split()]
        lines = self._lines()
        return {
            "steps": lines[-1]["step"],
            "validations": sum(line["kind"] == "valid" for line in lines),
            **figures(self.samples, compiled_s),
            "stop_s": round(stop_s, 1),
        }

    def _lines(self) -> list[dict[str, Any]]:
        path = self._workdir / "metrics.jsonl"
        if not path.exists():
            return []
        *whole, _ = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in whole]

    def _last_words(self) -> str:
        return self._said.read_text(encoding="utf-8").strip().rpartition("\n")[2]


def soak(minutes: float, *arguments: str) -> dict[str, dict[str, Any]]:
    """Trains for this long; returns the figures by item mode.

    Raises:
      RuntimeError: A run ended, or did not get past its first pass.
    """
    with contextlib.ExitStack() as closing:
        directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="hiertcn_jax_")))
        log = str(directory / "log")
        prepare(PrepareConfig(synthetic="planted", synthetic_users=_USERS, output_dir=log))
        runs = [Run(directory, item_mode, *arguments) for item_mode in LOSSES]
        for run in runs:
            closing.callback(run.process.kill)
        end = time.monotonic() + minutes * 60
        while time.monotonic() < end:
            time.sleep(_EVERY_S)
            for run in runs:
                run.look()
        return {run.item_mode: run.stop() for run in runs}


class Settings(NamedTuple):
    """What the flags say."""

    json: str
    minutes: float


def read_settings() -> Settings:
    """The settings of the parsed flags."""
    values = flags.FLAGS
    require_directory(values.json)
    return Settings(values.json, values.minutes)


def main(settings: Settings) -> None:
    """Trains, prints and writes the file.

    Raises:
      GrowthError: A run kept growing.
    """
    cases = soak(settings.minutes)
    for name, case in cases.items():
        print(name, *(f"{figure}={value}" for figure, value in case.items()))
    write_report(settings.json, "cases", cases)
    wrong = [f"{name}: {', '.join(found)}" for name in cases if (found := growth(cases[name]))]
    if wrong:
        raise GrowthError("; ".join(wrong))


if __name__ == "__main__":
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    flags.DEFINE_float("minutes", 30.0, "How long.", lower_bound=0.0)
    run_command(read_settings, main, (GrowthError, OSError, RuntimeError))
