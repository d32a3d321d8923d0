"""Rankers by similarity to the user's last items: to their moving average, or to the nearest."""

import abc
from collections.abc import Iterable

import numpy as np

from hiertcn_jax.baselines import Context, FittedHistory
from hiertcn_jax.baselines.cooccurrence import cooccurrence
from hiertcn_jax.baselines.events import fitted_events, known_items
from hiertcn_jax.baselines.item_vectors import svd_item_vectors
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.settings import above, at_least, one_of

WEIGHTINGS = ("uniform", "exponential", "gap")


def recent_weights(age_hours_k: np.ndarray, weighting: str, gap_hours: float) -> np.ndarray:
    """Weights of the last k items, oldest first; the last has weight 1.

    `uniform`: 1. `exponential`: exp(-3 steps / k), steps back from the last. `gap`:
    exp(-age / gap_hours). As `model_mv.py` of the released HierTCN code has them.

    Args:
      age_hours_k: Hours from each item to the last.
      weighting: One of WEIGHTINGS.
      gap_hours: The age at which an item counts 1/e.
    """
    steps_k = np.arange(len(age_hours_k))[::-1]
    if weighting == "exponential":
        return np.exp(-3 * steps_k / max(len(steps_k), 1))
    if weighting == "gap":
        return np.exp(-age_hours_k / gap_hours)
    return np.ones(len(age_hours_k))


class RecentItems(abc.ABC):
    """Base of the rankers in this module: item embeddings and the user's last items.

    Args:
      rows: `v`, rows of the item table.
      item_vectors_vd: Given embeddings, used unchanged; `dim`, `shrinkage` and `seed` then have no
        effect. None: those of `svd_item_vectors`, from the fitted sessions.
      dim: Width of the SVD.
      shrinkage: Shrinkage of the SVD, in sessions.
      seed: Seed of the SVD's start.
      last: How many items to use, across sessions.
      weighting: See `recent_weights`.
      gap_hours: See `recent_weights`.
      remind: True: items of the current session are scored too. False: they come last.

    Raises:
      ValueError: A setting is out of range.
    """

    causal = False

    def __init__(
        self,
        rows: int,
        *,
        item_vectors_vd: np.ndarray | None = None,
        dim: int = 64,
        shrinkage: float = 50,
        seed: int = 0,
        last: int = 10,
        weighting: str = "uniform",
        gap_hours: float = 168,
        remind: bool = True,
    ) -> None:
        at_least(1, dim=dim, last=last)
        at_least(0, shrinkage=shrinkage)
        one_of(WEIGHTINGS, weighting=weighting)
        above(0, gap_hours=gap_hours)
        self._rows, self._dim, self._shrinkage, self._seed = rows, dim, shrinkage, seed
        self._last, self._weighting, self._gap_hours = last, weighting, gap_hours
        self._remind = remind
        self._given = item_vectors_vd is not None
        self._keep(np.zeros((rows, dim)))
        if item_vectors_vd is not None:
            if len(item_vectors_vd) != rows:
                raise ValueError(
                    f"item_vectors_vd: {len(item_vectors_vd)} rows, but the item table has {rows}"
                )
            self._keep(item_vectors_vd)

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Computes the embeddings; does nothing if they are given."""
        if not self._given:
            counts = cooccurrence(fitted_events(histories), self._rows)
            self._keep(svd_item_vectors(counts, self._dim, self._shrinkage, self._seed))

    def _keep(self, vectors_vd: np.ndarray) -> None:
        # In this layout the products of a few vectors with all of them are twice as fast.
        self._vectors_dv = np.ascontiguousarray(vectors_vd.T, np.float32)

    def score(self, context: Context) -> np.ndarray:
        """Similarity of every item to the last ones; all 0 without a known item."""
        vectors_kd, weight_k = self._recent(context)
        if not len(weight_k):
            return np.zeros(self._rows)
        scores_v = self._similarity(vectors_kd, weight_k)
        if not self._remind:
            scores_v[known_items(context, context.session_start)] = -np.inf
        return scores_v

    @abc.abstractmethod
    def _similarity(self, vectors_kd: np.ndarray, weight_k: np.ndarray) -> np.ndarray:
        """Similarity [v] of every item to k >= 1 items of these weights."""

    def _recent(self, context: Context) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings [k, d] and weights [k] of the last known items, oldest first."""
        index_k = np.flatnonzero(context.item_ids_n >= FIRST_ITEM_ID)[-self._last :]
        time_k = context.times_n[index_k]
        # Times may decrease in logs prepared before overlapping sessions were merged.
        age_k = np.maximum(time_k[-1:] - time_k, 0) / 3600
        weight_k = recent_weights(age_k, self._weighting, self._gap_hours)
        return self._vectors_dv[:, context.item_ids_n[index_k]].T, weight_k.astype(np.float32)


class MovingAverage(RecentItems):
    """Inner product with the weighted average of the embeddings of the user's last items.

    The moving average of the HierTCN paper (You et al. 2019), as in `model_mv.py` of its released
    code, whose defaults are 10 items and 168 hours. Not causal: the embeddings come from all
    fitted sessions.

    Arguments and errors: those of `RecentItems`.
    """

    def _similarity(self, vectors_kd: np.ndarray, weight_k: np.ndarray) -> np.ndarray:
        return (weight_k @ vectors_kd / weight_k.sum()) @ self._vectors_dv


class MaxItem(RecentItems):
    """The greatest weighted inner product with one of the user's last items.

    MaxItem of the HierTCN paper (You et al. 2019), as in `model_max_pin.py` of its released code,
    whose defaults are 10 items and 168 hours. Not causal: the embeddings come from all fitted
    sessions.

    Arguments and errors: those of `RecentItems`.
    """

    def _similarity(self, vectors_kd: np.ndarray, weight_k: np.ndarray) -> np.ndarray:
        return np.max((weight_k[:, None] * vectors_kd) @ self._vectors_dv, axis=0)
