"""Dropout: its share, its mean, its independence, and nothing in evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.layers.dropout import Dropout, keep_mask

SHAPE = (64, 37, 11)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_is_the_rate_and_the_mean_stays(rate):
    x = jnp.ones(SHAPE)
    y = np.asarray(Dropout(rate).apply({}, x, True, rngs={"dropout": jax.random.key(0)}))
    n = y.size
    share = round(rate * 256) / 256
    assert share == pytest.approx(rate, abs=1 / 512)
    # Five deviations of a binomial.
    assert (y == 0).mean() == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / n))
    np.testing.assert_allclose(y[y != 0], 1 / (1 - share), rtol=1e-6)
    assert y.mean() == pytest.approx(1, abs=5 * np.sqrt(share / (1 - share) / n))


def test_places_are_independent_also_within_a_word():
    kept = np.asarray(keep_mask(jax.random.key(1), (4096, 16), 128)).astype(float)
    correlations = np.corrcoef(kept.T) - np.eye(16)
    assert np.abs(correlations).max() < 5 / np.sqrt(4096)


def test_a_lanes_mask_does_not_depend_on_the_other_lanes_values():
    key = {"dropout": jax.random.key(2)}
    one = jnp.arange(1.0, 97).reshape(4, 24)
    other = one.at[0].set(7.0)
    drop = Dropout(0.5)
    np.testing.assert_array_equal(
        drop.apply({}, one, True, rngs=key)[1:], drop.apply({}, other, True, rngs=key)[1:]
    )


def test_gradient_is_the_mask():
    key = {"dropout": jax.random.key(3)}
    x = jnp.linspace(-1, 1, 24).reshape(4, 6)
    grad = jax.grad(lambda x: jnp.sum(Dropout(0.5).apply({}, x, True, rngs=key)))(x)
    np.testing.assert_array_equal(grad * x, Dropout(0.5).apply({}, x, True, rngs=key))


@pytest.mark.parametrize(("rate", "train"), [(0.5, False), (0.0, True), (0.001, True)])
def test_nothing_is_dropped_or_drawn_in_evaluation_or_at_no_rate(rate, train):
    x = jnp.linspace(-1, 1, 24).reshape(4, 6)
    np.testing.assert_array_equal(Dropout(rate).apply({}, x, train), x)


def test_bfloat16_stays():
    x = jnp.ones((4, 6), jnp.bfloat16)
    assert Dropout(0.5).apply({}, x, True, rngs={"dropout": jax.random.key(4)}).dtype == x.dtype
