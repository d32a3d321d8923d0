"""Collects the ranks of scored events, and computes the metrics of a split."""

from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.judging.shown_lists import ShownRanks
from experiments.runs.data import Data
from hiertcn_jax.batch import FIRST_ITEM_ID, UNKNOWN_ID, LaneBatch
from hiertcn_jax.devices import processes
from hiertcn_jax.scoring.metric_sums import MetricSums, user_keys


class ScoredEvents(NamedTuple):
    """The scored events of a batch, as arrays with an entry for each.

    Attributes:
      places_n: Its index in the batch, with rows laid end to end.
      user_n: Index of its user's history.
      session_n: Index of its session in that history.
      position_n: Index in the session.
      user_position_n: Index in the history.
      item_n: The target, a row of the item table.
    """

    places_n: np.ndarray
    user_n: np.ndarray
    session_n: np.ndarray
    position_n: np.ndarray
    user_position_n: np.ndarray
    item_n: np.ndarray


class Evaluation(NamedTuple):
    """The result of scoring a model.

    Attributes:
      metrics: The JSON of the evaluation contract, without split and checkpoint. With impressions
        also "shown": the same metrics within the list shown with each event that has one, and
        `mean_items`, the mean size of such lists.
      events: All scored events, in the order of evaluation.
      rank_n: float64, the rank of each.
    """

    metrics: dict[str, Any]
    events: ScoredEvents
    rank_n: np.ndarray


def scored_events(element: LaneBatch) -> ScoredEvents:
    """The scored events of a batch."""
    batch, info = element
    lane_n, place_n = np.nonzero(batch.scored_bl)
    slot_n = batch.session_bl[lane_n, place_n]
    return ScoredEvents(
        lane_n * batch.scored_bl.shape[1] + place_n,
        info.user_bs[lane_n, slot_n],
        info.session_in_user_bs[lane_n, slot_n],
        batch.position_bl[lane_n, place_n],
        batch.user_position_bl[lane_n, place_n],
        info.item_ids_bl[lane_n, place_n],
    )


class Collector:
    """Collects ranks, and computes the metrics of a split.

    Args:
      data: The users' ids, and the size of the catalogue.
      of_all_processes: Whether each process has a part of the events, and gets the metrics of all.
    """

    def __init__(self, data: Data, of_all_processes: bool = False) -> None:
        self._data, self._of_all_processes = data, of_all_processes
        self._events: list[ScoredEvents] = []
        self._ranks: list[np.ndarray] = []
        self._shown: list[ShownRanks] = []
        self._unknown_targets = 0

    def add(
        self,
        element: LaneBatch,
        events: ScoredEvents,
        rank_n: np.ndarray,
        shown: ShownRanks | None = None,
    ) -> None:
        """Adds a batch.

        Args:
          element: The batch.
          events: Its scored events.
          rank_n: The rank of each.
          shown: Ranks within the lists shown with them; None for data without impressions.
        """
        if shown is not None:
            first = sum(len(ranks) for ranks in self._ranks)
            self._shown.append(shown._replace(index_n=first + shown.index_n))
        info = element.info
        self._unknown_targets += int(np.sum(info.target_bl & (info.item_ids_bl == UNKNOWN_ID)))
        self._events.append(events)
        self._ranks.append(rank_n)

    def result(self) -> Evaluation:
        """The metrics of all batches."""
        events = ScoredEvents(*(np.concatenate(parts) for parts in zip(*self._events, strict=True)))
        keys_n = user_keys(self._data.user_ids(events.user_n))
        rank_n, unknown_targets = np.concatenate(self._ranks), self._unknown_targets
        shown = (
            ShownRanks(*map(np.concatenate, zip(*self._shown, strict=True)))
            if self._shown
            else None
        )
        if self._of_all_processes:
            shown = None if shown is None else _gathered_shown(shown, len(rank_n))
            events, rank_n, keys_n = _gathered(events, rank_n, keys_n)
            unknown_targets = sum(processes.gather_json(unknown_targets))
        sums = MetricSums(self._data.vocabulary.size - FIRST_ITEM_ID)
        sums.add(rank_n, keys_n, events.session_n, events.position_n)
        metrics = {
            "data_hash": self._data.content_hash,
            "unknown_targets": unknown_targets,
            **sums.result(),
            **({} if shown is None else self._shown_metrics(shown, events, keys_n)),
        }
        return Evaluation(metrics, events, rank_n)

    def _shown_metrics(
        self, shown: ShownRanks, events: ScoredEvents, keys_n: np.ndarray
    ) -> dict[str, Any]:
        index_n, rank_n, size_n = shown
        sums = MetricSums(self._data.vocabulary.size - FIRST_ITEM_ID)
        session_n, position_n = events.session_n[index_n], events.position_n[index_n]
        sums.add(rank_n, keys_n[index_n], session_n, position_n, size_n)
        mean_items = float(size_n.mean()) if len(size_n) else None
        return {"shown": {"mean_items": mean_items, **sums.result()}}


def _gathered(
    events: ScoredEvents, rank_n: np.ndarray, keys_n: np.ndarray
) -> tuple[ScoredEvents, np.ndarray, np.ndarray]:
    """Scored events with their ranks and users' keys, in the order of the processes."""
    columns = [*(np.asarray(column, np.int64) for column in events), rank_n, keys_n]
    rows_nc = np.stack([column.view(np.int64) for column in columns], axis=1)
    gathered = [np.ascontiguousarray(column) for column in processes.gather_rows(rows_nc).T]
    return ScoredEvents(*gathered[:-2]), gathered[-2].view(np.float64), gathered[-1].view(np.uint64)


def _gathered_shown(shown: ShownRanks, events: int) -> ShownRanks:
    """Ranks within lists of all processes; `events` is the number that this process has scored."""
    before = sum(processes.gather_json(events)[: jax.process_index()])
    columns = [before + shown.index_n, shown.rank_n.view(np.int64), shown.size_n.astype(np.int64)]
    index_n, rank_n, size_n = processes.gather_rows(np.stack(columns, axis=1)).T
    return ShownRanks(index_n, np.ascontiguousarray(rank_n).view(np.float64), size_n)


def flat_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """`group/metric` -> value for the groups all, first and next, over events."""
    return {
        f"{group}/{name}": value
        for group in ("all", "first", "next")
        for name, value in metrics[group].items()
        if name != "events" and value is not None
    }
