"""TCN: receptive field, taps masked at a session's start, rows that continue rows."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.layers.tcn import TCN, CausalConv, init_tails, kept_tail, receptive_field
from hiertcn_jax.models.hiertcn import HierTCNConfig

SMALL = HierTCNConfig(tcn_channels=(2, 2), kernel_size=3)


def full_row(lanes, length):
    """Positions and counts of rows that one session fills."""
    return jnp.tile(jnp.arange(length), (lanes, 1)), jnp.full(lanes, length)


@functools.partial(jax.jit, static_argnums=0)
def apply(config, params, inputs_blc, tails, position_bl, events_b):
    return TCN(config).apply({"params": params}, inputs_blc, tails, position_bl, events_b)


def random_params(config, seed=0):
    lengths = jnp.zeros((1, 1, config.tcn_channels[0])), init_tails(config, 1), *full_row(1, 1)
    shapes = jax.eval_shape(TCN(config).init, jax.random.key(0), *lengths)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), shapes)


@pytest.mark.parametrize(
    "convs_per_block, kernel_size, dilation_base, blocks, expected",
    [
        (1, 5, 2, 2, 13),  # 1 + 4 * (1 + 2): the released settings.
        (2, 5, 2, 2, 25),  # 1 + 2 * 4 * (1 + 2): what their comment says.
        (1, 3, 2, 3, 15),  # 1 + 2 * (1 + 2 + 4)
        (1, 2, 3, 3, 14),  # 1 + 1 * (1 + 3 + 9), with holes in it
        (2, 2, 1, 2, 5),  # 1 + 2 * 1 * (1 + 1)
        (1, 1, 2, 2, 1),
    ],
)
def test_an_output_sees_as_far_back_as_receptive_field_says(
    convs_per_block, kernel_size, dilation_base, blocks, expected
):
    config = HierTCNConfig(
        tcn_channels=(2,) * blocks,
        kernel_size=kernel_size,
        dilation_base=dilation_base,
        convs_per_block=convs_per_block,
    )
    length = expected + 3
    # Everything is positive, so that no ReLU hides a path.
    params = jax.tree.map(jnp.abs, random_params(config))

    @jax.jit
    @jax.grad
    def influence(inputs_blc):
        tails = init_tails(config, 1)
        out_blc, _ = TCN(config).apply({"params": params}, inputs_blc, tails, *full_row(1, length))
        return jnp.sum(out_blc[0, -1])

    seen_l = np.asarray(influence(jnp.ones((1, length, 2)))[0] != 0).all(-1)
    # Each convolution goes back by one of its taps' offsets.
    taps = [
        [k * dilation_base**block for k in range(kernel_size)]
        for block in range(blocks)
        for _ in range(convs_per_block)
    ]
    back = {sum(offsets) for offsets in itertools.product(*taps)}
    assert {length - 1 - int(place) for place in np.flatnonzero(seen_l)} == back
    assert receptive_field(config) == expected == 1 + max(back)


def test_a_convolution_by_hand():
    """Ones as weights, 3 taps at dilation 2: y_t = x_t + x_{t-2} + x_{t-4} within the session."""
    conv = CausalConv(1, kernel_size=3, dilation=2, dtype=jnp.dtype("float32"))
    params = {"Dense_0": {"kernel": jnp.ones((3, 1)), "bias": jnp.zeros(1)}}
    # A session that continues from the previous row (last inputs: 1, 10, 100, 1000), then another.
    tail_btc = 10.0 ** jnp.arange(4)[None, :, None]
    inputs_blc = jnp.array([2.0, 3, 5, 7, 11, 13])[None, :, None]
    position_bl = jnp.array([[3, 4, 0, 1, 2, 0]])
    out_blf, new_tail_btc = conv.apply(
        {"params": params}, inputs_blc, tail_btc, position_bl, jnp.array([5])
    )
    expected = [2 + 100, 3 + 1000 + 10, 5, 7, 11 + 5, 13]
    np.testing.assert_array_equal(out_blf[0, :, 0], expected)
    # 5 of the 6 slots hold events: the tail is the 4 inputs before that.
    np.testing.assert_array_equal(new_tail_btc[0, :, 0], [3, 5, 7, 11])


def test_kept_tail_takes_the_last_inputs_of_each_lane():
    joined_bmc = jnp.arange(10.0).reshape(2, 5, 1)  # A tail of 2 each, then a row of 3.
    tail_btc = kept_tail(joined_bmc, jnp.array([0, 2]), 2)
    np.testing.assert_array_equal(tail_btc[..., 0], [[0, 1], [7, 8]])
    assert kept_tail(joined_bmc, jnp.array([0, 2]), 0).shape == (2, 0, 1)


def test_no_tap_reads_past_the_start_of_a_session():
    params = random_params(SMALL)
    rng = np.random.default_rng(0)
    length, start = 9, 4
    position_bl = jnp.array([[*range(start), *range(length - start)]] * 2)
    inputs_blc = rng.normal(size=(2, length, 2)).astype(np.float32)
    inputs_blc[1, start:] = inputs_blc[0, start:]
    tails = [rng.normal(size=x.shape).astype(np.float32) for x in init_tails(SMALL, 2)]
    events_b = jnp.full(2, length)
    out_blc, _ = apply(SMALL, params, inputs_blc, tails, position_bl, events_b)
    np.testing.assert_array_equal(out_blc[0, start:], out_blc[1, start:])
    assert (np.asarray(out_blc[0, :start]) != np.asarray(out_blc[1, :start])).any()
    # Sessions that start in this row do not read inputs kept from the previous row.
    empty_blc, _ = apply(
        SMALL, params, inputs_blc, list(init_tails(SMALL, 2)), position_bl, events_b
    )
    np.testing.assert_array_equal(empty_blc, out_blc)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"convs_per_block": 2, "tcn_channels": (2, 3)},
        {"kernel_size": 1},
        {"residual": False},
        {"gated": True, "convs_per_block": 2, "tcn_channels": (2, 3)},
    ],
    ids=str,
)
def test_rows_that_continue_each_other_equal_one_row(changes):
    config = dataclasses.replace(SMALL, **changes)
    params = random_params(config)
    rng = np.random.default_rng(0)
    cuts = [0, 4, 5, 9, 12]
    lengths = np.diff(cuts)
    inputs_blc = rng.normal(size=(1, cuts[-1], 2)).astype(np.float32)
    position_bl = np.array([[0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4]])  # Two sessions.
    whole_blc, whole_tails = apply(
        config, params, inputs_blc, init_tails(config, 1), position_bl, jnp.array([cuts[-1]])
    )

    tails, parts = init_tails(config, 1), []
    row = max(lengths)
    for start, length in zip(cuts, lengths, strict=False):
        # Rows of one shape, padded with what must not be read.
        padded_blc = np.full((1, row, 2), 1e6, np.float32)
        padded_bl = np.zeros((1, row), int)
        padded_blc[:, :length] = inputs_blc[:, start : start + length]
        padded_bl[:, :length] = position_bl[:, start : start + length]
        out_blc, tails = apply(config, params, padded_blc, tails, padded_bl, jnp.array([length]))
        parts.append(out_blc[:, :length])

    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole_blc, rtol=1e-5, atol=1e-6)
    for tail, whole in zip(tails, whole_tails, strict=True):
        np.testing.assert_allclose(tail, whole, rtol=1e-5, atol=1e-6)
