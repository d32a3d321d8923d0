"""The score of an item at an event: products, biases, and what is added; the rank of ties."""

import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.scoring.scores import Keys, Queries, candidate_scores, target_scores
from tests.random_model import EVENTS, LANES, ROWS, random_model

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
