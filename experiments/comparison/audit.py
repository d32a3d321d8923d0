"""The leakage audit of a comparison: no score may depend on data that the model must not know.

Fits are frozen: neural models come from their cells' checkpoints, rankers are fitted like their
cells. For a sample of the scored events, the audit changes and deletes these, and compares scores:

    own_later_events        the event itself, and all events of the user that happened later or come
                            after it
    others_held_out_events  held-out events of other users
    others_later_events     events of other users at the event's time or later

It also checks the fits:

    fit_without_held_out    other held-out events give the same ranker, or the same training batches
    causal_fit              for rankers that claim to be causal: fitted on what was known at the
                            event's time, they score it the same
    start_state             for neural models: a user's first event scores the same after other
                            users as from a fresh carry

And the counts of memory, for each kind of it that a model has, at the level of its row:

    world_by_time           the log with everything that the event must not know changed, or
    followers_by_time       deleted, gives it the same counts, bit for bit: at `live` everything at
    own_by_time             its time or later, at `delayed:15m` the 15 minutes before it too, at
                            `fitted` and `static` also what is held out

A neural model is audited on its first seed.
"""

import functools
from pathlib import Path
from typing import Any

import jax
from rich.table import Table

from experiments.comparison.audit_checks import (
    Result,
    Target,
    check_frozen,
    check_start_state,
    sample_targets,
)
from experiments.comparison.audit_fits import check_batches, check_causal, check_ranker_fit, fit
from experiments.comparison.audit_memory import check_counts
from experiments.comparison.cells import (
    Cell,
    Comparison,
    cell_config,
    cell_ranker,
    run_directory,
)
from experiments.comparison.scorers import model_scorer, ranker_scorer
from experiments.judging.result_tables import print_table
from experiments.judging.results import write_json
from experiments.runs.recall import recall_of
from experiments.runs.restore import restore_run
from hiertcn_jax.memory.levels import FITTED

_EVENTS = 32
"""Number of sampled events, each of another user."""

_SEED = 0

_RANKER_TOLERANCE = 1e-9
"""Tolerance for sums in another order, in float64."""

_MODEL_TOLERANCE = 1e-4
"""Tolerance for the same user in other positions of other batches, in float32."""


class AuditError(Exception):
    """A score depends on data that the model must not know."""


def audit(comparison: Comparison, cells: list[Cell]) -> None:
    """Audits every model, prints the findings, and writes W/audit.json.

    Raises:
      AuditError: A check failed, or there is nothing to check.
    """
    targets = sample_targets(comparison.data, comparison.split, _EVENTS, _SEED)
    if not targets:
        raise AuditError(
            f"{comparison.data.directory}: {comparison.split.name.lower()} has no events on items "
            "that train has, so there is nothing to audit; leave --audit out"
        )
    models: dict[str, dict[str, Any]] = {}
    for cell in cells:
        if cell.row not in models:
            one = audit_ranker if cell.seed is None else audit_model
            models[cell.row] = {
                "causal": cell.values["causal"],
                "counts": None if cell.level is None else str(cell.level),
                "checks": {name: r._asdict() for name, r in one(comparison, cell, targets).items()},
            }
    path = comparison.workdir / "audit.json"
    part = comparison.split.name.lower()
    fit_on = comparison.run.train.fit_on
    header = {"split": part, "fit_on": fit_on, "data_hash": comparison.data.content_hash}
    write_json(path, {**header, "seed": _SEED, "models": models})
    print_table(audit_table(models, f"Leakage audit, {comparison.workdir}, {part}"))
    _require_passed(models, path)


def audit_ranker(comparison: Comparison, cell: Cell, targets: list[Target]) -> dict[str, Result]:
    """The checks of a ranker."""
    data, fit_on, tolerance = comparison.data, comparison.run.train.fit_on, _RANKER_TOLERANCE
    level = cell.level or FITTED
    make = functools.partial(cell_ranker, comparison, cell.model, level)
    ranker = fit(make, data, fit_on, level)
    score = ranker_scorer(ranker)
    results = check_frozen(score, targets, fit_on, data.vocabulary.size, tolerance)
    if not level.counts_held_out:
        results["fit_without_held_out"] = check_ranker_fit(
            make, data, fit_on, level, targets, tolerance
        )
    if ranker.causal:
        results["causal_fit"] = check_causal(make, data, fit_on, level, targets, tolerance)
    return results


def audit_model(comparison: Comparison, cell: Cell, targets: list[Target]) -> dict[str, Result]:
    """The checks of a neural model."""
    data, tolerance = comparison.data, _MODEL_TOLERANCE
    run, level = cell_config(comparison, cell.model, cell.seed or 0), cell.level or FITTED
    fit_on, directory = run.train.fit_on, cell.directory
    if level != FITTED:
        directory = run_directory(comparison, cell.model, cell.seed or 0)
    # By default some devices round the factors of products.
    with jax.default_matmul_precision("highest"):
        restored = restore_run(directory, "best")
        recall = recall_of(data, restored.config, fit_on, level)
        score = model_scorer(restored, data.embeddings, recall)
        results = check_frozen(score, targets, fit_on, data.vocabulary.size, tolerance)
        results["fit_without_held_out"] = check_batches(run, data)
        results["start_state"] = check_start_state(score, targets, tolerance)
        if recall is not None:
            results |= check_counts(data, restored.config, fit_on, level, targets)
    jax.clear_caches()
    return results


def audit_table(models: dict[str, dict[str, Any]], title: str) -> Table:
    """A table with a row per model and check."""
    table = Table(title=title)
    for column in ("model", "causal fit", "check", "passed", "events", "greatest difference"):
        table.add_column(column, justify="right" if column.startswith(("ev", "gr")) else "left")
    said = {True: "yes", False: "[bold red]NO[/bold red]", None: "nothing to check"}
    for model, entry in models.items():
        causal = ("yes" if entry["causal"] else "no") + (
            f", {entry['counts']}" if entry["counts"] else ""
        )
        for check, found in entry["checks"].items():
            difference = "-" if found["difference"] is None else f"{found['difference']:.1e}"
            passed, events = said[found["passed"]], f"{found['events']:,}"
            table.add_row(model, causal, check, passed, events, difference)
        table.add_section()
    return table


def _require_passed(models: dict[str, dict[str, Any]], path: Path) -> None:
    failed = [
        f"{model} {check}"
        for model, entry in models.items()
        for check, found in entry["checks"].items()
        if found["passed"] is False
    ]
    if failed:
        raise AuditError(
            f"{path}: leakage audit failed: {', '.join(failed)}; do not use the figures of these "
            "models. If own_later_events fails, prepare the log again: sessions that overlap are "
            "merged now"
        )
