"""Scores a model on a split: exact ranks over the whole catalogue, every event once."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from data_pipelines.histories.record import Split
from data_pipelines.lanes.distinct_items import given_rows
from data_pipelines.lanes.loaders import eval_loader
from data_pipelines.lanes.memory_lists import Recall
from experiments.judging.collector import (
    Collector,
    Evaluation,
    ScoredEvents,
    open_catalogue,
    scored_events,
)
from experiments.judging.config import EvalConfig
from experiments.judging.device_ranks import (
    DeviceRanks,
    Ranked,
    collect_lists,
    collect_ranks,
    in_order,
)
from experiments.judging.masking import seen_items
from experiments.judging.shown_lists import ListRanker, PendingRanks, find_lists, has_impressions
from experiments.judging.streamed_ranks import StreamedRanks, own_queries
from experiments.runs.data import Data
from hiertcn_jax.batch import Bucket, LaneBatch
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.devices.mesh import Layout, lane_shardings, place, place_batch
from hiertcn_jax.models import Model
from hiertcn_jax.models.eval_step import make_eval_step
from hiertcn_jax.scoring.item_table import ItemTable, with_later_items
from hiertcn_jax.scoring.scores import Queries


class Evaluator:
    """Scores one model on one split, as often as asked, each time from fresh carries.

    Args:
      model: The model.
      model_config: Its config.
      config: Bucket, masking, and sizes of the ranking.
      data: The data.
      split: VALID or TEST.
      layout: Where parameters and lanes are, if on several devices.
      recall: The log's memory, for a model with terms of it.

    Raises:
      ValueError: The model has terms of memory, and `recall` is None.
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
        self._opened, known_from_v = open_catalogue(data), None
        if self._opened is not None:
            known_from_v = self._opened.on_device(self._opened.known_from_v)
        self._loader = eval_loader(
            data.histories,
            Bucket(config.lanes, config.events, config.sessions),
            split=split,
            item_rows=given_rows(data.embeddings),
            recall=None if recall is None else recall._replace(few=layout is None),
            opened=self._opened,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        self._fresh_carry = fresh_carry(model, config.lanes, layout)
        self._eval_step = make_eval_step(model, layout)
        whole = layout
        if layout is not None and self._opened is not None:
            whole = layout._replace(rows=data.vocabulary.size)
        self._ranks = DeviceRanks(model_config, config, whole, known_from_v)
        self._streamed = None
        if data.embeddings is not None:
            devices = jax.local_devices()[:1] if layout is None else layout.mesh.local_devices
            self._streamed = StreamedRanks(
                data.embeddings, model_config, config, devices, known_from_v
            )
        self._list_ranker = None
        if has_impressions(data):
            self._list_ranker = ListRanker(data, model_config, config, layout)

    def __call__(
        self, params: dict[str, Any], between_batches: Callable[[int], None] = lambda events: None
    ) -> Evaluation:
        """The rank of every scored event, and the metrics.

        Args:
          params: Parameters of the model.
          between_batches: Called before each batch with the number of its scored events; an
            exception from it ends the evaluation.

        Raises:
          ValueError: A score is NaN.
        """
        carry, items = self._fresh_carry(), self._items(params)
        collector = Collector(self._data, of_all_processes=True)
        waiting: list[tuple[LaneBatch, ScoredEvents, list[Ranked], PendingRanks | None]] = []
        for element in self._loader:
            events = scored_events(element)
            between_batches(len(events.item_n))
            batch = place_batch(element.batch, self._layout)
            queries, carry = self._eval_step(params, batch, carry)
            queries = self._with_times(queries, element)
            ranked, shown = self._rank(items, queries, events), self._shown(items, queries, events)
            waiting.append((element, events, ranked, shown))
            # Read ranks one batch late, so that the device works while the host reads.
            if len(waiting) > 1:
                self._collect(collector, *waiting.pop(0))
        for entry in waiting:
            self._collect(collector, *entry)
        return collector.result()

    def _items(self, params: dict[str, Any]) -> ItemTable:
        """The rows to rank; in the live catalogue also those of items beyond the fitted ones."""
        items: ItemTable = params["items"]
        if self._opened is None or self._data.embeddings is not None:
            return items
        return with_later_items(items, self._data.vocabulary.size)

    def _with_times(self, queries: Queries, element: LaneBatch) -> Queries:
        """The queries; in the live catalogue with the time of each event."""
        if self._opened is None:
            return queries
        time_bl1 = self._opened.on_device(element.info.time_bl)[..., None]
        if self._layout is not None:
            time_bl1 = place(time_bl1, lane_shardings(time_bl1, self._layout.mesh))
        return queries._replace(time=time_bl1)

    def _rank(self, items: ItemTable, queries: Queries, events: ScoredEvents) -> list[Ranked]:
        seen_nk = seen_items(self._data, events, self._config.mask_seen)
        item_n, embeddings = events.item_n, self._data.embeddings
        # Sorted by target, the events of a call find their targets in few chunks.
        order_n = np.argsort(item_n if embeddings is None else embeddings.file_indices(item_n))
        if self._streamed is None:
            return self._ranks(items, queries, events.places_n, item_n, seen_nk, order_n)
        own = own_queries(queries, events.places_n[order_n])
        seen_nk = None if seen_nk is None else seen_nk[order_n]
        return in_order(order_n, self._streamed(own, item_n[order_n], seen_nk))

    def _shown(
        self, items: ItemTable, queries: Queries, events: ScoredEvents
    ) -> PendingRanks | None:
        if self._list_ranker is None:
            return None
        lists = find_lists(self._data, events.user_n, events.user_position_n)
        return self._list_ranker(items, queries, events.places_n, events.item_n, lists)

    def _collect(
        self,
        collector: Collector,
        element: LaneBatch,
        events: ScoredEvents,
        ranked: list[Ranked],
        shown: PendingRanks | None,
    ) -> None:
        count, embeddings = len(events.places_n), self._data.embeddings
        rank_n, listed_nk = collect_ranks(ranked, count), collect_lists(ranked, count)
        if embeddings is not None:
            listed_nk = embeddings.items_at(listed_nk)
        collector.add(element, events, rank_n, listed_nk, None if shown is None else shown.read())


def fresh_carry(model: Model, lanes: int, layout: Layout | None) -> Callable[[], Any]:
    """A function that makes the carry for the start of an evaluation."""
    if layout is None:
        return lambda: model.init_carry(lanes)
    shardings = lane_shardings(jax.eval_shape(lambda: model.init_carry(lanes)), layout.mesh)
    return jax.jit(lambda: model.init_carry(lanes), out_shardings=shardings)
