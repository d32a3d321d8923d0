"""One trial of a sweep: a training run as a process of its own, or a ranker's fit.

A trial's directory is a normal workdir: `python -m experiments.train --flagfile=T/trial.flags`
repeats it, and goes on with it where it was stopped.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from data_pipelines.histories.record import Split
from experiments.data import Data
from experiments.rankers import evaluate_ranker, fitted_histories, make_ranker
from experiments.results import write_json

_POLL_SECONDS = 1.0
"""Between two looks at what a training run has reported."""

_STOP_SECONDS = 60.0
"""What a training run that was asked to stop has left to save."""


class TrialError(Exception):
    """A trial that ended without a result; the message is its last word."""


class Validation(NamedTuple):
    """A validation of a training run.

    Attributes:
      number: Counted from 1.
      value: The monitored metric.
    """

    number: int
    value: float


def run_training(
    directory: Path,
    lines: list[str],
    monitor: str,
    stops_after: Callable[[Validation], bool],
) -> dict[str, Any] | None:
    """Trains in a process of its own, in `directory`.

    Args:
      directory: The trial's workdir; a run that is there goes on.
      lines: Its flagfile.
      monitor: The metric to look at, as group/metric.
      stops_after: Called with each validation; True stops the run.

    Returns:
      What the run wrote as valid.json; None if it was stopped by `stops_after`.

    Raises:
      TrialError: The run failed, or was killed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    flagfile = directory / "trial.flags"
    flagfile.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "experiments.train", f"--flagfile={flagfile}"]
    with (
        (directory / "log.txt").open("ab") as log,
        _stopped_at_the_end(subprocess.Popen(command, stdout=log, stderr=log)) as process,
    ):
        seen = 0
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
            ended = process.returncode is not None
            for validation in _validations(directory / "metrics.jsonl", monitor)[seen:]:
                seen = validation.number
                if stops_after(validation) and not ended:
                    return None
            if ended:
                break
    if process.returncode:
        raise TrialError(_last_word(directory / "log.txt", process.returncode))
    return json.loads((directory / "valid.json").read_text(encoding="utf-8"))


def run_ranker(directory: Path, name: str, arguments: dict[str, Any], data: Data) -> dict[str, Any]:
    """Fits a ranker on train and scores it on valid.

    Args:
      directory: Gets settings.json, which --settings of experiments.compare reads, and valid.json.
      name: The ranker.
      arguments: Of its constructor.
      data: The data.

    Returns:
      The metrics, as written to valid.json.

    Raises:
      TrialError: The arguments do not go together.
    """
    try:
        ranker = make_ranker(name, data.vocabulary.size, arguments)
    except ValueError as error:
        raise TrialError(str(error)) from error
    ranker.fit(fitted_histories(data, "train"))
    metrics = evaluate_ranker(ranker, data, Split.VALID).metrics
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "settings.json", {name: arguments})
    write_json(directory / "valid.json", metrics)
    return metrics


@contextlib.contextmanager
def _stopped_at_the_end(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """Whatever ends the block: a run that still goes on is asked to stop, and waited for."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _validations(journal: Path, monitor: str) -> list[Validation]:
    """All validations that a run has reported; a line that is still being written is left out."""
    if not journal.exists():
        return []
    whole, _, _ = journal.read_text(encoding="utf-8").rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    values = [line[monitor] for line in lines if line["kind"] == "valid"]
    return [Validation(number, value) for number, value in enumerate(values, start=1)]


def _last_word(log: Path, code: int) -> str:
    """The error line of a run's log, or its last line."""
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    word = (errors or lines or ["nothing was written"])[-1]
    return f"exit code {code}: {word.strip()}"
