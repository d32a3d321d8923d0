"""STAN: nearest sessions, with decay by position, by recency, and around the shared item."""

from collections.abc import Iterable

import numpy as np

from hiertcn_jax.baselines import Context, FittedHistory
from hiertcn_jax.baselines.events import fitted_events, query_items
from hiertcn_jax.baselines.neighbours import Query, Search, find_neighbours, positions
from hiertcn_jax.baselines.session_index import SessionIndex
from hiertcn_jax.settings import above, at_least


class STAN:
    """Sequence and time aware neighbourhood (Garg et al., SIGIR 2019); as in session-rec.

    An item at position p of a session of length n weighs w(p) = exp((p - n) / position_decay). The
    similarity to a fitted session is the cosine of these weights and its set of items, times
    exp(-age / recency_days). Each of the `neighbours` most similar sessions adds to each of its
    items its similarity times exp(-distance / item_decay), where the distance is in positions from
    the last item that it shares with the session.

    At a session's first event the user's previous session is used. Scores are relative to the
    youngest candidate's decay, which does not change ranks.

    Args:
      rows: `v`, rows of the item table.
      neighbours: How many sessions add to the scores, k.
      sample: How many sessions to compare: of those that share an item, the last to end.
      position_decay: lambda_1 (`lambda_spw`), in positions.
      recency_days: lambda_2 (`lambda_snh`), in days.
      item_decay: lambda_3 (`lambda_inh`), in positions.
      remind: Whether to score items of the session itself too.
      causal: True: only sessions that ended before the event count. False: later ones count too, by
        their distance in time.

    Raises:
      ValueError: A setting is out of range.
    """

    def __init__(
        self,
        rows: int,
        *,
        neighbours: int = 500,
        sample: int = 5000,
        position_decay: float = 1.02,
        recency_days: float = 5,
        item_decay: float = 2.05,
        remind: bool = True,
        causal: bool = False,
    ) -> None:
        at_least(1, neighbours=neighbours, sample=sample)
        above(0, position_decay=position_decay, recency_days=recency_days, item_decay=item_decay)
        self.causal = causal
        self._rows, self._position_decay = rows, position_decay
        self._item_decay, self._remind = item_decay, remind
        self._search = Search(neighbours, sample, recency_days, cosine=True, causal=causal)
        self.fit(())

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Indexes the sessions."""
        self._index = SessionIndex(fitted_events(histories), self._rows)

    def score(self, context: Context) -> np.ndarray:
        """The sum of the neighbours' contributions; 0 for items that none contains."""
        items = query_items(context)
        item_q, position_q = positions(items)
        weight_q = np.exp((position_q - len(items)) / self._position_decay)
        found = find_neighbours(self._index, Query(item_q, weight_q, context.time), self._search)
        entries = self._index.items(found.number_k)
        shared_n = np.isin(entries.item_n, item_q)
        shared_k = np.zeros(len(found.number_k), np.int64)
        np.maximum.at(shared_k, entries.owner_n[shared_n], entries.position_n[shared_n])
        distance_n = np.abs(entries.position_n - shared_k[entries.owner_n])
        value_n = found.similarity_k[entries.owner_n] * np.exp(-distance_n / self._item_decay)
        if not self._remind:
            value_n = np.where(shared_n, 0, value_n)
        # bincount of an empty array is integer.
        return np.bincount(entries.item_n, value_n, minlength=self._rows).astype(np.float64)
