"""Each metric's value at single events, and which way is better."""

import math

import numpy as np
import pytest

from hiertcn_jax.batch import PADDING_ID
from hiertcn_jax.scoring.metrics import METRICS, RankedEvents, of_ranks

EVENTS = RankedEvents(
    rank_n=np.array([1.0, 5.5, 20.0, 40.0]),
    size_n=np.array([40, 40, 40, 80]),
    listed_nk=np.array([[2, 3], [4, PADDING_ID], [PADDING_ID, PADDING_ID], [5, 2]]),
    # Padding and unknown are no items, whatever stands there. Item 5 has no event in training.
    counts_v=np.array([100, 100, 1, 2, 3, 0]),
)
EXPECTED = {
    "recall@1": [1, 0, 0, 0],
    "recall@5": [1, 0, 0, 0],
    "recall@10": [1, 1, 0, 0],
    "recall@20": [1, 1, 1, 0],
    "mrr": [1, 1 / 5.5, 1 / 20, 1 / 40],
    "ndcg@10": [1, 1 / math.log2(6.5), 0, 0],
    "mrp": [1 / 40, 5.5 / 40, 20 / 40, 40 / 80],
    "log_popularity@20": [(math.log(2) + math.log(3)) / 2, math.log(4), 0, math.log(2) / 2],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_means_at_single_events(name):
    np.testing.assert_allclose(METRICS[name].of_events(EVENTS), EXPECTED[name], rtol=1e-15)
    if name != "mrp" and not METRICS[name].needs_lists:
        np.testing.assert_allclose(of_ranks(name, EVENTS.rank_n), EXPECTED[name], rtol=1e-15)


def test_coverage_is_of_the_top_items():
    np.testing.assert_array_equal(METRICS["coverage@20"].items(EVENTS), EVENTS.listed_nk)


def test_lower_is_better_of_some():
    lower = {name for name, metric in METRICS.items() if metric.worth(1.0) < metric.worth(0.0)}
    assert lower == {"mrp", "log_popularity@20"}
