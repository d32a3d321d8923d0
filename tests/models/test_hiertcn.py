"""HierTCN: causality, resets, chunks, padding and lanes, compared with plain NumPy loops."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.batch import Bucket
from hiertcn_jax.models import build, model_config
from hiertcn_jax.models.flat_tcn import FlatTCNConfig
from hiertcn_jax.models.hiertcn import HierTCNConfig
from tests.models.plain_hiertcn import predictions
from tests.packing import pack
from tests.volume import mostly_thorough

ITEMS = 12
SMALL = HierTCNConfig(item_dim=6, gru_dim=5, tcn_channels=(4, 4), kernel_size=2, unknown_rate=0.0)


def random_users(rng, users, most_sessions=5, most_events=6):
    """Users as lists of (gap_hours, item ids); items 1 (unknown) .. ITEMS - 1."""
    return [
        [
            (
                float(rng.uniform(0, 100)) if number else 0.0,
                rng.integers(1, ITEMS, rng.integers(1, most_events + 1)).tolist(),
            )
            for number in range(rng.integers(1, most_sessions + 1))
        ]
        for _ in range(users)
    ]


@functools.cache
def random_params(config):
    """The model, and parameters that are all moved away from their initial zeros."""
    model, rng = build(config), np.random.default_rng(0)
    table_vd = rng.normal(size=(ITEMS, config.item_dim)).astype(np.float32)
    batch = pack([[[(0.0, [2])]]], Bucket(1, 2, 1))[0][0].with_embeddings(table_vd)
    init = jax.jit(lambda key: model.init(key, batch, model.init_carry(1))["params"])
    params = jax.tree.map(
        lambda x: np.asarray(x) + 0.3 * rng.normal(size=x.shape).astype(x.dtype),
        init(jax.random.key(1)),
    )
    return model, params, table_vd


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, batch, carry):
    return model.apply({"params": params}, batch, carry)


def run(model, params, table_vd, batches):
    """Outputs of each batch, and the carry after the last."""
    carry = model.init_carry(batches[0].item_ids_bl.shape[0])
    outputs = []
    for batch in batches:
        u_bld, carry = apply(model, params, batch.with_embeddings(table_vd), carry)
        outputs.append(np.asarray(u_bld))
    return outputs, carry


def by_lane(outputs, places):
    return [np.array([outputs[i][lane, j] for i, j in where]) for lane, where in enumerate(places)]


def run_lanes(model, params, table_vd, lanes, bucket):
    """For each lane the predictions at its events in order."""
    batches, places = pack(lanes, bucket)
    return by_lane(run(model, params, table_vd, batches)[0], places)


OPTIONS = {
    "default": {},
    "two_layers": {"gru_layers": 2},
    "max": {"pooling": "max"},
    "last": {"pooling": "last"},
    "fixed_decay": {"gap_decay": "fixed", "gap_decay_hours": 50.0},
    "learned_decay": {"gap_decay": "learned", "gap_decay_hours": 50.0, "gru_layers": 2},
    "projection": {"projection_dim": 7, "pooling": "max"},
    "two_convs": {"convs_per_block": 2, "kernel_size": 3},
    "no_residual": {"residual": False},
    "gated": {"gated": True, "convs_per_block": 2, "session_progress": True},
    "widening": {"tcn_channels": (3, 5, 4), "dilation_base": 3},
    "kernel_1": {"kernel_size": 1},
    "normalized": {"normalize": "prediction", "temperature": 0.5},
    "no_gru": {"name": "tcn_session"},
}


ROWS, WHOLE = Bucket(3, 4, 2), Bucket(3, 40, 20)


@pytest.mark.parametrize(
    "option, bucket",
    mostly_thorough(
        itertools.product(OPTIONS, (ROWS, WHOLE)),
        *((option, ROWS) for option in OPTIONS),
        ("default", WHOLE),
    ),
    ids=str,
)
def test_chunks_equal_a_plain_loop_over_events(option, bucket):
    config = model_config(**(SMALL.to_dict() | OPTIONS[option]))
    model, params, table_vd = random_params(config)
    users = random_users(np.random.default_rng(1), 6)
    lanes = [users[:2], users[2:3], users[3:]]

    got = run_lanes(model, params, table_vd, lanes, bucket)

    for lane, lane_users in enumerate(lanes):
        expected = [
            predictions(
                params,
                config,
                table_vd,
                [items for _, items in user],
                [gap for gap, _ in user],
                long_term=config.name == "hiertcn",
            )
            for user in lane_users
        ]
        np.testing.assert_allclose(got[lane], np.concatenate(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("option", ["default", "two_layers", "max", "two_convs", "learned_decay"])
def test_later_events_change_no_earlier_bit(option):
    config = model_config(**(SMALL.to_dict() | OPTIONS[option]))
    model, params, table_vd = random_params(config)
    rng = np.random.default_rng(2)
    user = random_users(rng, 1, most_sessions=6)[0]
    bucket = Bucket(1, 5, 3)
    before = run_lanes(model, params, table_vd, [[user]], bucket)[0]

    event, seen_later = 0, 0
    for m, (_, items) in enumerate(user):
        for t in range(len(items)):
            changed = [(gap, list(ids)) for gap, ids in user]
            changed[m][1][t] = 2 + (changed[m][1][t] - 1) % (ITEMS - 2)
            after = run_lanes(model, params, table_vd, [[changed]], bucket)[0]
            # The event itself is predicted from earlier events.
            np.testing.assert_array_equal(after[: event + 1], before[: event + 1])
            seen_later += not np.array_equal(after[event + 1 :], before[event + 1 :])
            event += 1
    assert event == len(before)
    assert seen_later > len(before) / 2


def test_a_session_reaches_the_next_one_and_the_state_of_the_user():
    model, params, table_vd = random_params(SMALL)
    first, second = [(0.0, [2, 3]), (5.0, [4, 5])], [(0.0, [2, 6]), (5.0, [4, 5])]
    bucket = Bucket(1, 8, 4)
    one = run_lanes(model, params, table_vd, [[first]], bucket)[0]
    other = run_lanes(model, params, table_vd, [[second]], bucket)[0]
    assert not np.allclose(one[2:], other[2:])


def test_a_user_is_untouched_by_the_users_before_in_its_lane():
    model, params, table_vd = random_params(SMALL)
    users = random_users(np.random.default_rng(3), 3)
    bucket = Bucket(1, 4, 2)
    alone = run_lanes(model, params, table_vd, [[users[2]]], bucket)[0]
    behind = run_lanes(model, params, table_vd, [users], bucket)[0]
    np.testing.assert_allclose(behind[-len(alone) :], alone, rtol=1e-5, atol=1e-6)


def test_the_order_of_lanes_changes_nothing():
    model, params, table_vd = random_params(SMALL)
    users = random_users(np.random.default_rng(4), 4)
    bucket = Bucket(4, 4, 2)
    order = [2, 0, 3, 1]
    one = run_lanes(model, params, table_vd, [[user] for user in users], bucket)
    other = run_lanes(model, params, table_vd, [[users[i]] for i in order], bucket)
    for place, lane in enumerate(order):
        np.testing.assert_allclose(other[place], one[lane], rtol=1e-5, atol=1e-6)


def test_a_row_of_padding_alone_leaves_the_carry_as_it_is():
    model, params, table_vd = random_params(dataclasses.replace(SMALL, pooling="max"))
    batches, _ = pack([random_users(np.random.default_rng(5), 1)[0:1]], Bucket(1, 5, 3))
    padding = jax.tree.map(np.zeros_like, batches[0])
    _, carry = run(model, params, table_vd, batches)
    outputs, padded = run(model, params, table_vd, [*batches, padding])
    jax.tree.map(np.testing.assert_array_equal, carry, padded)
    assert np.isfinite(outputs[-1]).all()


def test_ids_outside_the_session_never_reach_a_prediction():
    """The same session after two different histories gives one prediction, if a user starts."""
    config = FlatTCNConfig(item_dim=6, tcn_channels=(4, 4), kernel_size=2, unknown_rate=0.0)
    model, params, table_vd = random_params(config)
    bucket = Bucket(1, 6, 4)
    one = run_lanes(model, params, table_vd, [[[(0.0, [2, 3, 4]), (1.0, [5, 6])]]], bucket)[0]
    other = run_lanes(model, params, table_vd, [[[(0.0, [7, 8, 9]), (1.0, [5, 6])]]], bucket)[0]
    np.testing.assert_array_equal(one[3:], other[3:])


def test_unknown_items_are_in_no_pool():
    model, params, table_vd = random_params(SMALL)
    bucket = Bucket(1, 8, 4)
    without = run_lanes(model, params, table_vd, [[[(0.0, [2, 3]), (1.0, [5])]]], bucket)[0]
    behind = run_lanes(model, params, table_vd, [[[(0.0, [2, 3, 1]), (1.0, [5])]]], bucket)[0]
    np.testing.assert_allclose(behind[-1], without[-1], rtol=1e-6)


def test_no_gradient_flows_from_padding_or_into_it():
    model, params, table_vd = random_params(SMALL)
    batch = pack([[[(0.0, [2, 3])]], [[(0.0, [4])]]], Bucket(2, 6, 3))[0][0]

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradients(params, table_vd):
        u_bld, _ = model.apply(
            {"params": params}, batch.with_embeddings(table_vd), model.init_carry(2)
        )
        return jnp.sum(u_bld * batch.loss_weight_bl[..., None])

    grads, table_grad_vd = gradients(params, table_vd)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    np.testing.assert_array_equal(table_grad_vd[0], 0)
    assert np.any(table_grad_vd[2] != 0)


def test_training_replaces_a_share_of_inputs_and_dropout_is_seeded():
    config = dataclasses.replace(SMALL, unknown_rate=0.5, dropout=0.5)
    model, params, table_vd = random_params(config)
    batch = pack([[[(0.0, [2, 3, 4, 5])]]], Bucket(1, 4, 1))[0][0].with_embeddings(table_vd)

    @jax.jit
    def apply_in_training(params, seed):
        rngs = {"dropout": jax.random.key(seed), "unknown": jax.random.key(seed + 1)}
        carry = model.init_carry(1)
        return model.apply({"params": params}, batch, carry, train=True, rngs=rngs)[0]

    train = functools.partial(apply_in_training, params)
    np.testing.assert_array_equal(train(0), train(0))
    assert not np.array_equal(train(0), train(5))


def test_bfloat16_is_near_float32_and_returns_float32():
    model, params, table_vd = random_params(SMALL)
    low, _, _ = random_params(dataclasses.replace(SMALL, dtype="bfloat16"))
    users = random_users(np.random.default_rng(6), 1)
    exact = run_lanes(model, params, table_vd, [users], Bucket(1, 6, 3))[0]
    rough = run_lanes(low, params, table_vd, [users], Bucket(1, 6, 3))[0]
    assert rough.dtype == np.float32
    assert np.corrcoef(exact.ravel(), rough.ravel())[0, 1] > 0.99
