"""What a sweep found: its trials by rank, how much each parameter mattered, the best settings."""

import json
import statistics
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import polars as pl
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState
from rich.table import Table

from experiments.results import write_json
from experiments.study import places

_STATES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


class Entry(NamedTuple):
    """A trial, over all its attempts.

    Attributes:
      trial: Its place among the trials, and the name of its directory.
      state: done, pruned, failed, running or waiting, of the last attempt.
      value: The monitored metric; of a pruned trial the last that was reported; None without any.
      attempts: How many there were.
      params: What was drawn.
      workdir: Its directory, on the machine that ran it last.
      error: Why it failed.
    """

    trial: int
    state: str
    value: float | None
    attempts: int
    params: dict[str, Any]
    workdir: str | None
    error: str | None


def leaderboard(study: optuna.Study) -> list[Entry]:
    """All trials: those that are done, best first, then pruned ones, then the others."""
    trials = study.get_trials(deepcopy=False)
    attempts: dict[int, list[optuna.trial.FrozenTrial]] = {}
    for number, place in places(trials).items():
        attempts.setdefault(place, []).append(trials[number])
    entries = [_entry(place, trials) for place, trials in attempts.items()]
    order = list(_STATES.values())
    return sorted(entries, key=lambda e: (order.index(e.state), -(e.value or 0.0), e.trial))


def _entry(place: int, trials: list[optuna.trial.FrozenTrial]) -> Entry:
    last = trials[-1]
    reported = last.intermediate_values
    value = last.value if last.state == TrialState.COMPLETE else None
    if last.state == TrialState.PRUNED and reported:
        value = reported[max(reported)]
    attributes = last.user_attrs
    return Entry(
        place,
        _STATES[last.state],
        value,
        len(trials),
        last.params,
        attributes.get("workdir"),
        attributes.get("error") if last.state == TrialState.FAIL else None,
    )


def importances(study: optuna.Study) -> dict[str, float]:
    """Each parameter's share of what decides whether a trial is among the best (PED-ANOVA).

    Watanabe, Bansal, Hutter, PED-ANOVA, IJCAI 2023. Empty with fewer than two trials that are done.
    """
    done = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    if len(done) < 2 or statistics.pvariance([t.value or 0.0 for t in done]) == 0:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.importance.get_param_importances(study)


def leaderboard_table(entries: list[Entry], title: str) -> Table:
    """A row for each trial."""
    table = Table(title=title)
    for column in ("trial", "state", "value", "attempts", "parameters"):
        table.add_column(column, justify="left" if column in ("state", "parameters") else "right")
    for entry in entries:
        value = "-" if entry.value is None else f"{entry.value:.4f}"
        words = [f"{name}={_short(drawn)}" for name, drawn in entry.params.items()]
        if entry.error:
            words.append(f"[red]{entry.error}")
        table.add_row(str(entry.trial), entry.state, value, str(entry.attempts), "  ".join(words))
    return table


def importance_table(values: Mapping[str, float]) -> Table:
    """A row for each parameter."""
    table = Table(title="importance of the parameters")
    table.add_column("parameter")
    table.add_column("share", justify="right")
    for name, share in values.items():
        table.add_row(name, f"{share:.2f}")
    return table


def write_leaderboard(
    directory: Path, entries: list[Entry], shares: Mapping[str, float], header: Mapping[str, Any]
) -> None:
    """Writes leaderboard.json and leaderboard.csv.

    Args:
      directory: Where.
      entries: The trials.
      shares: Importances.
      header: What the sweep was of, JSON values.
    """
    trials = [entry._asdict() for entry in entries]
    write_json(
        directory / "leaderboard.json",
        {**header, "importances": dict(shares), "trials": trials},
    )
    rows = [{**trial, "params": json.dumps(trial["params"])} for trial in trials]
    pl.DataFrame(rows, infer_schema_length=None).write_csv(directory / "leaderboard.csv")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
