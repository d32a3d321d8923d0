"""Exact ranks over a catalogue that is on the devices, which share events and rows."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.judging.config import EvalConfig
from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.devices import processes
from hiertcn_jax.devices.mesh import DATA, Layout, lane_shardings, own_part, place, replicated
from hiertcn_jax.scoring.chunk_ranks import RankCounts, Ranking
from hiertcn_jax.scoring.metrics import TOP
from hiertcn_jax.scoring.ranks import ranks_of
from hiertcn_jax.scoring.scores import Queries
from hiertcn_jax.scoring.steps import make_rank_step


class Ranked(NamedTuple):
    """Some events of a batch whose ranks are being computed.

    Attributes:
      event_m: Which events of the batch these are; -1 where there is none.
      ranking: Their ranking, perhaps still being made; of all processes' events.
    """

    event_m: np.ndarray
    ranking: Ranking


def collect_ranks(ranked: list[Ranked], events: int) -> np.ndarray:
    """The ranks of all `events` of a batch, float64. Waits for the devices.

    Raises:
      ValueError: A score is NaN.
    """
    rank_n = np.zeros(events)
    for event_m, ranking in ranked:
        held_m = event_m >= 0
        rank_n[event_m[held_m]] = ranks_of(RankCounts(*map(own_part, ranking.counts)))[held_m]
    return rank_n


def collect_lists(ranked: list[Ranked], events: int) -> np.ndarray:
    """The top items of all `events` of a batch, int32 [n, TOP]; waits for the devices."""
    listed_nk = np.full((events, TOP), PADDING_ID, np.int32)
    for event_m, ranking in ranked:
        held_m = event_m >= 0
        listed_nk[event_m[held_m]] = own_part(ranking.listed_nk)[held_m]
    return listed_nk


def in_order(order_n: np.ndarray, rankings: list[Ranking]) -> list[Ranked]:
    """Rankings of events that were ranked one after the other; after the last is filling.

    Args:
      order_n: The events.
      rankings: Of equally many of them each.
    """
    size = len(rankings[0].counts.greater_n) if rankings else 0
    event_n = np.full(len(rankings) * size, -1)
    event_n[: len(order_n)] = order_n
    return list(map(Ranked, np.split(event_n, len(rankings)), rankings)) if rankings else []


class Dealer:
    """Splits the events of a batch into calls; each device gets events of its own lanes.

    All processes make equally many calls, with the same shapes.

    Args:
      config: The lanes and events of a batch; `rank_events` is the number per device and call.
      layout: Where the lanes are, if on several devices.
    """

    def __init__(self, config: EvalConfig, layout: Layout | None) -> None:
        self._size, self._layout = config.rank_events, layout
        count = jax.process_count()
        self._shards = 1 if layout is None else layout.mesh.shape[DATA] // count
        self._shard_slots = config.lanes // count * config.events // self._shards

    def __call__(
        self,
        places_n: np.ndarray,
        order_n: np.ndarray,
        columns: Sequence[tuple[np.ndarray | None, int]],
    ) -> Iterator[tuple[np.ndarray, tuple[Any, ...]]]:
        """Yields the events of each call (-1: none), and their values.

        Args:
          places_n: Index of each event in this process's part of the batch.
          order_n: The order in which to take them.
          columns: Values of the events, and the value for missing ones. A second axis gets the
            length that the longest process has. None stays None.

        Returns:
          For each call the events, and on the devices: their indices among the events of their
          device, then the columns.
        """
        shard_n = places_n // self._shard_slots
        most = int(np.bincount(shard_n, minlength=self._shards).max())
        widths = [
            values.shape[1] for values, _ in columns if values is not None and values.ndim > 1
        ]
        calls, *widths = processes.highest([-(-most // self._size), *widths])
        filled = [_filled(places_n % self._shard_slots, 0)]
        for values, filling in columns:
            if values is not None and values.ndim > 1:
                fill = [(0, 0), (0, widths.pop(0) - values.shape[1])]
                values = np.pad(values, fill, constant_values=filling)
            filled.append(_filled(values, filling))
        for event_m in self._deal(shard_n, order_n, calls):
            arrays = tuple(None if values is None else values[event_m] for values in filled)
            if self._layout is not None:
                arrays = place(arrays, lane_shardings(arrays, self._layout.mesh))
            yield event_m, arrays

    def _deal(self, shard_n: np.ndarray, order_n: np.ndarray, calls: int) -> Iterator[np.ndarray]:
        event_sm = np.full((self._shards, calls * self._size), -1)
        for shard in range(self._shards):
            own = order_n[shard_n[order_n] == shard]
            event_sm[shard, : len(own)] = own
        for call in range(calls):
            yield event_sm[:, call * self._size : (call + 1) * self._size].ravel()


def _filled(values: np.ndarray | None, filling: int) -> np.ndarray | None:
    """The values, and `filling` at index -1; int32."""
    if values is None:
        return None
    filler = np.full((1, *values.shape[1:]), filling)
    return np.concatenate([values, filler]).astype(np.int32)


class DeviceRanks:
    """Ranks over a table on the devices.

    Args:
      model_config: Uses `normalize`.
      config: See `Dealer`; `rank_chunk` rows are scored at once.
      layout: Where table and lanes are, if on several devices.
      known_from_v: `Keys.known_from` of the live catalogue; None: all items are known.
    """

    def __init__(
        self,
        model_config: ModelConfig,
        config: EvalConfig,
        layout: Layout | None,
        known_from_v: np.ndarray | None = None,
    ) -> None:
        self._step = make_rank_step(model_config, config.rank_chunk, layout)
        self._deal = Dealer(config, layout)
        self._known: dict[str, Any] = {}
        if known_from_v is not None:
            on_devices = None if layout is None else replicated(layout.mesh)
            placed = known_from_v if on_devices is None else place(known_from_v, on_devices)
            self._known = {"known_from_v": placed}

    def __call__(
        self,
        items: Any,
        queries: Queries,
        places_n: np.ndarray,
        item_n: np.ndarray,
        seen_nk: np.ndarray | None,
        order_n: np.ndarray,
    ) -> list[Ranked]:
        """Starts ranking.

        Args:
          items: The table.
          queries: Those of the batch, of all processes.
          places_n: Index of each event in this process's part of the batch.
          item_n: Their targets.
          seen_nk: What does not compete, as in `ranks.rank`.
          order_n: The order in which they are ranked.
        """
        columns = [(item_n, FIRST_ITEM_ID), (seen_nk, PADDING_ID)]
        return [
            Ranked(event_m, self._step(items, queries, *arrays, **self._known))
            for event_m, arrays in self._deal(places_n, order_n, columns)
        ]
