"""Compares the best model of each group with every other: differences by a paired bootstrap."""

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.comparison.cells import RANKS_FILE, Cell
from experiments.comparison.significance import paired_bootstrap
from experiments.judging.results import read_ranks
from hiertcn_jax.scoring.metrics import METRICS, of_ranks

_METRICS = ("mrr", "recall@20")
_BEST = "mrr"
"""The metric that says which model is the best of a group."""

_GROUPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "all": lambda position_n: np.full(len(position_n), True),
    "first": lambda position_n: position_n == 0,
    "next": lambda position_n: position_n > 0,
}


def best_differences(cells: list[Cell]) -> list[dict[str, Any]]:
    """For all, first and next events: the model with the best mrr, minus each other one.

    Returns:
      [{"first", "second", "group", "metric", "difference", "low", "high"}], where `first` is the
      best of the group; for models with several seeds the mean over them counts.
    """
    models = list(dict.fromkeys(cell.row for cell in cells))
    of_model = {model: [cell for cell in cells if cell.row == model] for model in models}
    events = read_ranks(cells[0].directory / RANKS_FILE)
    position_n = events["position"].to_numpy()
    _, user_n = np.unique(events["user_id"].to_numpy(), return_inverse=True)
    values = {model: _event_metrics(of_model[model]) for model in models}
    out = []
    for group, belongs in _GROUPS.items():
        kept_n = belongs(position_n)
        if not kept_n.any() or len(models) < 2:
            continue
        means = {model: _mean(of_model[model], group) for model in models}
        best = max(models, key=lambda model: METRICS[_BEST].worth(means[model]))
        pairs = [(model, metric) for model in models if model != best for metric in _METRICS]
        columns = [(values[best][metric] - values[m][metric])[kept_n] for m, metric in pairs]
        intervals = paired_bootstrap(np.stack(columns, axis=1), user_n[kept_n])
        for (model, metric), interval in zip(pairs, intervals, strict=True):
            names = {"first": best, "second": model, "group": group, "metric": metric}
            out.append({**names, **interval._asdict()})
    return out


def _mean(cells: list[Cell], group: str) -> float:
    return statistics.fmean(cell.values["metrics"][group][_BEST] for cell in cells)


def _event_metrics(cells: list[Cell]) -> dict[str, np.ndarray]:
    """Each event's metrics, averaged over the seeds, in the same order for all models."""
    ranks = [read_ranks(cell.directory / RANKS_FILE)["rank"].to_numpy() for cell in cells]
    return {
        metric: np.mean([of_ranks(metric, rank_n) for rank_n in ranks], axis=0)
        for metric in _METRICS
    }
