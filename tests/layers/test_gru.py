"""SessionGRU compared with flax's GRU cell; holds, resets, independent lanes, and the decay."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.layers.gru import SessionGRU
from hiertcn_jax.layers.gru_scan import Slots, Weights, gru_scan
from hiertcn_jax.models.hiertcn import HierTCNConfig

LANES, SLOTS, WIDTH, FEATURES = 3, 5, 4, 3
CONFIG = HierTCNConfig(gru_dim=FEATURES, gru_layers=2)
LEARNED = dataclasses.replace(CONFIG, gap_decay="learned", gap_decay_hours=10.0)


@functools.partial(jax.jit, static_argnums=0)
def apply(config, params, *arrays):
    return SessionGRU(config).apply({"params": params}, *arrays)


@functools.cache
def random_params(config):
    """Parameters moved away from their initial zeros; tau keeps the config's value."""
    shapes = jax.eval_shape(SessionGRU(config).init, jax.random.key(0), *arrays_of().values())
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), shapes["params"]
    )
    if config.gap_decay == "learned":
        params["log_tau_hours"] = jnp.log(jnp.float32(config.gap_decay_hours))
    return params


def arrays_of(seed=0, **changes):
    """Inputs of three lanes: all sessions start; a user starts; some slots start nothing."""
    rng = np.random.default_rng(seed)
    starts_bs = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [0, 1, 0, 1, 0]], bool)
    arrays = {
        "state_bh": rng.normal(size=(LANES, CONFIG.gru_layers * FEATURES)),
        "pooled_bsd": rng.normal(size=(LANES, SLOTS, WIDTH)),
        "starts_session_bs": starts_bs,
        "starts_user_bs": np.array([[0] * 5, [0, 0, 1, 0, 0], [0, 1, 0, 0, 0]], bool),
        "gap_hours_bs": starts_bs * rng.uniform(1, 20, (LANES, SLOTS)),
    } | changes
    arrays["gap_hours_bs"] = np.where(arrays["starts_user_bs"], 0, arrays["gap_hours_bs"])
    return {
        name: jnp.asarray(x, jnp.float32 if x.dtype == float else x.dtype)
        for name, x in arrays.items()
    }


def run(config, arrays, params=None):
    """(state after the row, state in each slot) as numpy."""
    params = random_params(config) if params is None else params
    return jax.device_get(apply(config, params, *arrays.values()))


def flax_cell_params(layer):
    """Parameters of one of our layers as those of nn.GRUCell."""
    names = ("r", "z", "n")
    kernels = jnp.split(layer["input"]["kernel"], 3, axis=1)
    biases = jnp.split(layer["input"]["bias"], 3)
    recurrent = jnp.split(layer["recurrent"], 3, axis=1)
    cell = {f"h{name}": {"kernel": w} for name, w in zip(names, recurrent, strict=True)}
    for name, kernel, bias in zip(names, kernels, biases, strict=True):
        cell[f"i{name}"] = {"kernel": kernel, "bias": bias}
    cell["hn"]["bias"] = layer["candidate_bias"]
    return cell


@pytest.mark.parametrize("gap_decay", ["none", "fixed", "learned"])
def test_equals_a_loop_of_flax_gru_cells_over_the_slots(gap_decay):
    config = dataclasses.replace(CONFIG, gap_decay=gap_decay, gap_decay_hours=10.0)
    params, arrays = random_params(config), arrays_of()
    last_bh, held_bsh = run(config, arrays, params)

    cell = nn.GRUCell(FEATURES)
    for lane in range(LANES):
        states = jnp.split(arrays["state_bh"][lane], config.gru_layers)
        for slot in range(SLOTS):
            if arrays["starts_session_bs"][lane, slot]:
                gap = float(arrays["gap_hours_bs"][lane, slot])
                decay = 1.0 if gap_decay == "none" else np.exp(-gap / 10.0)
                inputs = arrays["pooled_bsd"][lane, slot]
                for number, state in enumerate(states):
                    layer = params[f"layer_{number}"]
                    if arrays["starts_user_bs"][lane, slot]:
                        inputs = layer["start_state"]
                    else:
                        cell_params = {"params": flax_cell_params(layer)}
                        inputs = cell.apply(cell_params, state, inputs)[0]
                    states[number] = inputs * decay
            np.testing.assert_allclose(held_bsh[lane, slot], np.concatenate(states), atol=1e-6)
        np.testing.assert_array_equal(last_bh[lane], held_bsh[lane, -1])


def test_slots_that_start_nothing_hold_the_state_bit_for_bit():
    nothing = np.zeros((LANES, SLOTS), bool)
    arrays = arrays_of(starts_session_bs=nothing, starts_user_bs=nothing)
    last_bh, held_bsh = run(LEARNED, arrays)
    np.testing.assert_array_equal(last_bh, arrays["state_bh"])
    np.testing.assert_array_equal(
        held_bsh, np.broadcast_to(arrays["state_bh"][:, None], held_bsh.shape)
    )

    _, held_bsh = run(LEARNED, arrays_of())
    starts_bs = arrays_of()["starts_session_bs"]
    before_bsh = np.concatenate([arrays_of()["state_bh"][:, None], held_bsh[:, :-1]], axis=1)
    np.testing.assert_array_equal((held_bsh == before_bsh).all(-1), ~starts_bs)


def test_a_user_starts_afresh_whoever_came_before():
    slot = 2
    starts_user_bs = np.zeros((LANES, SLOTS), bool)
    starts_user_bs[:, slot] = True
    changes = {
        "starts_user_bs": starts_user_bs,
        "starts_session_bs": np.ones((LANES, SLOTS), bool),
        "gap_hours_bs": np.full((LANES, SLOTS), 3.0),
    }
    one, other = arrays_of(0, **changes), arrays_of(1, **changes)
    # The same user after others: all sessions but the very first read its inputs.
    after = one["pooled_bsd"][:, slot + 1 :]
    other["pooled_bsd"] = other["pooled_bsd"].at[:, slot + 1 :].set(after)
    _, held_bsh = run(LEARNED, one)
    _, other_bsh = run(LEARNED, other)
    np.testing.assert_array_equal(other_bsh[:, slot:], held_bsh[:, slot:])
    assert (other_bsh[:, :slot] != held_bsh[:, :slot]).all()

    params = random_params(LEARNED)
    start = np.concatenate([params[f"layer_{layer}"]["start_state"] for layer in range(2)])
    np.testing.assert_array_equal(held_bsh[:, slot], np.tile(start, (LANES, 1)))


def test_lanes_do_not_touch_each_other():
    one, other = arrays_of(0), arrays_of(1)
    mixed = {name: x.at[0].set(other[name][0]) for name, x in one.items()}
    last_bh, held_bsh = run(LEARNED, one)
    mixed_last_bh, mixed_bsh = run(LEARNED, mixed)
    np.testing.assert_array_equal(mixed_bsh[1:], held_bsh[1:])
    np.testing.assert_array_equal(mixed_last_bh[1:], last_bh[1:])
    assert (mixed_bsh[0] != held_bsh[0]).any()


def test_a_gap_of_tau_ln_2_halves_the_state_and_no_gap_leaves_it():
    starts_bs = np.zeros((LANES, SLOTS), bool)
    starts_bs[:, 0] = True
    shared = {"starts_session_bs": starts_bs, "starts_user_bs": np.zeros((LANES, SLOTS), bool)}
    gap = arrays_of(gap_hours_bs=np.full((LANES, SLOTS), 10.0 * np.log(2)), **shared)
    no_gap = arrays_of(gap_hours_bs=np.zeros((LANES, SLOTS)), **shared)
    plain_bh, _ = run(CONFIG, gap)

    for decay in ("fixed", "learned"):
        config = dataclasses.replace(CONFIG, gap_decay=decay, gap_decay_hours=10.0)
        np.testing.assert_allclose(run(config, gap)[0], plain_bh / 2, rtol=1e-5)
        np.testing.assert_allclose(run(config, no_gap)[0], plain_bh, rtol=1e-6)
    np.testing.assert_array_equal(run(CONFIG, no_gap)[0], plain_bh)


@functools.partial(jax.jit, static_argnums=0)
def gradient(config, params, *arrays):
    def total(params):
        return jnp.sum(SessionGRU(config).apply({"params": params}, *arrays)[0])

    return jax.grad(total)(params)


def test_the_gradient_reaches_tau_and_the_start_state_where_they_matter():
    starts = {"starts_session_bs": np.ones((LANES, SLOTS), bool)}
    no_user = np.zeros((LANES, SLOTS), bool)
    with_user = no_user.copy()
    with_user[1, 2] = True
    gap, no_gap = np.full((LANES, SLOTS), 3.0), np.zeros((LANES, SLOTS))

    def of(**changes):
        arrays = arrays_of(**starts, **changes)
        return jax.device_get(gradient(LEARNED, random_params(LEARNED), *arrays.values()))

    with_both = of(starts_user_bs=with_user, gap_hours_bs=gap)
    assert with_both["log_tau_hours"] != 0
    assert all((with_both[f"layer_{layer}"]["start_state"] != 0).all() for layer in range(2))
    with_neither = of(starts_user_bs=no_user, gap_hours_bs=no_gap)
    assert with_neither["log_tau_hours"] == 0
    assert all((with_neither[f"layer_{layer}"]["start_state"] == 0).all() for layer in range(2))


def plain_scan(state_bh, slots, weights):
    """The equations of `gru_scan` in a Python loop, whose gradient JAX makes by itself."""
    held, new = [], []
    for slot in range(SLOTS):
        x_r, x_z, x_n = jnp.split(slots.gates_bsg[:, slot], 3, axis=-1)
        w_r, w_z, w_n = jnp.split(state_bh @ weights.recurrent_hg, 3, axis=-1)
        r, z = nn.sigmoid(x_r + w_r), nn.sigmoid(x_z + w_z)
        n = nn.tanh(x_n + r * (w_n + weights.candidate_bias_h))
        stepped_bh = (1 - z) * n + z * state_bh
        starts_user_b1 = slots.starts_user_bs[:, slot, None]
        new.append(jnp.where(starts_user_b1, weights.start_h, stepped_bh))
        decayed_bh = new[-1] * slots.decay_bs[:, slot, None]
        state_bh = jnp.where(slots.starts_session_bs[:, slot, None], decayed_bh, state_bh)
        held.append(state_bh)
    return state_bh, jnp.stack(held, 1), jnp.stack(new, 1)


def test_the_scan_and_its_gradient_equal_a_plain_loop():
    rng = np.random.default_rng(2)
    arrays = arrays_of()

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    state_bh = normal(LANES, FEATURES)
    gates_bsg, decay_bs = normal(LANES, SLOTS, 3 * FEATURES), jnp.exp(-(normal(LANES, SLOTS) ** 2))
    starts = arrays["starts_session_bs"], arrays["starts_user_bs"]
    weights = Weights(normal(FEATURES, 3 * FEATURES), normal(FEATURES), normal(FEATURES))
    # Every output counts, with a different weight each, also where no session starts.
    factors = normal(LANES, FEATURES), *(normal(LANES, SLOTS, FEATURES) for _ in range(2))

    def total(scan, state_bh, gates_bsg, decay_bs, weights):
        outputs = scan(state_bh, Slots(gates_bsg, *starts, decay_bs), weights)
        return sum(jnp.sum(f * x) for f, x in zip(factors, outputs, strict=True)), outputs

    def of(scan):
        gradient = jax.value_and_grad(functools.partial(total, scan), (0, 1, 2, 3), has_aux=True)
        return jax.jit(gradient)(state_bh, gates_bsg, decay_bs, weights)

    ours, plain = of(lambda *arguments: gru_scan(*arguments, jnp.dtype("float32"))), of(plain_scan)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        assert np.abs(other).max() > 0.01
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_bfloat16_keeps_the_state_in_float32():
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    last_bh, held_bsh = run(config, arrays_of(), random_params(CONFIG))
    assert last_bh.dtype == held_bsh.dtype == np.float32
    np.testing.assert_allclose(last_bh, run(CONFIG, arrays_of())[0], atol=0.1)
