"""Event by event, `predict` and `observe` equal the batched call, for every model and option."""

import functools

import jax
import numpy as np
import pytest

from hiertcn_jax.batch import Bucket, NextEvent, padding_batch
from hiertcn_jax.models import MODELS, build
from tests.models.options import ITEMS, OPTIONS, config_of
from tests.packing import pack
from tests.volume import mostly_thorough

LANES = 3
WHOLE = Bucket(LANES, 40, 20)
ROWS = Bucket(LANES, 5, 2)
EVENT = Bucket(LANES, 1, 1)


def lanes_of_users():
    """Lanes of several users, of unequal length; items 1 (unknown) .. ITEMS - 1."""
    rng = np.random.default_rng(1)
    users = [
        [
            (
                float(np.float32(rng.uniform(0, 100))) if number else 0.0,
                rng.integers(1, ITEMS, rng.integers(1, 6)).tolist(),
            )
            for number in range(rng.integers(1, 5))
        ]
        for _ in range(6)
    ]
    return [users[:2], users[2:3], users[3:]]


@functools.cache
def setup(config):
    """The model with random parameters, all away from their initial zeros, and an item table."""
    model, rng = build(config), np.random.default_rng(0)
    table_vd = rng.normal(size=(ITEMS, config.item_dim)).astype(np.float32)
    batch = padding_batch(EVENT).with_embeddings(table_vd)
    shapes = jax.eval_shape(
        lambda key: model.init(key, batch, model.init_carry(LANES)), jax.random.key(0)
    )
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(leaf.dtype), shapes["params"]
    )
    return model, params, table_vd


@functools.partial(jax.jit, static_argnums=(0, 1))
def apply(model, method, params, *arguments):
    return model.apply({"params": params}, *arguments, method=method)


def next_event(batch):
    """What is known of each lane's event in a batch of `EVENT`."""
    return NextEvent(
        batch.position_bl[:, 0],
        batch.user_position_bl[:, 0],
        batch.seconds_bl[:, 0],
        batch.gap_hours_bs[:, 0],
    )


@pytest.mark.parametrize(
    "option",
    mostly_thorough(
        OPTIONS,
        *MODELS,
        "hiertcn_many",
        "hiertcn_others",
        "hiergru_many",
        "sasrec_narrow",
        "hstu_narrow",
    ),
)
def test_predicting_and_observing_each_event_equals_the_batched_call(option):
    model, params, table_vd = setup(config_of(option))
    lanes = lanes_of_users()
    (batch,), places = pack(lanes, WHOLE)
    u_bld, carry_of_call = apply(
        model, "__call__", params, batch.with_embeddings(table_vd), model.init_carry(LANES)
    )

    carry, predicted = model.init_carry(LANES), []
    for event in pack(lanes, EVENT)[0]:
        predicted.append(apply(model, "predict", params, next_event(event), carry))
        carry = apply(model, "observe", params, event.with_embeddings(table_vd), carry)

    for lane, where in enumerate(places):
        expected = np.array([u_bld[lane, place] for _, place in where])
        got = np.array([u_bd[lane] for u_bd in predicted[: len(where)]])
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert_close(carry, carry_of_call)


@pytest.mark.parametrize("option", mostly_thorough(MODELS, "hiertcn", "hiergru", "hstu"))
def test_a_history_observed_in_rows_or_at_once_gives_one_state(option):
    model, params, table_vd = setup(config_of(option))
    states = []
    for bucket in (WHOLE, ROWS):
        carry = model.init_carry(LANES)
        for batch in pack(lanes_of_users(), bucket)[0]:
            carry = apply(model, "observe", params, batch.with_embeddings(table_vd), carry)
        states.append(carry)
    assert_close(*states)


def assert_close(one, other):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), one, other)
