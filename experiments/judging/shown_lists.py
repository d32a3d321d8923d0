"""Ranks targets within the lists shown with them, instead of the whole catalogue."""

from typing import Any, NamedTuple

import numpy as np

from experiments.judging.config import EvalConfig
from experiments.judging.device_ranks import Dealer, Ranked, collect_ranks
from experiments.runs.data import Data
from hiertcn_jax.batch import PADDING_ID
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.devices.mesh import Layout, lane_shardings, own_part, place
from hiertcn_jax.scoring.chunk_ranks import Ranking
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.scores import Queries, rank_among
from hiertcn_jax.scoring.steps import make_list_step


class ShownLists(NamedTuple):
    """The lists shown with some events.

    Attributes:
      index_n: Indices of the events that have a list, int64, ascending.
      others_nk: int32. The items shown with each of them, without its target, filled up with
        PADDING_ID.
    """

    index_n: np.ndarray
    others_nk: np.ndarray

    @property
    def size_n(self) -> np.ndarray:
        """Items of each list, including the target."""
        return 1 + np.count_nonzero(self.others_nk != PADDING_ID, axis=1)


class ShownRanks(NamedTuple):
    """Ranks within lists.

    Attributes:
      index_n: As in `ShownLists`.
      rank_n: float64. The target's rank in each list.
      size_n: Items of each list.
    """

    index_n: np.ndarray
    rank_n: np.ndarray
    size_n: np.ndarray


class PendingRanks(NamedTuple):
    """Ranks within lists, possibly still being computed on the device.

    Attributes:
      lists: The lists.
      ranked: The lists being ranked, by their index among all.
    """

    lists: ShownLists
    ranked: list[Ranked]

    def read(self) -> ShownRanks:
        """The ranks.

        Raises:
          ValueError: A score is NaN.
        """
        rank_n = collect_ranks(self.ranked, len(self.lists.index_n))
        return ShownRanks(self.lists.index_n, rank_n, self.lists.size_n)


def find_lists(data: Data, user_n: np.ndarray, user_position_n: np.ndarray) -> ShownLists:
    """The lists shown with events.

    Args:
      data: Data with impressions.
      user_n: Index of each event's history.
      user_position_n: Its index in that history.
    """
    users, owner_n = np.unique(user_n, return_inverse=True)
    histories = data.histories.__getitems__(users.tolist())
    ends = [np.cumsum(history.shown_counts) for history in histories]
    parts = []
    for owner, event in zip(owner_n.tolist(), user_position_n.tolist(), strict=True):
        start = ends[owner][event - 1] if event else 0
        parts.append(histories[owner].shown_items[start : ends[owner][event]])
    count_n = np.array([len(part) for part in parts], np.int64)
    index_n = np.flatnonzero(count_n)
    # Powers of two give few widths, and so few compilations.
    width = 1 << (max(int(count_n.max(initial=0)), 1) - 1).bit_length()
    others_nk = np.full((len(index_n), width), PADDING_ID, np.int32)
    for row, index in zip(others_nk, index_n.tolist(), strict=True):
        row[: count_n[index]] = parts[index]
    return ShownLists(index_n, others_nk)


class ListRanker:
    """Ranks targets within the lists shown with them.

    Args:
      data: Data with impressions.
      model_config: Uses `normalize`.
      config: See `device_ranks.Dealer`.
      layout: Where table and lanes are, if on several devices.
    """

    def __init__(
        self,
        data: Data,
        model_config: ModelConfig,
        config: EvalConfig,
        layout: Layout | None = None,
    ) -> None:
        self._data, self._layout = data, layout
        self._deal = Dealer(config, layout)
        self._step = make_list_step(model_config, layout)

    def __call__(
        self,
        items: ItemTable,
        queries: Queries,
        places_n: np.ndarray,
        item_n: np.ndarray,
        lists: ShownLists,
    ) -> PendingRanks:
        """Ranks the targets of a batch's events.

        Args:
          items: The model's item table.
          queries: Those of the batch.
          places_n: Index of each event in the batch, with segments laid end to end.
          item_n: Its target.
          lists: The lists shown with these events.
        """
        ids_nk = np.column_stack([item_n[lists.index_n], lists.others_nk]).astype(np.int32)
        places_n, order_n = places_n[lists.index_n], np.arange(len(ids_nk))
        ranked = []
        for list_m, (place_m, ids_mk) in self._deal(places_n, order_n, [(ids_nk, PADDING_ID)]):
            counts = self._step(items, ids_mk, self._given_rows(ids_mk), queries, place_m)
            ranked.append(Ranked(list_m, Ranking(counts)))
        return PendingRanks(lists, ranked)

    def _given_rows(self, ids_nk: Any) -> Any:
        """The given embeddings of these items, on the devices; None if embeddings are learned."""
        embeddings, layout = self._data.embeddings, self._layout
        if embeddings is None:
            return None
        own_nk = ids_nk if layout is None else own_part(ids_nk)
        is_item_nk = own_nk != PADDING_ID
        rows_nkd = np.zeros((*own_nk.shape, embeddings.width), embeddings.dtype)
        rows_nkd[is_item_nk] = embeddings.rows(own_nk[is_item_nk])
        return rows_nkd if layout is None else place(rows_nkd, lane_shardings(0, layout.mesh))


def has_impressions(data: Data) -> bool:
    """Whether the data contains impressions to rank within; they hold fitted items alone."""
    return "impressions" in data.manifest and data.catalogue == "fitted"


def rank_in_list(scores_v: np.ndarray, item: int, others: np.ndarray) -> float:
    """The rank of the target within a shown list, in float32.

    Args:
      scores_v: A score for each row of the item table.
      item: The target.
      others: The other items of the list; PADDING_ID is none.
    """
    return rank_among(scores_v[others[others != PADDING_ID]], scores_v[item])
