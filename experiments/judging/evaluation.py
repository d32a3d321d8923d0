"""Scores a model on a split: exact ranks over the whole catalogue, every event once."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from data_pipelines.histories.record import Split
from data_pipelines.lanes.distinct_items import given_rows
from data_pipelines.lanes.loaders import eval_loader
from data_pipelines.lanes.memory_lists import Recall
from experiments.judging.config import EvalConfig
from experiments.judging.device_ranks import DeviceRanks, Ranked, collect_ranks, in_order
from experiments.judging.shown_lists import (
    ListRanker,
    PendingRanks,
    ShownRanks,
    find_lists,
    has_impressions,
)
from experiments.judging.streamed_ranks import StreamedRanks, own_queries
from experiments.runs.data import Data
from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID, UNKNOWN_ID, Bucket, LaneBatch
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.devices import processes
from hiertcn_jax.devices.mesh import Layout, lane_shardings, place_batch
from hiertcn_jax.models import Model
from hiertcn_jax.models.eval_step import make_eval_step
from hiertcn_jax.scoring.metrics import MetricSums, user_keys
from hiertcn_jax.scoring.scores import Queries


class ScoredEvents(NamedTuple):
    """The scored events of a batch, one place in each array an event.

    Attributes:
      places_n: Where it stands in the batch, rows laid end to end.
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
    """What a model scored.

    Attributes:
      metrics: The JSON of the evaluation contract, without split and checkpoint. With impressions
        also "shown": the same metrics within what was shown beside each event that has a list, and
        `mean_items`, the items of such a list.
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
    """Gathers ranks into the metrics of a split.

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
        """Takes in a batch.

        Args:
          element: The batch.
          events: Its scored events.
          rank_n: The rank of each.
          shown: Ranks within what was shown beside them; None for data without impressions.
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
    """Scored events with their ranks and users' keys, one process behind the other."""
    columns = [*(np.asarray(column, np.int64) for column in events), rank_n, keys_n]
    rows_nc = np.stack([column.view(np.int64) for column in columns], axis=1)
    gathered = [np.ascontiguousarray(column) for column in processes.gather_rows(rows_nc).T]
    return ScoredEvents(*gathered[:-2]), gathered[-2].view(np.float64), gathered[-1].view(np.uint64)


def _gathered_shown(shown: ShownRanks, events: int) -> ShownRanks:
    """Ranks within lists of all processes; `events` are those that this one has scored."""
    before = sum(processes.gather_json(events)[: jax.process_index()])
    columns = [before + shown.index_n, shown.rank_n.view(np.int64), shown.size_n.astype(np.int64)]
    index_n, rank_n, size_n = processes.gather_rows(np.stack(columns, axis=1)).T
    return ShownRanks(index_n, np.ascontiguousarray(rank_n).view(np.float64), size_n)


class Evaluator:
    """Scores one model on one split, as often as asked, each time from fresh carries.

    Args:
      model: The model.
      model_config: Its config.
      config: Bucket, masking, and sizes of the ranking.
      data: The data.
      split: VALID or TEST.
      layout: Where parameters and lanes lie, if on several devices.
      recall: The log's memory, for a model with terms of it.

    Raises:
      ValueError: The model has terms of memory, and there is none.
    """

    def __init__(
        self,
        model: Model,
        model_config: ModelConfig,
        config: EvalConfig,
        data: Data,
        split: Split,
        layout: Layout | None = None,
        recall: Recall | None = None,
    ) -> None:
        if model_config.memory and recall is None:
            raise ValueError(f"memory={','.join(model_config.memory)}: needs the log's memory")
        self._config, self._data, self._layout = config, data, layout
        self._loader = eval_loader(
            data.histories,
            Bucket(config.lanes, config.events, config.sessions),
            split=split,
            item_rows=given_rows(data.embeddings),
            recall=recall,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        self._fresh_carry = fresh_carry(model, config.lanes, layout)
        self._eval_step = make_eval_step(model, layout)
        self._ranks = DeviceRanks(model_config, config, layout)
        self._streamed = None
        if data.embeddings is not None:
            devices = jax.local_devices()[:1] if layout is None else layout.mesh.local_devices
            self._streamed = StreamedRanks(data.embeddings, model_config, config, devices)
        self._list_ranker = None
        if has_impressions(data):
            self._list_ranker = ListRanker(data, model_config, config, layout)

    def __call__(
        self, params: dict[str, Any], between_batches: Callable[[], None] = lambda: None
    ) -> Evaluation:
        """Every scored event's rank, and the metrics.

        Args:
          params: Parameters of the model.
          between_batches: Called before each batch; what it raises ends the evaluation.

        Raises:
          ValueError: A score is NaN.
        """
        carry = self._fresh_carry()
        collector = Collector(self._data, of_all_processes=True)
        waiting: list[tuple[LaneBatch, ScoredEvents, list[Ranked], PendingRanks | None]] = []
        for element in self._loader:
            between_batches()
            batch = place_batch(element.batch, self._layout)
            queries, carry = self._eval_step(params, batch, carry)
            events = scored_events(element)
            ranked, shown = (
                self._rank(params, queries, events),
                self._shown(params, queries, events),
            )
            waiting.append((element, events, ranked, shown))
            # Ranks are read one batch late: the device goes on while the host looks at them.
            if len(waiting) > 1:
                _collect(collector, *waiting.pop(0))
        for entry in waiting:
            _collect(collector, *entry)
        return collector.result()

    def _rank(self, params: dict[str, Any], queries: Queries, events: ScoredEvents) -> list[Ranked]:
        seen_nk = seen_items(self._data, events, self._config.mask_seen)
        item_n, embeddings = events.item_n, self._data.embeddings
        # Events whose targets are near each other find them in few chunks of the catalogue.
        order_n = np.argsort(item_n if embeddings is None else embeddings.places(item_n))
        if self._streamed is None:
            return self._ranks(params["items"], queries, events.places_n, item_n, seen_nk, order_n)
        own = own_queries(queries, events.places_n[order_n])
        seen_nk = None if seen_nk is None else seen_nk[order_n]
        return in_order(order_n, self._streamed(own, item_n[order_n], seen_nk))

    def _shown(
        self, params: dict[str, Any], queries: Queries, events: ScoredEvents
    ) -> PendingRanks | None:
        if self._list_ranker is None:
            return None
        lists = find_lists(self._data, events.user_n, events.user_position_n)
        return self._list_ranker(params["items"], queries, events.places_n, events.item_n, lists)


def fresh_carry(model: Model, lanes: int, layout: Layout | None) -> Callable[[], Any]:
    """A function that makes the carry in front of an evaluation."""
    if layout is None:
        return lambda: model.init_carry(lanes)
    shardings = lane_shardings(jax.eval_shape(lambda: model.init_carry(lanes)), layout.mesh)
    return jax.jit(lambda: model.init_carry(lanes), out_shardings=shardings)


def seen_items(data: Data, events: ScoredEvents, mask_seen: str) -> np.ndarray | None:
    """Items that each event's user saw before it, int32 [n, k]; PADDING_ID fills up.

    Args:
      data: The histories.
      events: The events.
      mask_seen: `none` (then the result is None), `session` or `user`.
    """
    if mask_seen == "none":
        return None
    histories = dict(_histories(data, np.unique(events.user_n)))
    seen = []
    for user, position, end in zip(
        events.user_n, events.position_n, events.user_position_n, strict=True
    ):
        start = end - position if mask_seen == "session" else 0
        seen.append(np.unique(histories[user].item_ids[start:end]))
    # Powers of two: few widths, few compilations.
    width = 1 << (max((len(items) for items in seen), default=1) - 1).bit_length()
    seen_nk = np.full((len(seen), max(width, 1)), PADDING_ID, np.int32)
    for row, items in zip(seen_nk, seen, strict=True):
        row[: len(items)] = items
    return seen_nk


def flat_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """`group/metric` -> value for the groups all, first and next, over events."""
    return {
        f"{group}/{name}": value
        for group in ("all", "first", "next")
        for name, value in metrics[group].items()
        if name != "events" and value is not None
    }


def _histories(data: Data, users: np.ndarray) -> Iterator[tuple[int, Any]]:
    return zip(users.tolist(), data.histories.__getitems__(users.tolist()), strict=True)


def _collect(
    collector: Collector,
    element: LaneBatch,
    events: ScoredEvents,
    ranked: list[Ranked],
    shown: PendingRanks | None,
) -> None:
    rank_n = collect_ranks(ranked, len(events.places_n))
    collector.add(element, events, rank_n, None if shown is None else shown.read())
