"""V-SKNN: nearest sessions, with weights that decrease with the distance in the session."""

import math
from collections.abc import Callable, Iterable

import numpy as np

from hiertcn_jax.baselines import Context, FittedHistory
from hiertcn_jax.baselines.events import fitted_events, query_items
from hiertcn_jax.baselines.neighbours import Query, Search, find_neighbours, positions
from hiertcn_jax.baselines.session_index import SessionIndex
from hiertcn_jax.settings import above, at_least, one_of

POSITION_WEIGHTS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "same": lambda position, length: np.ones(len(position)),
    "div": lambda position, length: position / length,
    "linear": lambda position, length: np.maximum(1 - 0.1 * (length - position), 0),
    "quadratic": lambda position, length: (position / length) ** 2,
    "log": lambda position, length: 1 / np.log10(length - position + 1.7),
}
"""Weight in the similarity of the item at a position, from 1, of a session of some length.

`linear` falls to 0 ten items back; session-rec cuts it at position 10 from the front instead.
"""

STEP_WEIGHTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "same": lambda step: np.ones(len(step)),
    "div": lambda step: 1 / step,
    "linear": lambda step: np.maximum(1 - 0.1 * step, 0),
    "quadratic": lambda step: 1 / step**2,
    "log": lambda step: 1 / np.log10(step + 1.7),
}
"""Weight of a neighbour by how many steps back the latest shared item is, from 1."""

SIMILARITIES = ("cosine", "dot")


class VSKNN:
    """Vector multiplication session-kNN (Ludewig & Jannach, UMUAI 2018); as in session-rec.

    The similarity to a fitted session is the cosine, or the inner product, of the session's items,
    weighted by their position, and its set of items. Each of the `neighbours` most similar
    sessions adds to each of its items its similarity times the weight of the latest item that it
    shares with the session, times 1 + idf * log(sessions / sessions that contain the item).

    At a session's first event the user's previous session is used.

    Args:
      rows: `v`, rows of the item table.
      neighbours: How many sessions add to the scores, k.
      sample: How many sessions to compare: of those that share an item, the last to end.
      similarity: `cosine` or `dot`.
      position_weight: One of POSITION_WEIGHTS.
      step_weight: One of STEP_WEIGHTS.
      idf: How much rare items gain. Rarity is counted over all fitted sessions, so 0 if causal.
      recency_days: Age at which a neighbour counts 1/e; infinity: age has no effect.
        session-rec's `weighting_time`, (7/8)^days, is 7.49.
      remind: Whether to score items of the session itself too.
      causal: Only use sessions that ended before the event.

    Raises:
      ValueError: A setting is out of range.
    """

    def __init__(
        self,
        rows: int,
        *,
        neighbours: int = 100,
        sample: int = 1000,
        similarity: str = "cosine",
        position_weight: str = "div",
        step_weight: str = "div",
        idf: float = 0,
        recency_days: float = math.inf,
        remind: bool = True,
        causal: bool = False,
    ) -> None:
        at_least(1, neighbours=neighbours, sample=sample)
        at_least(0, idf=idf)
        above(0, recency_days=recency_days)
        one_of(SIMILARITIES, similarity=similarity)
        one_of(POSITION_WEIGHTS, position_weight=position_weight)
        one_of(STEP_WEIGHTS, step_weight=step_weight)
        if causal and idf:
            raise ValueError(f"idf={idf}: must be 0 if causal, it counts all fitted sessions")
        self.causal = causal
        self._rows, self._idf, self._remind = rows, idf, remind
        self._position_weight = POSITION_WEIGHTS[position_weight]
        self._step_weight = STEP_WEIGHTS[step_weight]
        cosine = similarity == "cosine"
        self._search = Search(neighbours, sample, recency_days, cosine=cosine, causal=causal)
        self.fit(())

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Indexes the sessions."""
        self._index = SessionIndex(fitted_events(histories), self._rows)
        rarity_v = len(self._index.end_m) / np.maximum(self._index.sessions_v, 1)
        self._gain_v = 1 + self._idf * np.log(np.maximum(rarity_v, 1))

    def score(self, context: Context) -> np.ndarray:
        """The sum of the neighbours' contributions; 0 for items that none contains."""
        items = query_items(context)
        item_q, position_q = positions(items)
        weight_q = self._position_weight(position_q, len(items))
        found = find_neighbours(self._index, Query(item_q, weight_q, context.time), self._search)
        entries = self._index.items(found.number_k)
        steps_v = np.zeros(self._rows, np.int64)
        steps_v[item_q] = len(items) - position_q + 1
        step_n = steps_v[entries.item_n]
        nearest_k = np.full(len(found.number_k), len(items))
        shared_n = step_n > 0
        np.minimum.at(nearest_k, entries.owner_n[shared_n], step_n[shared_n])
        value_k = found.similarity_k * self._step_weight(nearest_k)
        value_n = value_k[entries.owner_n] * self._gain_v[entries.item_n]
        if not self._remind:
            value_n = np.where(shared_n, 0, value_n)
        # bincount of an empty array is integer.
        return np.bincount(entries.item_n, value_n, minlength=self._rows).astype(np.float64)
