"""Masked reductions, normalization and session pooling compared with plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiertcn_jax.layers import masking

BAD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("reduce", [masking.masked_sum, masking.masked_mean])
def test_masked_values_have_no_effect(reduce, bad):
    values = jnp.array([[1.0, bad, 3.0], [bad, bad, bad]])
    mask = jnp.array([[True, False, True], [False, False, False]])
    expected = {masking.masked_sum: [4.0, 0.0], masking.masked_mean: [2.0, 0.0]}[reduce]
    np.testing.assert_array_equal(reduce(values, mask, 1), expected)
    gradient = jax.grad(lambda x: reduce(x, mask, 1).sum())(values)
    assert np.all(np.asarray(gradient)[~np.asarray(mask)] == 0)
    assert np.all(np.isfinite(gradient))


def test_mask_broadcasts_and_axes_reduce_together():
    values = jnp.arange(24.0).reshape(2, 3, 4)
    mask = jnp.array([True, False, True])[None, :, None]
    expected = np.asarray(values)[:, [0, 2]]
    np.testing.assert_allclose(masking.masked_mean(values, mask), expected.mean())
    np.testing.assert_allclose(masking.masked_mean(values, mask, (0, 1)), expected.mean((0, 1)))
    np.testing.assert_allclose(masking.masked_sum(values, mask, 1), expected.sum(1))


def test_normalize_gives_unit_length_along_the_axis():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 5)), jnp.float32)
    for axis in (0, 1, -1):
        expected = np.asarray(x) / np.linalg.norm(x, axis=axis, keepdims=True)
        np.testing.assert_allclose(masking.safe_l2_normalize(x, axis), expected, rtol=1e-6)


def test_normalize_at_zero_has_value_and_gradient_zero():
    x = jnp.array([[0.0, 0.0], [3.0, 4.0], [1e-8, 0.0], [1e15, 0.0]])
    np.testing.assert_allclose(
        masking.safe_l2_normalize(x), [[0, 0], [0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6
    )
    gradient = jax.grad(lambda y: masking.safe_l2_normalize(y)[:, 0].sum())(x)
    # d(x/|x|)/dx = (I - u u^T) / |x| with u = (0.6, 0.8), |x| = 5; its first row.
    np.testing.assert_allclose(gradient[1], [(1 - 0.36) / 5, -0.48 / 5], rtol=1e-5)
    np.testing.assert_array_equal(gradient[jnp.array([0, 2])], 0)
    assert np.all(np.isfinite(gradient))


def test_normalize_keeps_the_type():
    assert masking.safe_l2_normalize(jnp.ones((2, 3), jnp.bfloat16)).dtype == jnp.bfloat16


def loop_over_slots(values, session, mask, sessions, reduce, empty):
    lanes, _, width = values.shape
    result = np.full((lanes, sessions, width), empty, np.float64)
    for lane in range(lanes):
        for slot in range(sessions):
            picked = values[lane][(session[lane] == slot) & mask[lane]]
            if len(picked):
                result[lane, slot] = reduce(picked.astype(np.float64))
    return result


POOLINGS = {
    "sum": (masking.segment_sum, lambda x: x.sum(0), 0),
    "max": (masking.segment_max, lambda x: x.max(0), -np.inf),
    "last": (masking.segment_last, lambda x: x[-1], 0),
}


JITTED = {name: jax.jit(pool) for name, (pool, _, _) in POOLINGS.items()}


@pytest.mark.parametrize("name", POOLINGS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_pooling_equals_a_loop_over_slots(name, seed):
    _, reduce, empty = POOLINGS[name]
    rng = np.random.default_rng(seed)
    lanes, events, sessions, width = 2, 7, 4, 3
    values = rng.normal(size=(lanes, events, width)).astype(np.float32)
    session = np.sort(rng.integers(0, sessions, (lanes, events)), 1)
    mask = rng.random((lanes, events)) < 0.6
    values[~mask] = rng.choice(BAD)
    members = masking.session_members(jnp.asarray(session), jnp.asarray(mask), sessions)
    np.testing.assert_allclose(
        JITTED[name](jnp.asarray(values), members),
        loop_over_slots(values, session, mask, sessions, reduce, empty),
        rtol=1e-5,
        atol=1e-6,
    )
    ones = np.ones((lanes, events, 1))
    expected_count = loop_over_slots(ones, session, mask, sessions, lambda x: x.sum(0), 0)
    np.testing.assert_array_equal(masking.segment_count(members), expected_count[..., 0])


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_gradient_is_that_of_the_loop(name):
    # Slot 0 holds the events 0 and 1, slot 1 the event 2; event 3 is masked and NaN.
    values = jnp.array([[[1.0], [5.0], [2.0], [jnp.nan]]])
    mask = jnp.array([[True, True, True, False]])
    members = masking.session_members(jnp.array([[0, 0, 1, 1]]), mask, 3)
    weight_bsd = jnp.array([[[10.0], [100.0], [1000.0]]])
    pool = POOLINGS[name][0]

    def total(values_bld):
        has_event = (masking.segment_count(members) > 0)[..., None]
        return masking.masked_sum(pool(values_bld, members) * weight_bsd, has_event)

    expected = {"sum": [10, 10, 100, 0], "max": [0, 10, 100, 0], "last": [0, 10, 100, 0]}[name]
    np.testing.assert_array_equal(jax.grad(total)(values)[0, :, 0], expected)


def test_sums_of_bfloat16_are_taken_in_float32():
    # In bfloat16 256 + 1 is 256 (8 bits of significand), so a running bfloat16 sum would stay.
    values = jnp.full((1, 300, 1), 1, jnp.bfloat16)
    members = masking.session_members(
        jnp.zeros((1, 300), jnp.int32), jnp.ones((1, 300), bool), sessions=1
    )
    pooled = masking.segment_sum(values, members)
    assert pooled.dtype == jnp.float32
    assert float(pooled[0, 0, 0]) == 300
