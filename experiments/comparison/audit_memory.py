"""Checks of the leakage audit on memory: counts at an event hold nothing that it must not know."""

from collections.abc import Iterator, Sequence

import numpy as np

from data_pipelines.histories.events import HistorySource
from data_pipelines.histories.record import History
from data_pipelines.lanes.loaders import eval_loader
from data_pipelines.lanes.memory_lists import Recall
from experiments.comparison.alterations import (
    AlteredHistories,
    ListedHistories,
    changed,
    held_out,
    without,
)
from experiments.comparison.audit_checks import Result, Target, judge, relative_difference
from experiments.runs.data import Data
from experiments.runs.recall import last_counted, recall_of
from hiertcn_jax.batch import Bucket
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.memory.config import KINDS
from hiertcn_jax.memory.levels import Level
from hiertcn_jax.memory.lists import FEATURES
from hiertcn_jax.memory.phi import COLUMNS

_RECOUNTS = 10
"""Number of targets for which the log is counted anew."""

_BUCKET = Bucket(lanes=1, events=64, sessions=16)


def check_counts(
    data: Data, model: ModelConfig, fit_on: str, level: Level, targets: Sequence[Target]
) -> dict[str, Result]:
    """Counts do not change, by any bit, if what the event must not know is changed or deleted.

    At an event, others' events are unknown from the time on that the level says, and so are those
    of the event's user; at `fitted` and `static` held-out events never count. Of the user's own
    picks, the event itself and everything after it is unknown.

    Args:
      data: The log.
      model: With memory.
      fit_on: The part that is fitted.
      level: Of its counts.
      targets: The events.

    Returns:
      A result for each kind of memory that the model has: world_by_time and so on.
    """
    recall, rows = recall_of(data, model, fit_on, level), data.vocabulary.size
    assert recall is not None
    found: dict[str, list[float]] = {kind: [] for kind in KINDS if kind in model.memory}
    for number, target in enumerate(targets[:_RECOUNTS]):
        known = int(recall.known_at(np.asarray([target.time]))[0])
        base_vf = _counts(recall, target.histories[0], target.event, rows)
        for deletes in (False, True):
            source = _as_known(data, known, fit_on, level, rows, deletes)
            altered = recall_of(data._replace(histories=source), model, fit_on, level)
            assert altered is not None
            # The clock of `static` stops at the end of the log as it is.
            altered = altered._replace(frozen_at=recall.frozen_at)
            own = _with_other_end(target, rows, number)
            other_vf = _counts(altered, own, target.event, rows)
            for kind, differences in found.items():
                columns = list(COLUMNS[kind])
                both = base_vf[:, columns], other_vf[:, columns]
                differences.append(relative_difference(*both))
    return {f"{kind}_by_time": judge(differences, 0.0) for kind, differences in found.items()}


def _as_known(
    data: Data, time: int, fit_on: str, level: Level, rows: int, deletes: bool
) -> HistorySource:
    """The log with all events from `time` on, and those that never count, changed or deleted."""

    def alter(user: int, history: History) -> History:
        unknown_n = history.times >= time
        if not level.counts_held_out:
            unknown_n |= held_out(history, fit_on, data.cut(last_counted(fit_on)))
        if deletes:
            return without(history, unknown_n)
        return changed(history, unknown_n, unknown_n, rows, user)

    return AlteredHistories(data.histories, alter)


def _with_other_end(target: Target, rows: int, seed: int) -> History:
    """The user's history with other items from the event on, and later times after it."""
    history = target.histories[0]
    places_n = np.arange(len(history.times))
    return changed(history, places_n >= target.event, places_n > target.event, rows, seed)


def _counts(recall: Recall, history: History, event: int, rows: int) -> np.ndarray:
    """float64 [v, f]. What memory says of each item at an event, as an evaluation is told."""
    counts_vf = np.zeros((rows, len(FEATURES)))
    for ids_k, counts_kf in _lists(recall, history, event):
        counts_vf[ids_k[ids_k > 0]] = counts_kf[ids_k > 0]
    return counts_vf


def _lists(recall: Recall, history: History, event: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    source = ListedHistories([history])
    recall = recall.with_users(source)
    for batch, _ in eval_loader(source, _BUCKET, split=None, recall=recall, prefetch=0):
        assert batch.memory_ids_blk is not None and batch.memory_counts_blkf is not None
        here_bl = (batch.user_position_bl == event) & (batch.loss_weight_bl > 0)
        yield from zip(
            batch.memory_ids_blk[here_bl], batch.memory_counts_blkf[here_bl], strict=True
        )
