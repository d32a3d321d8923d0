"""The score of an item at an event: products, biases, and what is added; the rank of ties."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.scoring import own_products
from hiertcn_jax.scoring.scores import (
    Additions,
    Keys,
    Queries,
    candidate_scores,
    list_scores,
    listed_scores,
    rank_among,
    row_scores,
    target_scores,
)
from tests.random_model import EVENTS, LANES, ROWS, dense_scores, random_lists, random_model

COUNT = 4


@pytest.mark.parametrize("with_bias", [True, False])
def test_scores_are_products_with_the_rows(with_bias):
    u, table, bias, item_ids, _ = random_model(6)
    bias = bias if with_bias else None
    queries, keys = Queries(u), Keys(table, bias)
    every = np.asarray(u) @ np.asarray(table).T + (np.asarray(bias) if with_bias else 0)
    targets = target_scores(queries, keys, item_ids)
    expected = np.take_along_axis(every, np.asarray(item_ids)[..., None], -1)[..., 0]
    np.testing.assert_allclose(targets, expected, rtol=1e-5, atol=1e-6)
    shared = jnp.array([5, 2, 2, 8])
    scores = candidate_scores(queries, keys, shared)
    np.testing.assert_allclose(scores, every[..., shared], rtol=1e-5, atol=1e-6)
    own = jnp.asarray(np.random.default_rng(0).integers(0, ROWS, (LANES, EVENTS, COUNT)))
    scores = candidate_scores(queries, keys, own)
    expected = np.take_along_axis(every, np.asarray(own), -1)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_additions_are_added_wherever_a_score_is_made():
    u, table, bias, item_ids, _ = random_model(7)
    lists = random_lists(7, item_ids)
    queries, keys = Queries(u, lists), Keys(table, bias)
    every = np.asarray(dense_scores(u, table, bias, lists))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    of_targets = np.take_along_axis(every, np.asarray(item_ids)[..., None], -1)[..., 0]
    close(target_scores(queries, keys, item_ids), of_targets)
    shared = np.array([5, 2, 2, 8])
    close(candidate_scores(queries, keys, jnp.asarray(shared)), every[..., shared])
    own = np.random.default_rng(0).integers(FIRST_ITEM_ID, ROWS, (LANES, EVENTS, 20))
    found = candidate_scores(queries, keys, jnp.asarray(own))
    close(found, np.take_along_axis(every, own, -1))
    listed, has_item = listed_scores(queries, keys), np.asarray(lists.is_item())
    expected = np.take_along_axis(every, np.asarray(lists.item_ids), -1)
    close(np.asarray(listed)[has_item], expected[has_item])
    # A chunk of the table, at some of the events.
    picked, of_events = queries.pick(jnp.array([3, 3, 9])), every.reshape(-1, ROWS)[[3, 3, 9]]
    chunk = row_scores(picked, Keys(table[4:7], bias[4:7]), 4)
    close(chunk, of_events[:, 4:7])
    ids = np.array([[2, 5, 8], [5, 2, 3], [4, 4, 6]])
    found = list_scores(picked, Keys(table[ids], bias[ids]), jnp.asarray(ids))
    close(found, np.take_along_axis(of_events, ids, 1))


@pytest.mark.parametrize("width", [1, 7, 8, 9, 20])
def test_places_on_a_list_equal_a_search(width):
    """Also where the list is no multiple of what one pass looks for."""
    rng = np.random.default_rng(width)
    listed = np.stack([rng.permutation(24)[:width] for _ in range(6)])
    ids = rng.integers(0, 24, (6, 30))
    found = Additions(jnp.asarray(listed), None).index_of(jnp.asarray(ids))
    for row, wanted, places in zip(listed.tolist(), ids.tolist(), found, strict=True):
        expected = [row.index(i) if i in row and i >= FIRST_ITEM_ID else -1 for i in wanted]
        np.testing.assert_array_equal(places, expected)


@pytest.mark.parametrize("numbers", [1, 40, 1 << 20])
def test_products_with_own_rows_and_their_gradients_whatever_the_chunk(numbers, monkeypatch):
    monkeypatch.setattr(own_products, "CHUNK_NUMBERS_CPU", numbers)
    rng = np.random.default_rng(0)
    u, table = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((3, 7, 4), (9, 4)))
    ids = jnp.asarray(rng.integers(0, 9, (3, 7, 5)))

    def weighed(scores):
        return jnp.sum(jnp.sin(jnp.arange(scores.size)).reshape(scores.shape) * scores)

    def plain(u, table):
        return weighed(jnp.einsum("bld,blkd->blk", u, table[ids], precision="highest"))

    def ours(u, table):
        return weighed(own_products.own_products(u, table, ids))

    found, expected = (
        jax.jit(jax.value_and_grad(total, (0, 1)))(u, table) for total in (ours, plain)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected
    )


def test_a_tie_counts_half_and_scores_are_compared_in_float32():
    scores = np.array([3.0, 1.0, 2.0, 2.0 + 1e-12, np.nan])
    assert rank_among(scores, 2.0) == 1 + 1 + 2 / 2
    assert rank_among(scores, 2.0, np.array([False, True, True, False, True])) == 1 + 1 / 2
    assert rank_among(scores[:0], 2.0) == 1
