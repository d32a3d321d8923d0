"""The sampled softmax and its correction: its limit, and its gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.learning import losses, negatives
from hiertcn_jax.learning.softmax_losses import cross_entropy
from hiertcn_jax.scoring.scores import Keys, Queries, candidate_scores, target_scores
from tests.random_model import random_model

COUNTS_V = np.array([0, 0, 60, 20, 10, 5, 3, 1, 1])


@functools.partial(jax.jit, static_argnames="corrected")
def sampled(key, source, model, corrected=True):
    """Mean sampled softmax of a model with the shared candidates of a source."""
    u, table, bias, item_ids, weight = model
    queries, keys = Queries(u), Keys(table, bias)
    found = negatives.sample_candidates(key, [source], item_ids, weight, shared=True)
    return losses.sampled_softmax(
        target_scores(queries, keys, item_ids),
        candidate_scores(queries, keys, found.item_ids),
        found.mask_blk,
        weight,
        found.log_expected_count if corrected else None,
    ).mean()


def full_softmax(u, table, bias, item_ids, weight):
    return cross_entropy(Queries(u), Keys(table, bias), item_ids, weight)


def source_of(alpha, count):
    return negatives.Source(negatives.popularity_proposal(COUNTS_V, alpha), count)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_sampled_softmax_tends_to_full_softmax(alpha):
    model, key = random_model(8), jax.random.key(0)
    full = float(full_softmax(*model).mean())
    few, many = (abs(float(sampled(key, source_of(alpha, k), model)) - full) for k in (16, 30_000))
    assert many < 0.02
    assert many < few
    # Without the correction there is no limit: 30,000 candidates weigh as 30,000 items.
    assert float(sampled(key, source_of(alpha, 30_000), model, corrected=False)) > full + 5


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_sampled_partition_function_is_unbiased(alpha):
    """E[e^loss] = sum_i e^{s_i} / e^{s_target}, for few candidates too; a wrong sign is far off."""
    u, table, bias, item_ids, _ = random_model(9)
    event = (u[:1, :1], table, bias, item_ids[:1, :1], jnp.ones((1, 1)))
    exact = float(jnp.exp(full_softmax(*event).total))
    keys, source = jax.random.split(jax.random.key(1), 20_000), source_of(alpha, 8)
    estimates = jnp.exp(jax.vmap(lambda key: sampled(key, source, event))(keys))
    deviation = float(estimates.std()) / np.sqrt(len(keys))
    assert abs(float(estimates.mean()) - exact) < 5 * deviation
    assert deviation < 0.02 * exact


def test_the_correction_reduces_the_push_on_popular_items():
    # Equal scores, so plain sampling would push a candidate down alike whatever its popularity;
    # corrected, the one expected 9 times as often is pushed down 1/9 as much each time it comes.
    mask, weight = jnp.ones((1, 2), bool), jnp.ones(1)
    logs = jnp.log(jnp.array([9.0, 1.0]))
    grad = jax.grad(
        lambda negative: losses.sampled_softmax(jnp.zeros(1), negative, mask, weight, logs).total
    )(jnp.zeros((1, 2)))
    np.testing.assert_allclose(grad[0, 1] / grad[0, 0], 9, rtol=1e-5)
