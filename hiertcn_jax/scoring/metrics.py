"""Metrics: what each needs, which way is better, how it is summed and finished; all in `METRICS`.

recall@k           share of events with rank <= k
mrr                mean of 1 / rank
ndcg@10            mean of 1 / log2(1 + rank) where rank <= 10, else 0
mrp                mean of rank / number of items ranked
coverage@20        share of the catalogue that is in the top 20 of any event
log_popularity@20  mean over events of the mean of ln(1 + events in training) over the top 20

The top 20 are the items of the highest scores. What `--mask_seen` leaves out is not among them,
even if it is the target.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hiertcn_jax.batch import FIRST_ITEM_ID

TOP = 20
"""Items of an event's list."""


class RankedEvents(NamedTuple):
    """The inputs of metrics.

    Attributes:
      rank_n: Rank of each event's target.
      size_n: Number of items that each rank is among.
      listed_nk: int32. Table rows of the `TOP` best items of each event, best first, filled up
        with PADDING_ID.
      counts_v: Training events of each row of the item table.
    """

    rank_n: Any
    size_n: Any = None
    listed_nk: Any = None
    counts_v: Any = None


@dataclasses.dataclass(frozen=True)
class Metric:
    """The properties of all metrics.

    Attributes:
      name: Its name in tables, in JSON, and in `--monitor=group/name`.
      lower_is_better: False: higher is better.
      needs_lists: Whether it needs the top items of events; False: ranks are enough.
    """

    name: str
    lower_is_better: bool = dataclasses.field(default=False, kw_only=True)
    needs_lists: bool = dataclasses.field(default=False, kw_only=True)

    def worth(self, value: float) -> float:
        """The value, with a sign that makes higher better."""
        return -value if self.lower_is_better else value


@dataclasses.dataclass(frozen=True)
class MeanMetric(Metric):
    """A mean over events; `per_user`, the mean over users of the means over their events.

    Attributes:
      of_events: Its value at each event, [n].
    """

    of_events: Callable[[RankedEvents], np.ndarray]


@dataclasses.dataclass(frozen=True)
class UnionMetric(Metric):
    """The share of the catalogue that occurs at some event; it has no value for single users.

    Attributes:
      items: Table rows at each event, [n, k]; PADDING_ID is none.
    """

    items: Callable[[RankedEvents], np.ndarray]


def _recall(k: int) -> MeanMetric:
    return MeanMetric(f"recall@{k}", lambda events: events.rank_n <= k)


def _ndcg(events: RankedEvents) -> np.ndarray:
    return np.where(events.rank_n <= 10, 1 / np.log2(1 + events.rank_n), 0)


def _log_popularity(events: RankedEvents) -> np.ndarray:
    """The logarithm is 0 for items without training events, and for an empty list."""
    is_item_nk = events.listed_nk >= FIRST_ITEM_ID
    logarithm_nk = np.log1p(events.counts_v[events.listed_nk])
    return (logarithm_nk * is_item_nk).sum(1) / np.maximum(is_item_nk.sum(1), 1)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *map(_recall, (1, 5, 10, 20)),
        MeanMetric("mrr", lambda events: 1 / events.rank_n),
        MeanMetric("ndcg@10", _ndcg),
        MeanMetric("mrp", lambda events: events.rank_n / events.size_n, lower_is_better=True),
        UnionMetric(f"coverage@{TOP}", lambda events: events.listed_nk, needs_lists=True),
        MeanMetric(
            f"log_popularity@{TOP}", _log_popularity, lower_is_better=True, needs_lists=True
        ),
    )
}
"""All metrics, in the order of tables."""


def of_ranks(name: str, rank_n: np.ndarray) -> np.ndarray:
    """A metric's value at each event, float64, from ranks only.

    Args:
      name: A mean that needs no lists.
      rank_n: Ranks over the catalogue.

    Example:
      >>> of_ranks("mrr", np.array([1.0, 4.0]))
      array([1.  , 0.25])
    """
    metric = METRICS[name]
    assert isinstance(metric, MeanMetric) and not metric.needs_lists
    return metric.of_events(RankedEvents(rank_n)).astype(np.float64)
