"""Scores of targets and candidates, and which rows of the table a loss reaches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.learning import losses
from tests.random_model import EVENTS, LANES, ROWS, random_model

COUNT = 4


@pytest.mark.parametrize("with_bias", [True, False])
def test_scores_are_products_with_the_rows(with_bias):
    u, table, bias, item_ids, weight = random_model(6)
    bias = bias if with_bias else None
    weight = jnp.ones_like(weight)
    every = np.asarray(u) @ np.asarray(table).T + (np.asarray(bias) if with_bias else 0)
    targets = losses.target_scores(u, table, bias, item_ids, weight)
    expected = np.take_along_axis(every, np.asarray(item_ids)[..., None], -1)[..., 0]
    np.testing.assert_allclose(targets, expected, rtol=1e-5, atol=1e-6)
    shared = jnp.array([5, 2, 2, 8])
    scores = losses.candidate_scores(u, table, bias, shared, weight)
    np.testing.assert_allclose(scores, every[..., shared], rtol=1e-5, atol=1e-6)
    own = jnp.asarray(np.random.default_rng(0).integers(0, ROWS, (LANES, EVENTS, COUNT)))
    scores = losses.candidate_scores(u, table, bias, own, weight)
    expected = np.take_along_axis(every, np.asarray(own), -1)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_l2_equals_plain_numpy():
    u, table, _, item_ids, weight = random_model(4)
    distances = np.square(np.asarray(u) - np.asarray(table)[np.asarray(item_ids)]).sum(-1)
    expected = (np.asarray(weight) * distances).sum()
    np.testing.assert_allclose(losses.l2(u, table, item_ids, weight).total, expected, rtol=1e-5)


def test_weightless_events_do_not_reach_the_table():
    u, table, bias, item_ids, weight = random_model(5)
    bad_u = jnp.where(weight[..., None] > 0, u, jnp.nan)
    bad_ids = jnp.where(weight > 0, item_ids, 0)
    shared = jnp.array([2, 3, 4])
    own = jnp.broadcast_to(shared, (LANES, EVENTS, 3))

    def bpr(u, table, item_ids, candidates):
        target = losses.target_scores(u, table, bias, item_ids, weight)
        negative = losses.candidate_scores(u, table, bias, candidates, weight)
        return losses.bpr(target, negative, jnp.ones(negative.shape, bool), weight).total

    functions = {
        "cross_entropy": lambda u, t, i: losses.cross_entropy(u, t, bias, i, weight).total,
        "l2": lambda u, t, i: losses.l2(u, t, i, weight).total,
        "shared": lambda u, t, i: bpr(u, t, i, shared),
        "own": lambda u, t, i: bpr(u, t, i, own),
    }
    for name, function in functions.items():
        gradient_of = jax.jit(jax.grad(function, (0, 1)))
        grads, bad_grads = gradient_of(u, table, item_ids), gradient_of(bad_u, table, bad_ids)
        for grad, bad_grad in zip(grads, bad_grads, strict=True):
            np.testing.assert_allclose(bad_grad, grad, rtol=1e-6, atol=1e-7, err_msg=name)
        assert np.all(np.asarray(bad_grads[0])[np.asarray(weight) == 0] == 0)
