"""Summarizes a comparison: one row per model, means and standard deviations over its seeds."""

import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

from experiments.comparison.cells import Cell
from hiertcn_jax.scoring.metric_sums import GROUPS
from hiertcn_jax.scoring.metrics import METRICS

AVERAGES = ("events", "users")


class Figure(NamedTuple):
    """A metric over the seeds; the deviation is None if there is only one."""

    mean: float | None
    deviation: float | None

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        text = f"{self.mean:.4f}"
        return text if self.deviation is None else f"{text} ± {self.deviation:.4f}"


class Row(NamedTuple):
    """A model over its seeds.

    Attributes:
      model: Its name.
      seeds: Number of seeds.
      figures: By (average, group, metric), without metrics that an average does not have, or that
        cells of an earlier version lack.
      parameters: Parameters, not counting item embeddings; None for a ranker.
      train_events_per_s: Median over the seeds; None if the model learns nothing.
      score_events_per_s: Median over the seeds.
      causal: Whether it uses other users' events only from before the event.
      counts: The level of its counts; None if its scores have none.
    """

    model: str
    seeds: int
    figures: dict[tuple[str, str, str], Figure]
    parameters: int | None
    train_events_per_s: float | None
    score_events_per_s: float
    causal: bool
    counts: str | None = None

    def figure(self, average: str, group: str, metric: str) -> Figure:
        """A figure; without a mean if there is none."""
        return self.figures.get((average, group, metric), Figure(None, None))


def summarize(cells: list[Cell]) -> list[Row]:
    """One row a model, in the order of the cells."""
    models = list(dict.fromkeys(cell.row for cell in cells))
    return [_row(model, [cell for cell in cells if cell.row == model]) for model in models]


def _row(model: str, cells: list[Cell]) -> Row:
    values, level = [cell.values for cell in cells], cells[0].level

    def groups(cell: dict[str, Any], average: str) -> dict[str, Any]:
        return cell["metrics"] if average == "events" else cell["metrics"]["per_user"]

    figures = {
        (average, group, metric): _figure(groups(v, average)[group].get(metric) for v in values)
        for average in AVERAGES
        for group in GROUPS
        for metric in METRICS
        if any(metric in groups(v, average)[group] for v in values)
    }
    train_speeds = _known(v["train_events_per_s"] for v in values)
    return Row(
        model,
        len(values),
        figures,
        values[0]["parameters"],
        statistics.median(train_speeds) if train_speeds else None,
        statistics.median(v["score_events_per_s"] for v in values),
        values[0]["causal"],
        None if level is None else str(level),
    )


def _figure(values: Iterable[float | None]) -> Figure:
    known = _known(values)
    if not known:
        return Figure(None, None)
    return Figure(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def best_mean(rows: list[Row], average: str, group: str, metric: str) -> float | None:
    """The best of the models' means."""
    means = _known(row.figure(average, group, metric).mean for row in rows)
    return max(means, key=METRICS[metric].worth, default=None)


def summary_json(rows: list[Row]) -> dict[str, Any]:
    """The rows by model; metrics as {"mean", "std"}, nested as in an evaluation's JSON."""

    def metrics(row: Row, average: str) -> dict[str, Any]:
        return {
            group: {
                metric: {"mean": figure.mean, "std": figure.deviation}
                for metric in METRICS
                if (figure := row.figures.get((average, group, metric)))
            }
            for group in GROUPS
        }

    return {
        row.model: {
            "seeds": row.seeds,
            "causal": row.causal,
            "counts": row.counts,
            "parameters": row.parameters,
            "train_events_per_s": row.train_events_per_s,
            "score_events_per_s": row.score_events_per_s,
            **metrics(row, "events"),
            "per_user": metrics(row, "users"),
        }
        for row in rows
    }
