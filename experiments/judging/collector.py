"""Collects the ranks of scored events, and computes the metrics of a split."""

from typing import Any, NamedTuple

import numpy as np

from data_pipelines.lanes.open_catalogue import OpenCatalogue
from experiments.judging.shown_lists import ShownRanks, has_impressions
from experiments.runs.data import Data
from hiertcn_jax.batch import FIRST_ITEM_ID, UNKNOWN_ID, LaneBatch
from hiertcn_jax.devices import processes
from hiertcn_jax.scoring.metric_sums import MetricSums, user_keys


class ScoredEvents(NamedTuple):
    """The scored events of a batch, as arrays with an entry for each.

    Attributes:
      places_n: Its index in the batch, with segments laid end to end.
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
      metrics: The JSON of the evaluation contract, without split and checkpoint. In the live
        catalogue also "catalogue" and "unseen", the events of items that nobody had picked before,
        which are not scored. With impressions
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


def open_catalogue(data: Data, knows_all: bool = False) -> OpenCatalogue | None:
    """The live catalogue of data; None if it is the fitted one. See `OpenCatalogue.of`."""
    if data.catalogue == "fitted":
        return None
    return OpenCatalogue.of(data.vocabulary, knows_all or data.embeddings is not None)


class Collector:
    """Collects ranks, and computes the metrics of a split.

    Args:
      data: The users' ids, and the catalogue.
      of_all_processes: Whether each process has a part of the events, and gets the metrics of all.
    """

    def __init__(self, data: Data, of_all_processes: bool = False) -> None:
        self._data, self._of_all_processes = data, of_all_processes
        catalogue = data.vocabulary.size - FIRST_ITEM_ID
        self._opened = open_catalogue(data)
        self._unseen = 0
        self._sums = MetricSums(catalogue, data.counts_v("train"))
        self._shown_sums, self._shown_items = MetricSums(catalogue), 0
        self._events: list[ScoredEvents] = []
        self._ranks: list[np.ndarray] = []
        self._unknown_targets = 0

    def add(
        self,
        element: LaneBatch,
        events: ScoredEvents,
        rank_n: np.ndarray,
        listed_nk: np.ndarray,
        shown: ShownRanks | None = None,
    ) -> None:
        """Adds a batch.

        Args:
          element: The batch.
          events: Its scored events.
          rank_n: The rank of each.
          listed_nk: The top items of each (`RankedEvents`).
          shown: Ranks within the lists shown with them; None for data without impressions.
        """
        keys_n = user_keys(self._data.user_ids(events.user_n))
        session_n, position_n = events.session_n, events.position_n
        size_n, info = None, element.info
        if self._opened is not None:
            size_n = self._opened.items_known(info.time_bl.reshape(-1)[events.places_n])
            unseen_bl = info.target_bl & (info.item_ids_bl > UNKNOWN_ID) & ~element.batch.scored_bl
            self._unseen += int(unseen_bl.sum())
        self._sums.add(rank_n, keys_n, session_n, position_n, size_n, listed_nk)
        if shown is not None:
            at, size_n = shown.index_n, shown.size_n
            self._shown_sums.add(shown.rank_n, keys_n[at], session_n[at], position_n[at], size_n)
            self._shown_items += int(size_n.sum())
        self._unknown_targets += int(np.sum(info.target_bl & (info.item_ids_bl == UNKNOWN_ID)))
        self._events.append(events)
        self._ranks.append(rank_n)

    def result(self) -> Evaluation:
        """The metrics of all batches."""
        events = ScoredEvents(*(np.concatenate(parts) for parts in zip(*self._events, strict=True)))
        rank_n, sums, shown_sums = np.concatenate(self._ranks), self._sums, self._shown_sums
        counts = [self._unknown_targets, self._shown_items, self._unseen]
        if self._of_all_processes:
            events, rank_n = _gathered(events, rank_n)
            sums, shown_sums = (x.gathered(processes.gather_rows) for x in (sums, shown_sums))
            counts = np.sum(processes.gather_json(counts), axis=0).tolist()
        unknown_targets, shown_items, unseen = counts
        live = {} if self._opened is None else {"catalogue": "live", "unseen": unseen}
        metrics = {
            "data_hash": self._data.content_hash,
            **live,
            "unknown_targets": unknown_targets,
            **sums.result(),
        }
        if has_impressions(self._data):
            shown = shown_sums.result()
            mean_items = shown_items / shown["events"] if shown["events"] else None
            metrics["shown"] = {"mean_items": mean_items, **shown}
        return Evaluation(metrics, events, rank_n)


def _gathered(events: ScoredEvents, rank_n: np.ndarray) -> tuple[ScoredEvents, np.ndarray]:
    """Scored events with their ranks, one process after the other."""
    columns = [*(np.asarray(column, np.int64) for column in events), rank_n]
    rows_nc = np.stack([column.view(np.int64) for column in columns], axis=1)
    gathered = [np.ascontiguousarray(column) for column in processes.gather_rows(rows_nc).T]
    return ScoredEvents(*gathered[:-1]), gathered[-1].view(np.float64)


def flat_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """`group/metric` -> value for the groups all, first and next, over events."""
    return {
        f"{group}/{name}": value
        for group in ("all", "first", "next")
        for name, value in metrics[group].items()
        if name != "events" and value is not None
    }
