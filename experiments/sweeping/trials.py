"""One trial of a sweep: a training run as a separate process, or a ranker's fit.

A trial's directory is a normal workdir: `python -m experiments.train --flagfile=T/trial.flags`
repeats it, or resumes it if it was stopped.
"""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from data_pipelines.histories.record import Split
from experiments.judging.rankers import evaluate_ranker, fit_ranker, fitted_histories, ranker_for
from experiments.judging.results import write_json
from experiments.processes.child import child_command
from experiments.runs.data import Data
from experiments.runs.files import write_text
from experiments.runs.locking import REFUSAL, wait_until_free

_POLL_SECONDS = 1.0
"""Seconds between two looks at the reports of a training run."""

_STOP_SECONDS = 60.0
"""Seconds that a training run gets to save after it was asked to stop."""


_BAD_FLAGS = 2
"""Exit code of a command whose flags make no sense."""


class TrialError(Exception):
    """A trial that ended without a result; the message is its last line.

    Args:
      message: The line.
      recurs: Whether the same settings always fail, such as a value that a flag refuses.

    Attributes:
      recurs: As given.
    """

    def __init__(self, message: str, recurs: bool = False) -> None:
        super().__init__(message)
        self.recurs = recurs

    def same_as(self, before: str | None) -> bool:
        """Whether the command ended by itself with the error of the attempt before."""
        return str(self) == before and before.startswith("exit code 1: error: ")


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
    """Trains in a separate process, in `directory`; it ends when this process ends.

    If another process trains there, this waits for it, because that says nothing about the
    settings. It may be a run whose worker is gone, on another machine, or one that was started by
    hand. The trial then resumes from what that run left, and reports all of it.

    Args:
      directory: The trial's workdir; an existing run resumes.
      lines: Its flagfile.
      monitor: The metric to watch, as group/metric.
      stops_after: Called with each validation; True stops the run.

    Returns:
      The content of the run's valid.json; None if `stops_after` stopped it.

    Raises:
      TrialError: The run failed, or was killed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "log.txt"
    watch = _Watch(directory / "metrics.jsonl", monitor, stops_after)
    while True:
        wait_until_free(directory)
        flagfile = directory / "trial.flags"
        write_text(flagfile, "\n".join(lines) + "\n")
        before = log.stat().st_size if log.exists() else 0
        code = _train(child_command("experiments.train", f"--flagfile={flagfile}"), log, watch)
        if code is None:
            return None
        if not code:
            return json.loads((directory / "valid.json").read_text(encoding="utf-8"))
        word = _last_word(log, before)
        # Our run needs seconds to get to the lock; another process was faster.
        if REFUSAL not in word:
            raise TrialError(f"exit code {code}: {word}", recurs=code == _BAD_FLAGS)


class _Watch:
    """Reports each validation of a run once, even if the run had to be started again."""

    def __init__(
        self, journal: Path, monitor: str, stops_after: Callable[[Validation], bool]
    ) -> None:
        self._journal, self._monitor, self._stops_after = journal, monitor, stops_after
        self._seen = 0

    def stops(self, running: bool) -> bool:
        """Whether a validation since the last look stops a run that is still running."""
        for validation in _validations(self._journal, self._monitor)[self._seen :]:
            self._seen = validation.number
            if self._stops_after(validation) and running:
                return True
        return False


def _train(command: list[str], log: Path, watch: _Watch) -> int | None:
    """The exit code of a run; None if `watch` stopped it."""
    with (
        log.open("ab") as said,
        _stopped_at_the_end(subprocess.Popen(command, stdout=said, stderr=said)) as process,
    ):
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
            code = process.returncode
            if watch.stops(running=code is None):
                return None
            if code is not None:
                return code


def run_ranker(
    directory: Path, name: str, arguments: dict[str, Any], data: Data, mask_seen: str
) -> dict[str, Any]:
    """Fits a ranker on train and scores it on valid.

    Args:
      directory: Receives settings.json, which --settings of experiments.compare reads, and
        valid.json.
      name: The ranker.
      arguments: Arguments of its constructor.
      data: The data.
      mask_seen: The items to leave out of the ranking, see `EvalConfig`.

    Returns:
      The metrics, as written to valid.json.

    Raises:
      TrialError: The arguments contradict each other, or do not fit the log.
    """
    try:
        ranker = ranker_for(name, data, arguments)
        fit_ranker(name, ranker, fitted_histories(data, "train"))
    except ValueError as error:
        raise TrialError(str(error), recurs=True) from error
    metrics = evaluate_ranker(ranker, data, Split.VALID, mask_seen, name).metrics
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "settings.json", {name: arguments})
    write_json(directory / "valid.json", metrics)
    return metrics


def epoch_of(directory: Path, step: int) -> float:
    """The passes over train that a training run had done at the step of a validation."""
    lines = _whole_lines(directory / "metrics.jsonl")
    return next(line["epoch"] for line in lines if (line["kind"], line["step"]) == ("train", step))


@contextlib.contextmanager
def _stopped_at_the_end(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """However the block ends, asks a run that is still running to stop, and waits for it."""
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
    """All validations that a run has reported."""
    values = [line[monitor] for line in _whole_lines(journal) if line["kind"] == "valid"]
    return [Validation(number, value) for number, value in enumerate(values, start=1)]


def _whole_lines(journal: Path) -> list[dict[str, Any]]:
    """The lines that a run has written, without one that is still being written."""
    if not journal.exists():
        return []
    whole, _, _ = journal.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def _last_word(log: Path, start: int) -> str:
    """The error line of a run, or its last line.

    Args:
      log: Output of this run and of earlier ones.
      start: Where this run's output begins, in bytes.
    """
    said = log.read_bytes()[start:].decode("utf-8", "replace")
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["nothing was written"])[-1].strip()
