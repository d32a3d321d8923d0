"""The result of a sweep: its trials by rank, importance of parameters, the best settings."""

import json
import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import polars as pl
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import StudyDirection
from optuna.trial import TrialState
from rich.table import Table

from experiments.judging.results import write_json, write_table
from experiments.sweeping.study import trial_indices

_STATES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}

_FEWEST_TRIALS = 2
"""Least number of trials with a parameter to rank it; Optuna ignores parameters with fewer."""


class Entry(NamedTuple):
    """A trial, over all its attempts.

    Attributes:
      trial: Its number among the trials, and the name of its directory.
      state: done, pruned, failed, running or waiting; that of the last attempt.
      value: The monitored metric; for a pruned trial the last one reported; None without any.
      attempts: Number of attempts.
      params: The drawn values.
      workdir: Its directory, on the machine that ran it last.
      error: Why it failed.
      best_step: For a finished training run: the step of its best validation, whose checkpoint has
        `value`. A run that fits on train_valid has none, and trains all of its epochs.
      best_epoch: The same in passes over train.
    """

    trial: int
    state: str
    value: float | None
    attempts: int
    params: dict[str, Any]
    workdir: str | None
    error: str | None
    best_step: int | None
    best_epoch: float | None


def leaderboard(study: optuna.Study) -> list[Entry]:
    """All trials: finished ones, best first, then pruned ones, then the others."""
    trials = study.get_trials(deepcopy=False)
    attempts: dict[int, list[optuna.trial.FrozenTrial]] = {}
    for number, trial_index in trial_indices(trials).items():
        attempts.setdefault(trial_index, []).append(trials[number])
    entries = [_entry(trial_index, trials) for trial_index, trials in attempts.items()]
    order = list(_STATES.values())
    sign = 1 if study.direction == StudyDirection.MINIMIZE else -1

    def quality(entry: Entry) -> tuple[int, float, int]:
        value = math.inf if entry.value is None else sign * entry.value
        return order.index(entry.state), value, entry.trial

    return sorted(entries, key=quality)


def _entry(trial_index: int, trials: list[optuna.trial.FrozenTrial]) -> Entry:
    last = trials[-1]
    reported = last.intermediate_values
    value = last.value if last.state == TrialState.COMPLETE else None
    if last.state == TrialState.PRUNED and reported:
        value = reported[max(reported)]
    attributes = last.user_attrs
    return Entry(
        trial_index,
        _STATES[last.state],
        value,
        len(trials),
        last.params,
        attributes.get("workdir"),
        attributes.get("error") if last.state == TrialState.FAIL else None,
        attributes.get("best_step"),
        attributes.get("best_epoch"),
    )


class Importance(NamedTuple):
    """How much a parameter mattered.

    Attributes:
      share: Its share in deciding whether a trial is among the best; None (not ranked) if fewer
        than two finished trials have it.
      trials: How many finished trials have it; for a conditional parameter not all.
    """

    share: float | None
    trials: int


def importances(study: optuna.Study, names: Sequence[str]) -> dict[str, Importance]:
    """The parameters' importances by PED-ANOVA, largest first; those not ranked come last.

    A conditional parameter is judged by the trials that have it, weighted by their number
    (Watanabe, Bansal, Hutter, PED-ANOVA, IJCAI 2023, and its conditional form in Optuna). Empty
    with fewer than two finished trials, or if all of them are equally good.

    Args:
      study: The sweep.
      names: All parameters of its space.
    """
    done = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    if len(done) < 2 or statistics.pvariance([t.value or 0.0 for t in done]) == 0:
        return {}
    trials = {name: sum(name in t.params for t in done) for name in names}
    ranked = [name for name in names if trials[name] >= _FEWEST_TRIALS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # A parameter is judged only by the trials that have it, so this warning is irrelevant.
        warnings.filterwarnings("ignore", "Some regimes for parameter")
        shares = optuna.importance.get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), params=ranked
        )
    found = {name: Importance(float(share), trials[name]) for name, share in shares.items()}
    others = {name: Importance(None, trials[name]) for name in names if name not in ranked}
    return {**found, **others}


def leaderboard_table(entries: list[Entry], title: str) -> Table:
    """A table with a row for each trial."""
    table = Table(title=title)
    for column in ("trial", "state", "value", "best epoch", "attempts", "parameters"):
        table.add_column(column, justify="left" if column in ("state", "parameters") else "right")
    for entry in entries:
        value = "-" if entry.value is None else f"{entry.value:.4f}"
        epoch = "-" if entry.best_epoch is None else _short(entry.best_epoch)
        words = [f"{name}={_short(drawn)}" for name, drawn in entry.params.items()]
        if entry.error:
            words.append(f"[red]{entry.error}")
        attempts, parameters = str(entry.attempts), "  ".join(words)
        table.add_row(str(entry.trial), entry.state, value, epoch, attempts, parameters)
    return table


def importance_table(values: Mapping[str, Importance]) -> Table:
    """A table with a row for each parameter."""
    table = Table(title="importance of the parameters")
    table.add_column("parameter")
    table.add_column("share", justify="right")
    table.add_column("of trials", justify="right")
    for name, (share, trials) in values.items():
        table.add_row(name, "not ranked" if share is None else f"{share:.2f}", str(trials))
    return table


def write_leaderboard(
    directory: Path,
    entries: list[Entry],
    shares: Mapping[str, Importance],
    header: Mapping[str, Any],
) -> None:
    """Writes leaderboard.json and leaderboard.csv.

    Args:
      directory: Where to write them.
      entries: The trials.
      shares: Importances.
      header: Description of the sweep, JSON values.
    """
    trials = [entry._asdict() for entry in entries]
    write_json(
        directory / "leaderboard.json",
        {
            **header,
            "importances": {name: importance._asdict() for name, importance in shares.items()},
            "trials": trials,
        },
    )
    rows = [{**trial, "params": json.dumps(trial["params"])} for trial in trials]
    write_table(directory / "leaderboard.csv", pl.DataFrame(rows, infer_schema_length=None))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
