"""Exact ranks over a catalogue in a file, whose rows are read in chunks."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from data_pipelines.embeddings.item_embeddings import ItemEmbeddings
from experiments.judging.config import EvalConfig
from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.devices.mesh import DATA, lane_shardings, own_part, replicated
from hiertcn_jax.scoring.chunk_ranks import Ranking, RankState, init_rank_state
from hiertcn_jax.scoring.metrics import TOP
from hiertcn_jax.scoring.scores import Queries
from hiertcn_jax.scoring.steps import make_chunk_steps


@dataclasses.dataclass
class _Block:
    """Events ranked by one call.

    Attributes:
      queries: Their queries; lists of additions also hold file indices.
      target_n: Their targets, as file indices.
      seen_nk: File indices of rows left out of the competition, or None.
      state: What is known of their ranks.
      sorted_targets: The file indices of their targets, ascending; on the host.
    """

    queries: Queries
    target_n: jax.Array
    seen_nk: jax.Array | None
    state: RankState
    sorted_targets: np.ndarray

    def has_target(self, start: int, end: int) -> bool:
        """Whether one of the targets is among these file indices."""
        first, last = np.searchsorted(self.sorted_targets, [start, end])
        return bool(first < last)


def own_queries(queries: Queries, places_n: np.ndarray) -> Queries:
    """This process's queries of some events of a batch, on the host.

    Args:
      queries: Those of the batch, of all processes.
      places_n: Index of each event in this process's part of it.
    """
    return jax.tree.map(lambda x: own_part(x).reshape(-1, x.shape[-1])[places_n], queries)


class StreamedRanks:
    """Ranks over given embeddings, which are never all in memory.

    Each call reads the catalogue twice in the order of the file: first for the targets' scores,
    skipping chunks without a target, then to count. Two chunks are in memory at a time.

    A process ranks its own events, on its own devices, which share the events of a call. Processes
    exchange nothing.

    Args:
      embeddings: The catalogue.
      model_config: Uses `normalize`.
      config: One call ranks `rank_events` events of each device; `rank_chunk` items are read at
        once.
      devices: The devices of this process.
      known_from_v: `Keys.known_from` of the live catalogue; None: all items are known.
    """

    def __init__(
        self,
        embeddings: ItemEmbeddings,
        model_config: ModelConfig,
        config: EvalConfig,
        devices: Sequence[jax.Device],
        known_from_v: np.ndarray | None = None,
    ) -> None:
        self._embeddings = embeddings
        self._items = embeddings.table_rows - FIRST_ITEM_ID
        self._chunk = min(config.rank_chunk, self._items)
        self._mesh = Mesh(np.asarray(devices), (DATA,))
        # Products of a single event would be computed by other means, see `at_least_two`.
        self._size = max(config.rank_events, 2) * len(devices)
        self._steps = make_chunk_steps(model_config)
        self._known_from_p = None
        if known_from_v is not None:
            self._known_from_p = known_from_v[embeddings.items_at(np.arange(len(known_from_v)))]

    def __call__(
        self, queries: Queries, item_n: np.ndarray, seen_nk: np.ndarray | None
    ) -> list[Ranking]:
        """The rankings of events, `rank_events` at a time; after the last event is filling.

        Lists hold file indices (`ItemEmbeddings.items_at`); of equal scores the first in the file.

        Args:
          queries: Of these events, on the host.
          item_n: The targets, rows of the item table. In the order of their file indices, few
            chunks are read twice.
          seen_nk: What does not compete, as in `ranks.rank`.
        """
        if (listed := queries.listed) is not None:
            file_indices = self._embeddings.file_indices(listed.item_ids)
            queries = queries._replace(additions=listed._replace(item_ids=file_indices))
        blocks = list(self._blocks(queries, item_n, seen_nk))
        for looks_up in (True, False):
            before = None
            for first in range(FIRST_ITEM_ID, FIRST_ITEM_ID + self._items, self._chunk):
                start = min(first, FIRST_ITEM_ID + self._items - self._chunk)
                end = start + self._chunk
                wanted = [b for b in blocks if not looks_up or b.has_target(start, end)]
                if not wanted:
                    continue
                read_cd = self._embeddings.read_file_indices(start, self._chunk)
                # The devices work while the next chunk is read; no more than that is queued.
                jax.block_until_ready(before)
                keys = self._steps.keys(jax.device_put(read_cd, replicated(self._mesh)))
                if self._known_from_p is not None:
                    known_from_c = self._known_from_p[start:end]
                    known_from_c = jax.device_put(known_from_c, replicated(self._mesh))
                    keys = keys._replace(known_from=known_from_c)
                for block in wanted:
                    events = (block.queries, block.target_n, block.seen_nk)
                    block.state = self._steps.rank(
                        block.state, keys, start, first, looks_up, *events
                    )
                before = wanted[-1].state
        return [Ranking(block.state.counts, block.state.best.ids_nk) for block in blocks]

    def _blocks(
        self, queries: Queries, item_n: np.ndarray, seen_nk: np.ndarray | None
    ) -> Iterator[_Block]:
        for first in range(0, len(item_n), self._size):
            part = slice(first, first + self._size)
            fill = [(0, self._size - len(item_n[part]))]
            seen = None if seen_nk is None else self._embeddings.file_indices(seen_nk[part])
            if seen is not None:
                seen = np.pad(seen, [*fill, (0, 0)], constant_values=PADDING_ID)
            file_index_n = np.pad(self._embeddings.file_indices(item_n[part]), fill, mode="edge")
            own = jax.tree.map(lambda x: np.pad(x[part], [*fill, (0, 0)]), queries)  # noqa: B023
            yield _Block(
                self._placed(own),
                self._placed(file_index_n),
                self._placed(seen),
                self._placed(init_rank_state(self._size, TOP)),
                np.sort(file_index_n),
            )

    def _placed(self, events: Any) -> Any:
        """Arrays whose first axis is `n`, on the devices."""
        return jax.device_put(events, lane_shardings(events, self._mesh))
