"""The highest columns and rows, against a stable sort: ties, infinities, NaN, few items."""

import jax
import numpy as np
import pytest

from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.scoring.best_items import highest_places
from hiertcn_jax.scoring.top_items import top_items

highest = jax.jit(highest_places, static_argnums=1)


def sorted_places(values_nc, k):
    return np.argsort(-values_nc, axis=1, kind="stable")[:, :k]


def some_values(kind, columns, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "different":
        return rng.normal(size=(5, columns)).astype(np.float32)
    if kind == "tied":
        return rng.integers(-2, 3, (5, columns)).astype(np.float32)
    if kind == "constant":
        return np.full((5, columns), -1.5, np.float32)
    # Few numbers among infinities of both signs.
    values = np.where(rng.random((5, columns)) < 0.01, rng.normal(size=(5, columns)), -np.inf)
    values[0, columns // 2] = np.inf
    return values.astype(np.float32)


# 7 and 20 columns, or groups of 32 of them: whole ones, and a last one of one column.
@pytest.mark.parametrize(("columns", "k"), [(7, 3), (20, 20), (640, 4), (641, 4), (3009, 20)])
@pytest.mark.parametrize("kind", ["different", "tied", "constant", "infinite"])
def test_the_highest_are_those_of_a_stable_sort(columns, k, kind):
    for seed in range(3):
        values_nc = some_values(kind, columns, seed)
        np.testing.assert_array_equal(highest(values_nc, k), sorted_places(values_nc, k))


def test_nan_comes_first():
    values_nc = some_values("different", 3009)
    values_nc[2, [5, 2900]] = np.nan, np.inf
    assert highest(values_nc, 2)[2].tolist() == [5, 2900]


@pytest.mark.parametrize(("rows", "k"), [(3, 1), (22, 20), (30, 20), (700, 4), (3009, 20)])
@pytest.mark.parametrize("kind", ["different", "tied", "constant", "infinite"])
@pytest.mark.parametrize("seen", [0, 6, 1000])
def test_the_top_items_of_an_event(rows, k, kind, seen):
    values_nv = some_values(kind, rows)
    for scores_v in values_nv:
        seen_k = np.random.default_rng(rows).integers(0, rows, seen)
        order = np.argsort(-scores_v, kind="stable")
        kept = [item for item in order if item >= FIRST_ITEM_ID and item not in seen_k]
        np.testing.assert_array_equal(top_items(scores_v, k, seen_k), kept[:k])


def test_scores_are_compared_in_float32():
    assert top_items(np.array([0, 0, 1.0, 1.0 + 1e-12]), 1).tolist() == [2]
