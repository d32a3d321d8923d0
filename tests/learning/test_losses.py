"""Losses of scores compared with plain NumPy, at extreme scores, and with everything masked."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.learning import losses

LANES, EVENTS, COUNT = 2, 5, 4


def sigmoid(x):
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))


def log_sigmoid(x):
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


def hinge(f):
    return lambda pos, neg: np.maximum(f(neg) - f(pos) + 0.1, 0).mean() if len(neg) else 0.0


def plain_sampled_softmax(pos, neg):
    """With log E_j = 0, 1, 2, 3 as below: `neg` is corrected already."""
    scores = np.append(neg, pos)
    return scores.max() + np.log(np.exp(scores - scores.max()).sum()) - pos


# Loss of one event from its target's score and those of its unmasked candidates, in float64.
PLAIN = {
    "sampled_softmax": plain_sampled_softmax,
    "nce": lambda pos, neg: (
        -log_sigmoid(pos) - 0.5 * (log_sigmoid(-neg).mean() if len(neg) else 0.0)
    ),
    "bpr": lambda pos, neg: -log_sigmoid(pos - neg).mean() if len(neg) else 0.0,
    "hinge_linear": hinge(lambda s: s),
    "hinge_sigmoid": hinge(sigmoid),
    "hinge_logsigmoid": hinge(log_sigmoid),
}
LOG_EXPECTED_K = jnp.arange(4.0)


OPTIONS = {"sampled_softmax": {"log_expected_count": LOG_EXPECTED_K}, "nce": {"nce_weight": 0.5}}


def of_scores(name):
    """(target, negative, mask, weight) -> ((total, weight), gradients by target and negative)."""

    def total_and_weight(*scores):
        return tuple(getattr(losses, name)(*scores, **OPTIONS.get(name, {})))

    return jax.jit(jax.value_and_grad(total_and_weight, (0, 1), has_aux=True))


VALUE_AND_GRAD = {name: of_scores(name) for name in PLAIN}
all_losses = pytest.mark.parametrize("name", PLAIN)


def random_scores(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return (
        jnp.asarray(scale * rng.normal(size=(LANES, EVENTS)), jnp.float32),
        jnp.asarray(scale * rng.normal(size=(LANES, EVENTS, COUNT)), jnp.float32),
        jnp.asarray(rng.random((LANES, EVENTS, COUNT)) < 0.6),
        jnp.asarray(rng.choice([0, 0.5, 1, 2], (LANES, EVENTS)), jnp.float32),
    )


def plain_total(name, target, negative, mask, weight):
    target, negative, mask, weight = (np.asarray(x) for x in (target, negative, mask, weight))
    negative = negative.astype(np.float64)
    if name == "sampled_softmax":
        negative = negative - np.asarray(LOG_EXPECTED_K)
    return sum(
        weight[event] * PLAIN[name](float(target[event]), negative[event][mask[event]])
        for event in np.ndindex(weight.shape)
        if weight[event] > 0
    )


@all_losses
@pytest.mark.parametrize("scale", [1.0, 10.0, 1e4])
def test_losses_equal_plain_numpy(name, scale):
    for seed in range(5):
        scores = random_scores(seed, scale)
        (total, weight), _ = VALUE_AND_GRAD[name](*scores)
        np.testing.assert_allclose(total, plain_total(name, *scores), rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(weight, np.asarray(scores[3]).sum())


@all_losses
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_masked_entries_add_nothing(name, bad):
    target, negative, mask, weight = random_scores(3)
    counts = weight > 0
    bad_target = jnp.where(counts, target, bad)
    bad_negative = jnp.where(mask & counts[..., None], negative, bad)
    value, (grad_t, grad_n) = VALUE_AND_GRAD[name](bad_target, bad_negative, mask, weight)
    expected, _ = VALUE_AND_GRAD[name](target, negative, mask, weight)
    assert (float(value[0]), float(value[1])) == (float(expected[0]), float(expected[1]))
    assert np.all(np.asarray(grad_t)[~np.asarray(counts)] == 0)
    assert np.all(np.asarray(grad_n)[~np.asarray(mask & counts[..., None])] == 0)
    assert np.all(np.isfinite(grad_t))
    assert np.all(np.isfinite(grad_n))


@all_losses
def test_extreme_scores_have_finite_losses_and_gradients(name):
    values = [-1e4, 0.0, 1e4]
    for target_value, negative_value in itertools.product(values, values):
        target, negative = jnp.full((1,), target_value), jnp.full((1, 4), negative_value)
        mask, weight = jnp.ones((1, 4), bool), jnp.ones(1)
        (total, _), gradients = VALUE_AND_GRAD[name](target, negative, mask, weight)
        expected = plain_total(name, target, negative, mask, weight)
        np.testing.assert_allclose(total, expected, rtol=1e-6, atol=1e-6)
        assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@all_losses
def test_events_without_candidates(name):
    scores = (jnp.array([0.7]), jnp.full((1, 4), jnp.nan), jnp.zeros((1, 4), bool), jnp.ones(1))
    (total, _), (grad_t, grad_n) = VALUE_AND_GRAD[name](*scores)
    # Only nce keeps a term: -log sigmoid(0.7), of derivative sigmoid(0.7) - 1.
    np.testing.assert_allclose(total, -log_sigmoid(0.7) if name == "nce" else 0, rtol=1e-6)
    np.testing.assert_allclose(grad_t, [sigmoid(0.7) - 1 if name == "nce" else 0], rtol=1e-6)
    np.testing.assert_array_equal(grad_n, 0)


@all_losses
def test_nothing_has_a_weight(name):
    target, negative, mask, weight = random_scores(0)
    (total, weights), gradients = VALUE_AND_GRAD[name](target, negative, mask, 0 * weight)
    assert (float(total), float(weights)) == (0, 0)
    assert all(np.all(np.asarray(gradient) == 0) for gradient in gradients)


def test_mean_of_a_sum():
    assert float(losses.LossSum(jnp.float32(3), jnp.float32(2)).mean()) == 1.5
    assert float(losses.LossSum(jnp.float32(0), jnp.float32(0)).mean()) == 0


@all_losses
def test_order_of_candidates_and_events_changes_nothing(name):
    target, negative, mask, weight = random_scores(1)
    places = np.array([2, 0, 3, 1])
    logs = LOG_EXPECTED_K if name == "sampled_softmax" else None

    def total(target, negative, mask, weight, logs):
        extra = {} if logs is None else {"log_expected_count": logs}
        return getattr(losses, name)(target, negative, mask, weight, **extra).total

    moved = (target[::-1], negative[::-1][..., places], mask[::-1][..., places], weight[::-1])
    np.testing.assert_allclose(
        total(target, negative, mask, weight, logs),
        total(*moved, None if logs is None else logs[places]),
        rtol=1e-5,
    )


def test_golden_values():
    # One event, target score 1, candidates 0 and 2: pos - neg is 1 and -1.
    scores = (jnp.array([1.0]), jnp.array([[0.0, 2.0]]), jnp.ones((1, 2), bool), jnp.ones(1))
    expected = {
        # (log(1 + e^-1) + log(1 + e)) / 2
        "bpr": (0.3132617 + 1.3132617) / 2,
        # log(1 + e^-1) + (log 2 + log(1 + e^2)) / 2
        "nce": 0.3132617 + (0.6931472 + 2.1269280) / 2,
        # (max(0, 0 - 1 + 0.1) + max(0, 2 - 1 + 0.1)) / 2
        "hinge_linear": (0 + 1.1) / 2,
        # sigmoid(0, 1, 2) = 0.5, 0.7310586, 0.8807971
        "hinge_sigmoid": (0 + 0.8807971 - 0.7310586 + 0.1) / 2,
        # log sigmoid(1), (2) = -0.3132617, -0.1269280
        "hinge_logsigmoid": (0 - 0.1269280 + 0.3132617 + 0.1) / 2,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(losses, name)(*scores).total, value, rtol=1e-6)
    # E = 2 and e: -log(e / (e + 1/2 + e^2 / e)), and uncorrected -log(e / (e + 1 + e^2)).
    logs = jnp.log(jnp.array([2.0, np.e]))
    np.testing.assert_allclose(
        losses.sampled_softmax(*scores, logs).total, np.log(2 + 0.5 / np.e), rtol=1e-6
    )
    np.testing.assert_allclose(
        losses.sampled_softmax(*scores, None).total, np.log(1 + 1 / np.e + np.e), rtol=1e-6
    )


def test_per_user_weights_give_every_user_one():
    # Row 0: user A continues (2 events), then B (1 + 2 events in two sessions), then padding.
    # Row 1: user C (3 events, one of them without weight), then D, not trained on.
    session = jnp.array([[0, 0, 1, 2, 2, 0], [0, 0, 0, 1, 1, 1]])
    starts_user = jnp.array([[False, True, False], [True, True, False]])
    weight = jnp.array([[1.0, 3.0, 1.0, 1.0, 2.0, 0.0], [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]])
    scaled = losses.per_user_weight(weight, session, starts_user)
    expected = [[0.25, 0.75, 0.25, 0.25, 0.5, 0], [0.5, 0, 0.5, 0, 0, 0]]
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
    loss = np.random.default_rng(0).normal(size=(2, 6))
    mean = (np.asarray(scaled) * loss).sum() / np.asarray(scaled).sum()
    users = [(0, [0, 1]), (0, [2, 3, 4]), (1, [0, 2])]
    means = [np.average(loss[row, at], weights=np.asarray(weight)[row, at]) for row, at in users]
    np.testing.assert_allclose(mean, np.mean(means), rtol=1e-6)
