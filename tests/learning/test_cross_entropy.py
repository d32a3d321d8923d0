"""The softmax over the whole catalogue, chunk by chunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.learning.softmax_losses import cross_entropy
from hiertcn_jax.scoring.scores import Keys, Queries, candidate_scores, target_scores
from tests.random_model import EVENTS, LANES, ROWS, WIDTH, random_model


def plain_cross_entropy(u, table, bias, item_ids, weight):
    u, table, item_ids, weight = (
        np.asarray(x, t)
        for x, t in zip((u, table, item_ids, weight), ("f8", "f8", "i8", "f8"), strict=True)
    )
    scores = u @ table[FIRST_ITEM_ID:].T
    if bias is not None:
        scores = scores + np.asarray(bias, np.float64)[FIRST_ITEM_ID:]
    log_z = np.log(np.exp(scores).sum(-1))
    target = np.take_along_axis(scores, item_ids[..., None] - FIRST_ITEM_ID, -1)[..., 0]
    return (weight * (log_z - target)).sum()


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("chunk", [1, 3, 10, 512])
def test_cross_entropy_equals_plain_numpy_whatever_the_chunk(chunk, with_bias):
    u, table, bias, item_ids, weight = random_model(0)
    bias = bias if with_bias else None
    result = cross_entropy(Queries(u), Keys(table, bias), item_ids, weight, chunk)
    expected = plain_cross_entropy(u, table, bias, item_ids, weight)
    np.testing.assert_allclose(result.total, expected, rtol=1e-5)
    np.testing.assert_allclose(result.weight, np.asarray(weight).sum())


@pytest.mark.parametrize("chunk", [3, 512])
def test_cross_entropy_gradient_is_softmax_minus_one_hot(chunk):
    u, table, bias, item_ids, weight = random_model(1)
    gradients = jax.grad(
        lambda u, *keys: cross_entropy(Queries(u), Keys(*keys), item_ids, weight, chunk).total,
        (0, 1, 2),
    )
    grad_u, grad_table, grad_bias = jax.jit(gradients)(u, table, bias)
    scores = np.asarray(u) @ np.asarray(table).T + np.asarray(bias)
    scores[..., :FIRST_ITEM_ID] = -np.inf
    share = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    error = np.asarray(weight)[..., None] * (share - np.eye(ROWS)[np.asarray(item_ids)])
    np.testing.assert_allclose(grad_u, error @ np.asarray(table), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(grad_table, np.einsum("blv,bld->vd", error, u), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(grad_bias, error.sum((0, 1)), rtol=1e-4, atol=1e-6)
    # Padding and unknown are no part of the softmax.
    np.testing.assert_array_equal(grad_table[:FIRST_ITEM_ID], 0)


def test_cross_entropy_at_extreme_scores():
    u, table, bias, item_ids, weight = random_model(2)
    both = jax.value_and_grad(
        lambda u, t: cross_entropy(Queries(1e4 * u), Keys(t, bias), item_ids, weight).total, (0, 1)
    )
    total, gradients = jax.jit(both)(u, table)
    assert np.isfinite(total)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_cross_entropy_keeps_no_array_of_events_by_catalogue():
    shape = (4, 64, WIDTH)
    u, weight = jnp.ones(shape), jnp.ones(shape[:2])
    item_ids, table = jnp.full(shape[:2], 2), jnp.ones((1_000, WIDTH))
    grad = jax.grad(
        lambda u, t: cross_entropy(Queries(u), Keys(t), item_ids, weight, 16).total, (0, 1)
    )
    stats = jax.jit(grad).lower(u, table).compile().memory_analysis()
    if stats is None:
        pytest.skip("this backend tells no memory sizes")
    # 256 x 1,000 scores are 1,024,000 bytes; a chunk of 16 has 64,000, and needs a few such.
    assert stats.temp_size_in_bytes < 512_000


def test_cross_entropy_of_a_single_item_is_zero():
    u, table, bias, _, weight = random_model(3, rows=3)
    item_ids = jnp.full((LANES, EVENTS), FIRST_ITEM_ID)
    assert float(cross_entropy(Queries(u), Keys(table, bias), item_ids, weight).total) == 0


def test_cross_entropy_refuses_what_it_cannot_do():
    u, table, bias, item_ids, weight = random_model(0)
    with pytest.raises(ValueError, match="2 rows hold no catalogue"):
        cross_entropy(Queries(u), Keys(table[:2], bias[:2]), item_ids, weight)
    with pytest.raises(ValueError, match="chunk=0"):
        cross_entropy(Queries(u), Keys(table, bias), item_ids, weight, 0)


def test_bfloat16_is_summed_in_float32():
    u, table, bias, item_ids, weight = random_model(7, dtype=jnp.bfloat16)
    rounded_table = table.astype(jnp.bfloat16).astype(jnp.float32)
    result = cross_entropy(Queries(u), Keys(table, bias), item_ids, weight)
    assert result.total.dtype == jnp.float32
    expected = plain_cross_entropy(u.astype(jnp.float32), rounded_table, bias, item_ids, weight)
    np.testing.assert_allclose(result.total, expected, rtol=1e-5)
    scores = target_scores(Queries(u), Keys(table, bias), item_ids)
    assert scores.dtype == jnp.float32
    assert candidate_scores(Queries(u), Keys(table), item_ids[0]).dtype == jnp.float32
