"""Pooling: parts of a session combine to the whole, whatever the cut; nothing pools to 0."""

import functools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiertcn_jax.layers import masking, pooling
from hiertcn_jax.layers.pooling import Pooling

EVENTS, SESSIONS, WIDTH = 7, 2, 3


@functools.partial(jax.jit, static_argnums=0)
def of_slots(kind, inputs_blc, session_bl, known_bl):
    members = masking.session_members(session_bl, known_bl, SESSIONS)
    return pooling.pool_slots(kind, inputs_blc, members)


combine = jax.jit(pooling.combine, static_argnums=0)
pooled = jax.jit(pooling.pooled, static_argnums=0)

PLAIN = {
    "mean": lambda vectors: np.mean(vectors, axis=0),
    "max": lambda vectors: np.max(vectors, axis=0),
    "last": lambda vectors: vectors[-1],
}


def plain(kind, vectors):
    return PLAIN[kind](vectors) if len(vectors) else np.zeros(WIDTH)


@pytest.mark.parametrize("kind", get_args(Pooling))
@given(
    seed=st.integers(0, 1000),
    known=st.lists(st.booleans(), min_size=EVENTS, max_size=EVENTS),
    cuts=st.lists(st.integers(0, EVENTS), max_size=3).map(sorted),
)
def test_parts_combine_to_the_whole_whatever_the_cuts(kind, seed, known, cuts):
    # All are below 0, so a maximum that starts from 0 would show.
    inputs_blc = -np.random.default_rng(seed).uniform(1, 2, (1, EVENTS, WIDTH)).astype(np.float32)
    session_bl = np.zeros((1, EVENTS), np.int32)
    state = pooling.PoolState(jnp.zeros((1, WIDTH)), jnp.zeros(1))
    for start, end in zip([0, *cuts], [*cuts, EVENTS], strict=True):
        places = np.arange(EVENTS)
        part_bl = np.asarray(known)[None] & (start <= places) & (places < end)
        slots = of_slots(kind, inputs_blc, session_bl, part_bl)
        state = combine(kind, state, jax.tree.map(lambda x: x[:, 0], slots))
    expected = plain(kind, inputs_blc[0, np.asarray(known)])
    np.testing.assert_allclose(pooled(kind, state)[0], expected, rtol=1e-5)
    assert state.known[0] == sum(known)


@pytest.mark.parametrize("kind", get_args(Pooling))
def test_slots_by_hand(kind):
    """Events 1, 2, unknown, 3 of one session, -5, -7 of the next; nothing in the other lane."""
    values = np.array([1, 2, 100, 3, -5, -7, 50], np.float32)
    inputs_blc = np.stack([np.repeat(values[:, None], WIDTH, 1)] * 2)
    session_bl = np.array([[0, 0, 0, 0, 1, 1, 0]] * 2, np.int32)
    known_bl = np.array([[1, 1, 0, 1, 1, 1, 0], [0] * EVENTS], bool)
    slots = of_slots(kind, inputs_blc, session_bl, known_bl)
    expected = {"mean": (2, -6), "max": (3, -5), "last": (3, -7)}[kind]
    np.testing.assert_allclose(pooled(kind, slots)[..., 0], [expected, (0, 0)])
    np.testing.assert_array_equal(slots.known, [[3, 2], [0, 0]])


@pytest.mark.parametrize("kind", get_args(Pooling))
def test_combining_with_nothing_changes_no_bit(kind):
    nothing = pooling.PoolState(jnp.zeros((2, WIDTH)), jnp.zeros(2))
    some = pooling.PoolState(jnp.array([[-1.0, 0.0, 3.0], [0.1, 0.2, 0.3]]), jnp.array([2.0, 7.0]))
    for state in (combine(kind, nothing, some), combine(kind, some, nothing)):
        jax.tree.map(np.testing.assert_array_equal, state, some)
    np.testing.assert_array_equal(pooled(kind, combine(kind, nothing, nothing)), 0)
