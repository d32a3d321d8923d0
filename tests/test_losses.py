"""Every loss against plain NumPy, at extreme scores, and with everything masked."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax import losses, negatives
from hiertcn_jax.batch import FIRST_ITEM_ID

LANES, EVENTS, WIDTH, ROWS, COUNT = 2, 5, 3, 9, 4


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
def test_what_is_masked_adds_nothing(name, bad):
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


def random_model(seed, rows=ROWS, dtype=jnp.float32):
    """u_bld, table_vd, bias_v, item_ids_bl, weight_bl."""
    rng = np.random.default_rng(seed)
    return (
        jnp.asarray(rng.normal(size=(LANES, EVENTS, WIDTH)), dtype),
        jnp.asarray(rng.normal(size=(rows, WIDTH)), jnp.float32),
        jnp.asarray(rng.normal(size=rows), jnp.float32),
        jnp.asarray(rng.integers(FIRST_ITEM_ID, rows, (LANES, EVENTS)), jnp.int32),
        jnp.asarray(rng.choice([0, 0.5, 1], (LANES, EVENTS)), jnp.float32),
    )


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
    result = losses.cross_entropy(u, table, bias, item_ids, weight, chunk)
    expected = plain_cross_entropy(u, table, bias, item_ids, weight)
    np.testing.assert_allclose(result.total, expected, rtol=1e-5)
    np.testing.assert_allclose(result.weight, np.asarray(weight).sum())


@pytest.mark.parametrize("chunk", [3, 512])
def test_cross_entropy_gradient_is_softmax_minus_one_hot(chunk):
    u, table, bias, item_ids, weight = random_model(1)
    grad_u, grad_table, grad_bias = jax.grad(
        lambda *x: losses.cross_entropy(*x, item_ids, weight, chunk).total, (0, 1, 2)
    )(u, table, bias)
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
    total, gradients = jax.value_and_grad(
        lambda u, t: losses.cross_entropy(1e4 * u, t, bias, item_ids, weight).total, (0, 1)
    )(u, table)
    assert np.isfinite(total)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_cross_entropy_keeps_no_array_of_events_by_catalogue():
    shape = (4, 64, WIDTH)
    u, weight = jnp.ones(shape), jnp.ones(shape[:2])
    item_ids, table = jnp.full(shape[:2], 2), jnp.ones((1_000, WIDTH))
    grad = jax.grad(
        lambda u, t: losses.cross_entropy(u, t, None, item_ids, weight, 16).total, (0, 1)
    )
    stats = jax.jit(grad).lower(u, table).compile().memory_analysis()
    if stats is None:
        pytest.skip("this backend tells no memory sizes")
    # 256 x 1,000 scores are 1,024,000 bytes; a chunk of 16 has 64,000, and needs a few such.
    assert stats.temp_size_in_bytes < 512_000


def test_cross_entropy_of_a_single_item_is_zero():
    u, table, bias, _, weight = random_model(3, rows=3)
    item_ids = jnp.full((LANES, EVENTS), FIRST_ITEM_ID)
    assert float(losses.cross_entropy(u, table, bias, item_ids, weight).total) == 0


def test_cross_entropy_refuses_what_it_cannot_do():
    u, table, bias, item_ids, weight = random_model(0)
    with pytest.raises(ValueError, match="2 rows hold no catalogue"):
        losses.cross_entropy(u, table[:2], bias[:2], item_ids, weight)
    with pytest.raises(ValueError, match="chunk=0"):
        losses.cross_entropy(u, table, bias, item_ids, weight, 0)


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


def test_bfloat16_is_summed_in_float32():
    u, table, bias, item_ids, weight = random_model(7, dtype=jnp.bfloat16)
    rounded_table = table.astype(jnp.bfloat16).astype(jnp.float32)
    result = losses.cross_entropy(u, table, bias, item_ids, weight)
    assert result.total.dtype == jnp.float32
    expected = plain_cross_entropy(u.astype(jnp.float32), rounded_table, bias, item_ids, weight)
    np.testing.assert_allclose(result.total, expected, rtol=1e-5)
    scores = losses.target_scores(u, table, bias, item_ids, weight)
    assert scores.dtype == jnp.float32
    assert losses.candidate_scores(u, table, None, item_ids[0], weight).dtype == jnp.float32


COUNTS_V = np.array([0, 0, 60, 20, 10, 5, 3, 1, 1])


@functools.partial(jax.jit, static_argnames="corrected")
def sampled(key, source, model, corrected=True):
    """Mean sampled softmax of a model with the shared candidates of a source."""
    u, table, bias, item_ids, weight = model
    found = negatives.sample_candidates(key, [source], item_ids, weight, shared=True)
    return losses.sampled_softmax(
        losses.target_scores(u, table, bias, item_ids, weight),
        losses.candidate_scores(u, table, bias, found.item_ids, weight),
        found.mask_blk,
        weight,
        found.log_expected_count if corrected else None,
    ).mean()


def source_of(alpha, count):
    return negatives.Source(negatives.popularity_proposal(COUNTS_V, alpha), count)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_sampled_softmax_tends_to_full_softmax(alpha):
    model, key = random_model(8), jax.random.key(0)
    full = float(losses.cross_entropy(*model).mean())
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
    exact = float(jnp.exp(losses.cross_entropy(*event).total))
    keys, source = jax.random.split(jax.random.key(1), 20_000), source_of(alpha, 8)
    estimates = jnp.exp(jax.vmap(lambda key: sampled(key, source, event))(keys))
    deviation = float(estimates.std()) / np.sqrt(len(keys))
    assert abs(float(estimates.mean()) - exact) < 5 * deviation
    assert deviation < 0.02 * exact


def test_gradient_of_the_correction_favours_popular_items_less():
    # Equal scores, so plain sampling would push a candidate down alike whatever its popularity;
    # corrected, the one expected 9 times as often is pushed down 1/9 as much each time it comes.
    mask, weight = jnp.ones((1, 2), bool), jnp.ones(1)
    logs = jnp.log(jnp.array([9.0, 1.0]))
    grad = jax.grad(
        lambda negative: losses.sampled_softmax(jnp.zeros(1), negative, mask, weight, logs).total
    )(jnp.zeros((1, 2)))
    np.testing.assert_allclose(grad[0, 1] / grad[0, 0], 9, rtol=1e-5)


def test_per_user_weights_give_every_user_one():
    # Row 0: user A goes on (2 events), then B (1 + 2 events in two sessions), then padding.
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
