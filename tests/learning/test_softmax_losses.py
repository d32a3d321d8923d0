"""The softmax over shared candidates: the same sum and gradients as with stored scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.batch import PADDING_ID
from hiertcn_jax.learning import losses, negatives, softmax_losses
from hiertcn_jax.scoring.scores import Keys, Queries, candidate_scores, target_scores

EVENTS, ROWS, WIDTH = (3, 5), 9, 4


def example(seed=0):
    rng = np.random.default_rng(seed)
    u = jnp.asarray(rng.normal(size=(*EVENTS, WIDTH)), jnp.float32)
    table = jnp.asarray(rng.normal(size=(ROWS, WIDTH)), jnp.float32)
    bias = jnp.asarray(rng.normal(size=ROWS), jnp.float32)
    targets = jnp.asarray(rng.integers(2, ROWS, EVENTS), jnp.int32)
    weight = jnp.asarray(rng.integers(0, 3, EVENTS), jnp.float32)
    candidates = jnp.asarray([2, 5, PADDING_ID, 5, 7, 8], jnp.int32)
    log_expected = jnp.asarray(rng.normal(size=6), jnp.float32)
    return u, table, bias, targets, weight, candidates, log_expected


def shared_sampled_softmax(u, table, bias, *rest):
    return softmax_losses.shared_sampled_softmax(Queries(u), Keys(table, bias), *rest)


def from_kept_scores(u, table, bias, targets, weight, candidates, log_expected):
    mask = (candidates != PADDING_ID) & (candidates != targets[..., None])
    return losses.sampled_softmax(
        target_scores(Queries(u), Keys(table, bias), targets),
        candidate_scores(Queries(u), Keys(table, bias), candidates),
        mask,
        weight,
        log_expected,
    )


@pytest.mark.parametrize("logq", [True, False])
def test_sum_and_gradients_equal_those_from_kept_scores(logq):
    *arrays, log_expected = example()
    log_expected = log_expected if logq else None

    def both(loss):
        def total(u, table, bias):
            return 0.7 * loss(u, table, bias, *arrays[3:], log_expected).total

        return jax.jit(jax.value_and_grad(total, (0, 1, 2)))(*arrays[:3])

    value, grads = both(shared_sampled_softmax)
    expected_value, expected_grads = both(from_kept_scores)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    for grad, expected in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-6)


OWN = jnp.asarray(
    [[[5, 3], [8, 0], [0, 0], [4, 6], [7, 8]], [[2, 3]] * 5, [[0, 0]] * 4 + [[6, 5]]], jnp.int32
)
"""Negatives of each event's own, some of them drawn too, some the target; 0 is none."""


@pytest.mark.parametrize("logq", [True, False])
def test_own_candidates_are_certain_and_count_once(logq):
    *arrays, log_expected = example(4)
    targets, weight, candidates = arrays[3:]
    own = negatives.given_candidates(OWN, targets)
    off = jnp.asarray(weight == 0)[..., None]

    def plain(u, table, bias):
        """The loss with every score stored, and the candidates of each event in one list."""
        shown = own.mask_blk
        ids = jnp.concatenate([OWN, jnp.broadcast_to(candidates, (*EVENTS, 6))], -1)
        drawn = (candidates != PADDING_ID) & (candidates != targets[..., None])
        drawn &= ~(OWN[..., None, :] == candidates[:, None]).any(-1)
        corrections = jnp.concatenate(
            [jnp.zeros(OWN.shape), jnp.broadcast_to(log_expected, (*EVENTS, 6))], -1
        )
        return losses.sampled_softmax(
            target_scores(Queries(u), Keys(table, bias), targets),
            candidate_scores(Queries(u), Keys(table, bias), ids),
            jnp.concatenate([shown, drawn], -1),
            weight,
            corrections if logq else None,
        ).total

    def kept_none(u, table, bias):
        return shared_sampled_softmax(
            u, table, bias, targets, weight, candidates, log_expected if logq else None, own
        ).total

    u = jnp.where(off, jnp.nan, arrays[0])
    value, grads = jax.jit(jax.value_and_grad(kept_none, (0, 1, 2)))(u, *arrays[1:3])
    expected_value, expected_grads = jax.jit(jax.value_and_grad(plain, (0, 1, 2)))(*arrays[:3])
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    for grad, expected in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-6)


def test_the_value_alone_equals_the_value_with_its_gradient():
    arrays = example(1)
    alone = shared_sampled_softmax(*arrays).total
    with_gradient, _ = jax.value_and_grad(lambda u: shared_sampled_softmax(u, *arrays[1:]).total)(
        arrays[0]
    )
    np.testing.assert_allclose(alone, with_gradient, rtol=1e-6)


def test_events_of_weight_0_add_nothing_even_where_they_are_nan():
    u, table, bias, targets, weight, candidates, log_expected = example(2)
    off = weight == 0
    assert off.any()

    def total(u, table):
        return shared_sampled_softmax(
            u, table, bias, targets, weight, candidates, log_expected
        ).total

    spoiled = jnp.where(off[..., None], jnp.nan, u)
    value, (grad_u, grad_table) = jax.value_and_grad(total, (0, 1))(spoiled, table)
    expected, (_, expected_table) = jax.value_and_grad(total, (0, 1))(u, table)
    assert value == expected
    np.testing.assert_array_equal(grad_table, expected_table)
    np.testing.assert_array_equal(grad_u[off], 0)


def test_an_event_without_candidates_loses_nothing():
    u, table, bias, targets, weight, _, _ = example(3)
    nothing = jnp.full(4, PADDING_ID, jnp.int32)

    def total(u):
        return shared_sampled_softmax(u, table, bias, targets, weight, nothing, jnp.zeros(4)).total

    value, grad = jax.value_and_grad(total)(u)
    assert value == 0
    np.testing.assert_array_equal(grad, 0)
