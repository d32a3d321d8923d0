"""Schedules by arithmetic; the chain compared with optax's AdamW; what lazy rows leave alone."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hiertcn_jax.batch import Bucket, padding_batch
from hiertcn_jax.learning.optimizer import (
    Optimizer,
    OptimizerConfig,
    add_decay,
    lazy_rows,
    learning_rate_schedule,
)
from hiertcn_jax.models import MODELS, build, model_config
from hiertcn_jax.scoring.item_table import ItemTable
from tests.models.options import NEEDED

ROWS, WIDTH = 9, 3
CONSTANT = OptimizerConfig(learning_rate=0.1, schedule="constant")


def rates(config, steps, total_steps=100, steps_per_epoch=10):
    schedule = learning_rate_schedule(config, total_steps, steps_per_epoch)
    return [float(schedule(step)) for step in steps]


def test_constant():
    assert rates(CONSTANT, [0, 1, 5000]) == pytest.approx([0.1] * 3)


def test_warmup_rises_from_0_to_the_peak_at_its_last_step():
    config = OptimizerConfig(learning_rate=0.1, schedule="constant", warmup_steps=4)
    assert rates(config, [0, 1, 2, 3, 4, 5]) == pytest.approx([0, 0.025, 0.05, 0.075, 0.1, 0.1])


@pytest.mark.parametrize("warmup", [0, 5])
def test_step_drops_by_its_factor_at_its_epochs(warmup):
    config = OptimizerConfig(
        learning_rate=1e-2, schedule="step", decay_epochs=(2, 4), warmup_steps=warmup
    )
    # Epochs of 10 steps: by 0.2 from step 20 on, again from 40 on.
    assert rates(config, [19, 21, 39, 41, 99]) == pytest.approx([1e-2, 2e-3, 2e-3, 4e-4, 4e-4])


def test_cosine_falls_to_its_share_of_the_peak_at_the_last_step():
    config = OptimizerConfig(learning_rate=0.1, schedule="cosine", final_rate=0.2)
    # (1 - 0.2) * (1 + cos(pi * t / 100)) / 2 + 0.2 of the peak.
    at_25 = 0.1 * (0.8 * (1 + math.cos(math.pi / 4)) / 2 + 0.2)
    assert rates(config, [0, 25, 50, 100, 200]) == pytest.approx([0.1, at_25, 0.06, 0.02, 0.02])


def test_cosine_after_a_warmup_ends_at_the_same_step():
    config = OptimizerConfig(learning_rate=0.1, schedule="cosine", warmup_steps=20)
    # The half of its way is at 20 + 40.
    assert rates(config, [10, 20, 60, 100]) == pytest.approx([0.05, 0.1, 0.05, 0], abs=1e-8)


def test_a_warmup_longer_than_the_run_has_no_cosine_of_no_steps():
    config = OptimizerConfig(learning_rate=0.1, schedule="cosine", warmup_steps=200)
    assert rates(config, [100]) == pytest.approx([0.05])


def tree(seed, rows=ROWS):
    """{"model", "items"} of normal numbers."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    items = ItemTable(draw(rows, WIDTH), draw(rows, WIDTH), draw(rows))
    return {"model": {"w": draw(2, 2)}, "items": items}


def optimizer(config=CONSTANT, rows=True):
    return Optimizer(config, learning_rate_schedule(config, 100, 10), rows)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _update(config, rows, grads, state, params, distinct_u, finite):
    return optimizer(config, rows).update(grads, state, params, distinct_u, finite)


def update(grads, state, params, distinct_u=None, config=CONSTANT, rows=True, finite=True):
    return _update(config, rows, grads, state, params, distinct_u, jnp.asarray(finite))


def test_with_every_row_touched_each_step_is_adam():
    config = OptimizerConfig(learning_rate=0.1, schedule="cosine", warmup_steps=1)
    every_u = jnp.arange(ROWS)  # Row 0 is padding: it is never written.
    params = expected = tree(0)
    state = optimizer(config).init(params)
    adam = optax.adam(learning_rate_schedule(config, 100, 10))
    adam_state = adam.init(expected)
    adam_update = jax.jit(adam.update)
    for step in range(4):
        grads = tree(step + 1)
        params, state = update(grads, state, params, every_u, config)
        updates, adam_state = adam_update(grads, adam_state)
        expected = optax.apply_updates(expected, updates)
    np.testing.assert_allclose(params["model"]["w"], expected["model"]["w"], rtol=1e-4, atol=1e-6)
    for got, wanted, fresh in zip(
        params["items"], expected["items"], tree(0)["items"], strict=True
    ):
        np.testing.assert_allclose(got[1:], wanted[1:], rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(got[0], fresh[0])


def test_a_first_step_moves_a_row_by_the_learning_rate():
    """Adam's first step is lr * g / |g|, whatever the size of g; by hand for one entry."""
    params = tree(0)
    grads = tree(1, rows=3)
    distinct_u = jnp.array([0, 1, 5])
    moved, state = update(grads, optimizer().init(params), params, distinct_u)
    gradient = np.asarray(grads["items"].input_vd)
    np.testing.assert_allclose(
        moved["items"].input_vd[5], params["items"].input_vd[5] - 0.1 * np.sign(gradient[2]),
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip
    np.testing.assert_allclose(state["adam"].mu["items"].input_vd[5], 0.1 * gradient[2], rtol=1e-5)
    np.testing.assert_allclose(
        state["adam"].nu["items"].input_vd[5], 0.001 * gradient[2] ** 2, rtol=1e-4
    )


def test_untouched_rows_and_their_moments_keep_every_bit():
    params = tree(0)
    state = optimizer().init(params)
    touched = np.array([1, 3, 7])
    # Padding fills up distinct_u; gradients at those entries must have no effect.
    distinct_u = jnp.array([0, 1, 3, 7, 0, 0])
    others = np.setdiff1d(np.arange(ROWS), touched)
    params, state = update(tree(5), state, params, jnp.arange(ROWS))
    for step in (1, 2):
        moved, new_state = update(tree(step, rows=6), state, params, distinct_u)
        for before, after in (
            (params["items"], moved["items"]),
            (state["adam"].mu["items"], new_state["adam"].mu["items"]),
            (state["adam"].nu["items"], new_state["adam"].nu["items"]),
        ):
            for old, new in zip(before, after, strict=True):
                np.testing.assert_array_equal(new[others], old[others])
                assert (np.asarray(new[touched]) != np.asarray(old[touched])).all()
        params, state = moved, new_state
    np.testing.assert_array_equal(state["adam"].mu["items"].input_vd[0], 0)


@pytest.mark.parametrize("clip_norm, scale", [(1.0, 1 / 13), (26.0, 1), (0.0, 1)])
@pytest.mark.parametrize("rows", [True, False])
def test_clipping_counts_the_model_and_the_touched_rows(clip_norm, scale, rows):
    """Norms 3 and (4, 12): 13 in all. The first moment shows the gradient after clipping."""
    config = OptimizerConfig(schedule="constant", clip_norm=clip_norm)
    params = jax.tree.map(jnp.zeros_like, tree(0))
    grads = jax.tree.map(jnp.zeros_like, tree(0, rows=4 if rows else ROWS))
    items = grads["items"]
    place = 2 if rows else 6
    grads = {
        "model": {"w": grads["model"]["w"].at[0, 0].set(3.0)},
        "items": items._replace(
            input_vd=items.input_vd.at[place, 0].set(4.0), bias_v=items.bias_v.at[place].set(12.0)
        ),
    }
    distinct_u = jnp.array([0, 1, 6, 0]) if rows else None
    fresh = optimizer(config, rows).init(params)
    _, state = update(grads, fresh, params, distinct_u, config, rows)
    of_model, of_items = state["adam"].mu["model"]["w"], state["adam"].mu["items"]
    assert of_model[0, 0] == pytest.approx(0.1 * 3 * scale, rel=1e-5)
    assert of_items.input_vd[6, 0] == pytest.approx(0.1 * 4 * scale, rel=1e-5)
    assert of_items.bias_v[6] == pytest.approx(0.1 * 12 * scale, rel=1e-5)


def test_dense_mode_is_adam_over_everything():
    params, grads = tree(0), tree(1)
    dense = optimizer(rows=False)
    moved, _ = update(grads, dense.init(params), params, None, CONSTANT, False)
    expected = jax.tree.map(lambda p, g: p - 0.1 * np.sign(g), params, grads)
    jax.tree.map(
        lambda got, wanted: np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6),
        moved,
        expected,
    )


def test_dense_mode_is_adam_at_every_step():
    config = OptimizerConfig(learning_rate=0.1, schedule="cosine", warmup_steps=2)
    params = expected = tree(0)
    state = optimizer(config, rows=False).init(params)
    adam = optax.adam(learning_rate_schedule(config, 100, 10))
    adam_state, adam_update = adam.init(params), jax.jit(adam.update)
    for step in range(6):
        params, state = update(tree(step + 1), state, params, None, config, False)
        updates, adam_state = adam_update(tree(step + 1), adam_state)
        expected = optax.apply_updates(expected, updates)
        jax.tree.map(
            lambda got, wanted: np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7),
            (params, state["adam"], state["learning_rate"]),
            (expected, *adam_state),
        )


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_moves_nothing_but_the_count(rows, value):
    distinct_u = jnp.arange(ROWS) if rows else None
    params, state = update(
        tree(1), optimizer(rows=rows).init(tree(0)), tree(0), distinct_u, rows=rows
    )
    bad = jax.tree.map(lambda g: g.at[-1].set(value), tree(2))
    got, after = update(bad, state, params, distinct_u, rows=rows, finite=False)
    jax.tree.map(np.testing.assert_array_equal, got, params)
    for before, now in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(now, before + (before.dtype == jnp.int32))
    # The following step is the one that it would have been.
    moved, _ = update(tree(3), after, got, distinct_u, rows=rows)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(moved))
    assert (np.asarray(moved["model"]["w"]) != params["model"]["w"]).any()


def decayed(config):
    """Optax's AdamW, with this file's parameters and schedule; biases are not decayed."""
    decays = {"model": {"w": True}, "items": ItemTable(True, True, False)}
    schedule = learning_rate_schedule(config, 100, 10)
    return optax.adamw(schedule, weight_decay=config.weight_decay, mask=decays)


def test_weight_decay_is_that_of_adamw():
    config = OptimizerConfig(learning_rate=0.1, schedule="cosine", weight_decay=0.3)
    params = expected = tree(0)
    state = optimizer(config, rows=False).init(params)
    adamw = decayed(config)
    adamw_state, adamw_update = adamw.init(params), jax.jit(adamw.update)
    for step in range(4):
        params, state = update(tree(step + 1), state, params, None, config, False)
        updates, adamw_state = adamw_update(tree(step + 1), adamw_state, expected)
        expected = optax.apply_updates(expected, updates)
    jax.tree.map(
        lambda got, wanted: np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7),
        params,
        expected,
    )


def test_weight_decay_reaches_the_rows_of_the_batch_alone():
    """Without a gradient a weight becomes 1 - learning rate * decay of it."""
    config = OptimizerConfig(learning_rate=0.1, schedule="constant", weight_decay=0.5)
    params, distinct_u = tree(0), jnp.array([0, 1, 5, 0])
    grads = jax.tree.map(jnp.zeros_like, tree(0, rows=4))
    moved, _ = update(grads, optimizer(config).init(params), params, distinct_u, config)
    share = np.ones((ROWS, 1))
    share[[1, 5]] = 0.95
    items = params["items"]
    np.testing.assert_allclose(moved["model"]["w"], 0.95 * params["model"]["w"], rtol=1e-6)
    np.testing.assert_allclose(moved["items"].input_vd, share * items.input_vd, rtol=1e-6)
    np.testing.assert_allclose(moved["items"].output_vd, share * items.output_vd, rtol=1e-6)
    np.testing.assert_array_equal(moved["items"].bias_v, items.bias_v)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_weight_decay_leaves_biases_norms_and_starts_alone(name):
    settings = {"item_dim": 4, "projection_dim": 2, "gap_decay": "learned"}
    model = build(model_config(name=name, **settings, **NEEDED.get(name, {})))
    probe = padding_batch(Bucket(1, 1, 1)).with_embeddings(jnp.zeros((1, 4)))
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), probe, model.init_carry(1)))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), params["params"])
    ones = jax.tree.map(jnp.ones_like, zeros)
    decay = add_decay(1.0)
    updates, _ = decay.update(zeros, decay.init(ones), ones)
    for path, change in jax.tree_util.tree_leaves_with_path(updates):
        is_weight = path[-1].key in ("kernel", "recurrent", "age")
        assert (np.asarray(change) == is_weight).all(), path


def test_lazy_rows_take_any_transformation():
    """optax.trace: a row's trace decays only in steps that touch it."""
    lazy = lazy_rows(optax.trace(decay=0.5))
    table = ItemTable(jnp.zeros((4, 1)), None, None)
    state = lazy.init(table)
    for step, rows in enumerate([[1, 3], [1, 2], [3, 0]]):
        grads = ItemTable(jnp.full((2, 1), step + 1.0), None, None)
        updates, state = lazy.update(grads, state, distinct_u=jnp.array(rows))
    # Row 1: 1, then 2 + 1/2; row 2: 2; row 3: 1, then 3 + 1/2; row 0 is padding.
    np.testing.assert_array_equal(state.trace.input_vd[:, 0], [0, 2.5, 2, 3.5])
    np.testing.assert_array_equal(updates.input_vd[:, 0], [3.5, 3])


def test_lazy_rows_require_distinct_u():
    params = tree(0)
    with pytest.raises(ValueError, match="distinct_u: an optimizer of rows needs the rows"):
        update(tree(1), optimizer().init(params), params, None)
