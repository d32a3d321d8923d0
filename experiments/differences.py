"""The best models against each other: differences with a paired bootstrap over users."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from experiments.cells import RANKS_FILE, Cell
from experiments.results import read_ranks
from experiments.significance import paired_bootstrap

_BEST = 3
"""Models that are compared with each other."""

_METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "recall@20": lambda rank_n: (rank_n <= 20).astype(float),
    "mrr": lambda rank_n: 1 / rank_n,
}

_KEYS = ["user_id", "session", "position"]


def best_differences(cells: list[Cell]) -> list[dict[str, Any]]:
    """Differences of the models of the highest mrr, over all, first and next events.

    Returns:
      [{"first", "second", "group", "metric", "difference", "low", "high"}] for each pair.
    """
    mrr: dict[str, list[float]] = {}
    for cell in cells:
        mrr.setdefault(cell.model, []).append(cell.values["metrics"]["all"]["mrr"])
    best = sorted(mrr, key=lambda model: -float(np.mean(mrr[model])))[:_BEST]
    frames = {
        model: _event_metrics([cell for cell in cells if cell.model == model]) for model in best
    }
    out = []
    for first, second in itertools.combinations(best, 2):
        for group, metric in itertools.product(("all", "first", "next"), _METRICS):
            keep = _group(frames[first], group)
            if not keep.any():
                continue
            interval = paired_bootstrap(
                frames[first][metric].to_numpy()[keep],
                frames[second][metric].to_numpy()[keep],
                frames[first]["user_id"].to_numpy()[keep],
            )
            names = {"first": first, "second": second, "group": group, "metric": metric}
            out.append({**names, **interval._asdict()})
    return out


def _group(frame: pl.DataFrame, group: str) -> np.ndarray:
    position_n = frame["position"].to_numpy()
    if group == "all":
        return np.full(len(position_n), True)
    return (position_n == 0) if group == "first" else (position_n > 0)


def _event_metrics(cells: list[Cell]) -> pl.DataFrame:
    """Each event's metrics, means over the seeds, in one order for all models."""
    frames = [read_ranks(cell.directory / RANKS_FILE) for cell in cells]
    ranks = [frame["rank"].to_numpy() for frame in frames]
    columns = {
        name: np.mean([f(rank_n) for rank_n in ranks], axis=0) for name, f in _METRICS.items()
    }
    return frames[0].select(_KEYS).with_columns(pl.Series(name, v) for name, v in columns.items())
