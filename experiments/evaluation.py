"""Scores a model on a split: exact ranks over the whole catalogue, every event once."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from data_pipelines.distinct import given_rows
from data_pipelines.histories.record import Split
from data_pipelines.loaders import eval_loader
from experiments.data import Data
from experiments.shown_lists import (
    ListRanker,
    PendingRanks,
    ShownRanks,
    find_lists,
    has_impressions,
)
from experiments.streamed_ranks import StreamedRanks
from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID, UNKNOWN_ID, Bucket, LaneBatch
from hiertcn_jax.config import EvalConfig, ModelConfig
from hiertcn_jax.metrics import MetricSums, user_keys
from hiertcn_jax.models import Model
from hiertcn_jax.ranking import RankCounts, ranks_of
from hiertcn_jax.train_step import make_eval_step, make_rank_step


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


class _Counts(NamedTuple):
    """What a batch's ranks are made of.

    Attributes:
      order_n: The events in the order in which they were ranked.
      parts: Their counts, so many events at a time; the filling of the last stands behind all.
    """

    order_n: np.ndarray
    parts: list[RankCounts]


class Collector:
    """Gathers ranks into the metrics of a split.

    Args:
      data: The users' ids, and the size of the catalogue.
    """

    def __init__(self, data: Data) -> None:
        self._data = data
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
        rank_n = np.concatenate(self._ranks)
        sums = MetricSums(self._data.vocabulary.size - FIRST_ITEM_ID)
        keys_n = user_keys(self._data.user_ids(events.user_n))
        sums.add(rank_n, keys_n, events.session_n, events.position_n)
        shown = self._shown_metrics(events, keys_n) if self._shown else {}
        metrics = {
            "data_hash": self._data.content_hash,
            "unknown_targets": self._unknown_targets,
            **sums.result(),
            **shown,
        }
        return Evaluation(metrics, events, rank_n)

    def _shown_metrics(self, events: ScoredEvents, keys_n: np.ndarray) -> dict[str, Any]:
        index_n, rank_n, size_n = map(np.concatenate, zip(*self._shown, strict=True))
        sums = MetricSums(self._data.vocabulary.size - FIRST_ITEM_ID)
        session_n, position_n = events.session_n[index_n], events.position_n[index_n]
        sums.add(rank_n, keys_n[index_n], session_n, position_n, size_n)
        mean_items = float(size_n.mean()) if len(size_n) else None
        return {"shown": {"mean_items": mean_items, **sums.result()}}


class Evaluator:
    """Scores one model on one split, as often as asked, each time from fresh carries.

    Args:
      model: The model.
      model_config: Its config.
      config: Bucket, masking, and sizes of the ranking.
      data: The data.
      split: VALID or TEST.
    """

    def __init__(
        self, model: Model, model_config: ModelConfig, config: EvalConfig, data: Data, split: Split
    ) -> None:
        self._model, self._config, self._data = model, config, data
        bucket = Bucket(config.lanes, config.events, config.sessions)
        self._loader = eval_loader(
            data.histories, bucket, split=split, item_rows=given_rows(data.embeddings)
        )
        self._eval_step = make_eval_step(model)
        self._rank_step = make_rank_step(model_config, config.rank_chunk)
        self._streamed = None
        if data.embeddings is not None:
            self._streamed = StreamedRanks(data.embeddings, model_config, config)
        self._list_ranker = None
        if has_impressions(data):
            self._list_ranker = ListRanker(data, model_config, config.rank_events)

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
        carry = self._model.init_carry(self._config.lanes)
        collector = Collector(self._data)
        waiting: list[tuple[LaneBatch, ScoredEvents, _Counts, PendingRanks | None]] = []
        for element in self._loader:
            between_batches()
            u_bld, carry = self._eval_step(params, element.batch, carry)
            events = scored_events(element)
            counts, shown = self._rank(params, u_bld, events), self._shown(params, u_bld, events)
            waiting.append((element, events, counts, shown))
            # Ranks are read one batch late: the device goes on while the host looks at them.
            if len(waiting) > 1:
                _collect(collector, *waiting.pop(0))
        for entry in waiting:
            _collect(collector, *entry)
        return collector.result()

    def _rank(self, params: dict[str, Any], u_bld: jax.Array, events: ScoredEvents) -> _Counts:
        seen_nk = seen_items(self._data, events, self._config.mask_seen)
        item_n, embeddings = events.item_n, self._data.embeddings
        # Events whose targets are near each other find them in few chunks of the catalogue.
        order_n = np.argsort(item_n if embeddings is None else embeddings.places(item_n))
        places_n, item_n = events.places_n[order_n], item_n[order_n]
        seen_nk = None if seen_nk is None else seen_nk[order_n]
        if self._streamed is not None:
            u_nd = np.asarray(u_bld).reshape(-1, u_bld.shape[-1])[places_n]
            return _Counts(order_n, self._streamed(u_nd, item_n, seen_nk))
        size, counts = self._config.rank_events, []
        for start in range(0, len(places_n), size):
            part = slice(start, start + size)
            counts.append(
                self._rank_step(
                    params["items"],
                    u_bld,
                    _filled(places_n[part], size, 0),
                    _filled(item_n[part], size, int(item_n[0])),
                    None if seen_nk is None else _filled(seen_nk[part], size, PADDING_ID),
                )
            )
        return _Counts(order_n, counts)

    def _shown(
        self, params: dict[str, Any], u_bld: jax.Array, events: ScoredEvents
    ) -> PendingRanks | None:
        if self._list_ranker is None:
            return None
        lists = find_lists(self._data, events.user_n, events.user_position_n)
        return self._list_ranker(params["items"], u_bld, events.places_n, events.item_n, lists)


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


def _filled(values: np.ndarray, size: int, filling: int) -> np.ndarray:
    """`values` with rows of `filling` behind them, up to `size`; int32."""
    out = np.full((size, *values.shape[1:]), filling, np.int32)
    out[: len(values)] = values
    return out


def _collect(
    collector: Collector,
    element: LaneBatch,
    events: ScoredEvents,
    counts: _Counts,
    shown: PendingRanks | None,
) -> None:
    parts = [ranks_of(part) for part in jax.device_get(counts.parts)]
    rank_n = np.empty(len(events.places_n))
    rank_n[counts.order_n] = np.concatenate([np.zeros(0), *parts])[: len(rank_n)]
    collector.add(element, events, rank_n, None if shown is None else shown.read())
