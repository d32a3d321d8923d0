"""Scores a period, or all of them, and keeps the ranks: a finished part is never made again."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from data_pipelines.histories.record import Split
from data_pipelines.raw.parquet import read_parquet
from experiments.judging.collector import Evaluation
from experiments.judging.evaluation import Evaluator
from experiments.judging.rankers import evaluate_ranker, fit_ranker, fitted_histories, ranker_for
from experiments.judging.results import write_table
from experiments.replaying.retraining import Trained, trained_at
from experiments.replaying.walk import Periods, Update, seen_from
from experiments.runs.continuing import fitted_until
from experiments.runs.data import Data
from experiments.runs.recall import recall_of
from experiments.runs.restore import Restored, known_to
from hiertcn_jax.baselines.registry import AT_LEVELS
from hiertcn_jax.memory.levels import FITTED, Level

COLUMNS = ("user_id", "session", "position", "user_position", "item", "time", "start", "rank")

_SCHEMA = {
    **dict.fromkeys(COLUMNS, pl.Int64),
    "user_id": pl.String,
    "rank": pl.Float64,
    "seconds": pl.Float64,
    "train_seconds": pl.Float64,
}
"""`seconds`: what the part of the event took, `train_seconds`: what learning before it took."""


class Ranker(NamedTuple):
    """A ranker to replay.

    Attributes:
      name: Its name in the report.
      kind: A key of RANKERS.
      arguments: Its arguments.
    """

    name: str
    kind: str
    arguments: dict[str, Any]

    def level(self, update: Update) -> Level:
        """The level of its counts."""
        return update.level if self.kind in AT_LEVELS else FITTED


class Model(NamedTuple):
    """A trained model to replay.

    Attributes:
      name: Its name in the report.
      restored: The run.
      workdir: Its directory.
      share: Where it is trained on, the share of older events among those to learn.
    """

    name: str
    restored: Restored
    workdir: Path
    share: float


def score_row(
    subject: Ranker | Model, update: Update, data: Data, periods: Periods, directory: Path
) -> pl.DataFrame:
    """The ranks of all scored events of a row of the report.

    Args:
      subject: What scores.
      update: What it learns meanwhile.
      data: The log, with the live catalogue.
      periods: The spans to score.
      directory: Keeps a file of ranks for each part that is finished.

    Returns:
      A frame of COLUMNS, and the seconds that the part of each event took.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if update.refits:
        periods = periods if update.every is None else periods.every(update.every)
    else:
        periods = Periods(periods.starts[:1], periods.end)
    frames = []
    for number, (_, end) in enumerate(periods.bounds):
        path = directory / f"{number:05d}.parquet"
        if not path.exists():
            starts = periods.starts[: number + 1]
            write_table(path, _score(subject, update, data, starts, end, directory / "models"))
        names = list(_SCHEMA)
        frames.append(read_parquet(path, names, lambda found: None))
    return pl.concat(frames)


def _score(
    subject: Ranker | Model,
    update: Update,
    data: Data,
    starts: tuple[int, ...],
    end: int,
    models: Path,
) -> pl.DataFrame:
    """Scores a part.

    Args:
      subject: What scores.
      update: What it learns meanwhile.
      data: The log.
      starts: When it learned; the last is the start of the part.
      end: The end of the part.
      models: Keeps models.
    """
    seen = seen_from(data, starts[-1], end)
    if not seen.known_events(Split.TEST):
        return pl.DataFrame(schema=_SCHEMA)
    started = time.perf_counter()
    if isinstance(subject, Ranker):
        level = subject.level(update)
        ranker = ranker_for(subject.kind, seen, subject.arguments, level)
        fit_ranker(subject.name, ranker, fitted_histories(seen, "train", level))
        learned = time.perf_counter()
        evaluation = evaluate_ranker(ranker, seen, Split.TEST, name=subject.name)
    else:
        restored = subject.restored
        if update.refits:
            until = fitted_until(restored, subject.workdir, data)
            first = Trained(restored, subject.workdir, until)
            restored = trained_at(first, data, starts, subject.share, models).restored
            seen = known_to(restored, seen)
        learned = time.perf_counter()
        recall = recall_of(seen, restored.config, "train", update.level)
        evaluator = Evaluator(
            restored.model,
            restored.config,
            restored.evaluation,
            seen,
            Split.TEST,
            restored.layout,
            recall,
        )
        evaluation = evaluator(restored.params)
    return _frame(evaluation, seen, time.perf_counter() - started, learned - started)


def _frame(
    evaluation: Evaluation, data: Data, seconds: float, train_seconds: float
) -> pl.DataFrame:
    events = evaluation.events
    users, place_n = np.unique(events.user_n, return_inverse=True)
    histories = data.histories.__getitems__(users.tolist())
    first_u = np.cumsum([0, *(len(history.times) for history in histories)])[:-1]
    time_e = np.concatenate([history.times for history in histories])
    event_n = first_u[place_n] + events.user_position_n
    columns = (
        data.user_ids(events.user_n),
        events.session_n,
        events.position_n,
        events.user_position_n,
        events.item_n,
        time_e[event_n],
        time_e[event_n - events.position_n],
        evaluation.rank_n,
        np.full(len(event_n), seconds),
        np.full(len(event_n), train_seconds),
    )
    return pl.DataFrame(dict(zip(_SCHEMA, columns, strict=True)), schema=_SCHEMA)
