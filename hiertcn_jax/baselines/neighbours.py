"""Finds the fitted sessions nearest to a query session."""

from typing import NamedTuple

import numpy as np

from hiertcn_jax.baselines.session_index import SessionIndex


class Query(NamedTuple):
    """A session whose next item to predict.

    Attributes:
      item_q: int64. Its distinct items.
      weight_q: float64. The weight of each in the similarity.
      time: Time of the event to predict, seconds.
    """

    item_q: np.ndarray
    weight_q: np.ndarray
    time: int


class Search(NamedTuple):
    """How to find neighbours.

    Attributes:
      neighbours: How many sessions to keep, the most similar.
      sample: How many sessions to compare: of those that share an item, the last to end.
      recency_days: Age at which a session's similarity counts 1/e; infinity: age has no effect.
        The age is the distance in time between its end and the query, even if it ends later.
      cosine: True: cosine of the query's weights and the session's set of items. False: their inner
        product divided by the number of the query's items.
      causal: Only use sessions that ended before the query's time.
    """

    neighbours: int
    sample: int
    recency_days: float
    cosine: bool
    causal: bool


class Neighbours(NamedTuple):
    """Sessions, the most similar first; of equal ones the last to end.

    Attributes:
      number_k: int64. Their numbers in the index.
      similarity_k: float64, above 0; relative to a common factor.
    """

    number_k: np.ndarray
    similarity_k: np.ndarray


def positions(items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct items in ascending order, and the last position of each, from 1."""
    item_q, back_q = np.unique(items[::-1], return_index=True)
    return item_q, len(items) - back_q


def find_neighbours(index: SessionIndex, query: Query, search: Search) -> Neighbours:
    """Finds the sessions nearest to `query`."""
    below = index.ended_before(query.time) if search.causal else len(index.end_m)
    number_n, owner_n = index.holders(query.item_q, below)
    number_c, place_n = np.unique(number_n, return_inverse=True)
    dot_c = np.bincount(place_n, query.weight_q[owner_n], minlength=len(number_c))
    number_c, dot_c = number_c[-search.sample :], dot_c[-search.sample :]
    if search.cosine:
        length = np.sqrt(np.sum(query.weight_q**2))
        similarity_c = dot_c / (length * np.sqrt(index.size_m[number_c]))
    else:
        similarity_c = dot_c / max(len(query.item_q), 1)
    age_days_c = np.abs(query.time - index.end_m[number_c]) / 86400
    # Relative to the youngest, so that not all weights underflow; the order does not change.
    age_days_c = age_days_c - age_days_c.min(initial=np.inf)
    similarity_c = similarity_c * np.exp(-age_days_c / search.recency_days)
    order_k = np.lexsort((-number_c, -similarity_c))[: search.neighbours]
    order_k = order_k[similarity_c[order_k] > 0]
    return Neighbours(number_c[order_k], similarity_c[order_k])
