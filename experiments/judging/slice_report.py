"""Reports slices of one evaluation or of a whole comparison: <split>_slices.json and plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from data_pipelines.histories.record import Split
from experiments.comparison.cells import RANKS_FILE, Cell
from experiments.judging.collector import Evaluation, ScoredEvents
from experiments.judging.results import read_ranks, write_json
from experiments.judging.slice_plots import plot_slices
from experiments.judging.slices import cut, slice_metrics
from experiments.runs.data import Data


class Scoring(NamedTuple):
    """How all models of a report were scored.

    Attributes:
      split: The scored part.
      fit_on: The fitted part.
      mask_seen: The items left out of the ranking.
      counts: The level of counts, if all models have the same.
    """

    split: Split
    fit_on: str
    mask_seen: str
    counts: str | None = None


def report_evaluation(
    evaluation: Evaluation,
    data: Data,
    model: str,
    scoring: Scoring,
    directory: Path,
    stem: str | None = None,
) -> None:
    """Writes the slices of one model's evaluation, and their plots.

    Args:
      evaluation: Its evaluation.
      data: The data.
      model: Its name.
      scoring: How it was scored.
      directory: Where to write <stem>_slices.json and <stem>_slices_<slice>.png.
      stem: Start of the files' names; None: the split.
    """
    cut_by = cut(evaluation.events, data, scoring.fit_on)
    values = slice_metrics(cut_by, evaluation.rank_n, evaluation.events.user_n)
    events_hash = evaluation.metrics["events_hash"]
    prefix = directory / f"{stem or scoring.split.name.lower()}_slices"
    _write({model: [{"seed": None, "slices": values}]}, data, scoring, events_hash, prefix)


def report_comparison(cells: list[Cell], data: Data, scoring: Scoring, directory: Path) -> None:
    """Writes the slices of all cells side by side, and plots with a line per model.

    Args:
      cells: They all scored the same events.
      data: The data.
      scoring: How they were scored.
      directory: Where to write <split>_slices.json and <split>_slices_<slice>.png.
    """
    frames = [read_ranks(cell.directory / RANKS_FILE) for cell in cells]
    events = _events_of(frames[0], data)
    cut_by = cut(events, data, scoring.fit_on)
    models: dict[str, list[dict[str, Any]]] = {}
    for cell, frame in zip(cells, frames, strict=True):
        values = slice_metrics(cut_by, frame["rank"].to_numpy(), events.user_n)
        models.setdefault(cell.row, []).append({"seed": cell.seed, "slices": values})
    events_hash = cells[0].values["metrics"]["events_hash"]
    prefix = directory / f"{scoring.split.name.lower()}_slices"
    _write(models, data, scoring, events_hash, prefix)


def _events_of(ranks: pl.DataFrame, data: Data) -> ScoredEvents:
    """The events of a file of ranks, as in an evaluation; indices are those of the file."""
    users = range(len(data.histories))
    histories = data.histories.__getitems__(list(users))
    index = {history.user_id: user for user, history in zip(users, histories, strict=True)}
    user_n = np.array([index[user_id] for user_id in ranks["user_id"]], np.int64)
    session_n, position_n = ranks["session"].to_numpy(), ranks["position"].to_numpy()
    before_n = [
        histories[user].session_lengths[:session].sum()
        for user, session in zip(user_n, session_n, strict=True)
    ]
    return ScoredEvents(
        np.arange(len(ranks)),
        user_n,
        session_n,
        position_n,
        np.array(before_n, np.int64) + position_n,
        data.vocabulary.encode(ranks["item_id"].to_list()),
    )


def _write(
    models: Mapping[str, list[dict[str, Any]]],
    data: Data,
    scoring: Scoring,
    events_hash: str,
    prefix: Path,
) -> None:
    part = scoring.split.name.lower()
    header = {
        "split": part,
        "fit_on": scoring.fit_on,
        "mask_seen": scoring.mask_seen,
        **({} if scoring.counts is None else {"counts": scoring.counts}),
        "data_hash": data.content_hash,
        "events_hash": events_hash,
    }
    write_json(prefix.with_name(f"{prefix.name}.json"), {**header, "models": models})
    slices = {model: [run["slices"] for run in runs] for model, runs in models.items()}
    plot_slices(slices, prefix, f"{data.directory.name}, {part}")
