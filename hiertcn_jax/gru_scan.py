"""A GRU over the slots of a row, with a gradient whose loop holds one product and no sums.

    w_s = W h_{s-1}
    r   = sigmoid(x_r + w_r)
    z   = sigmoid(x_z + w_z)
    n   = tanh(x_n + r * (w_n + b))
    n_s = (1 - z) * n + z * h_{s-1}        start_s where a user starts
    h_s = n_s * decay_s                    h_{s-1} where no session starts

(Cho et al. 2014, in the form whose candidate gates the recurrent product.) Left to itself, the
gradient of a scan adds its share of dW in every step of the loop. Here dW is one product behind the
loop, the derivatives of the gates are made before it for all slots at once, and in between stands
only what depends on the slot after.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Slots(NamedTuple):
    """What a GRU reads in the slots of a row.

    Attributes:
      gates_bsg: The inputs' gates, r, z and n side by side: g = 3h.
      starts_session_bs: Where the state steps; it is held elsewhere.
      starts_user_bs: Where it is the start state instead of a step.
      decay_bs: What the state behind a step is multiplied by.
    """

    gates_bsg: Float[Array, "b s g"]
    starts_session_bs: Bool[Array, "b s"]
    starts_user_bs: Bool[Array, "b s"]
    decay_bs: Float[Array, "b s"]


class Weights(NamedTuple):
    """Parameters of the recurrence.

    Attributes:
      recurrent_hg: W.
      candidate_bias_h: b.
      start_h: The start state.
    """

    recurrent_hg: Float[Array, "h g"]
    candidate_bias_h: Float[Array, " h"]
    start_h: Float[Array, " h"]


class Gates(NamedTuple):
    """The gates, and the recurrent part of the candidate."""

    r: Array
    z: Array
    n: Array
    recurrent_n: Array


def gru_gates(gates: Array, state: Array, recurrent_hg: Array, bias_h: Array, dtype: Any) -> Gates:
    """The gates of a step.

    Args:
      gates: The inputs' [..., 3h].
      state: The state in front of it [..., h].
      recurrent_hg: W.
      bias_h: b.
      dtype: Type of the product's factors; its sums are float32.
    """
    product = jnp.dot(
        state.astype(dtype), recurrent_hg.astype(dtype), preferred_element_type=jnp.float32
    )
    x_r, x_z, x_n = jnp.split(gates, 3, axis=-1)
    w_r, w_z, w_n = jnp.split(product, 3, axis=-1)
    r, recurrent_n = jax.nn.sigmoid(x_r + w_r), w_n + bias_h
    return Gates(r, jax.nn.sigmoid(x_z + w_z), jnp.tanh(x_n + r * recurrent_n), recurrent_n)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def gru_scan(
    state_bh: Float[Array, "b h"], slots: Slots, weights: Weights, dtype: Any
) -> tuple[Float[Array, "b h"], Float[Array, "b s h"], Float[Array, "b s h"]]:
    """Steps through the slots: `lax.scan` over `s`.

    Args:
      state_bh: State in front of the row, float32.
      slots: The row.
      weights: The parameters.
      dtype: Type of the products' factors; everything else is float32.

    Returns:
      h behind the last slot, h in each slot, and n_s, the state in front of hold and decay.
    """
    return _steps(state_bh, slots, weights, dtype)[0]


def _steps(state_bh: Array, slots: Slots, weights: Weights, dtype: Any) -> tuple[Any, Gates]:
    """The outputs, and the gates of all slots [b, s, h]."""
    recurrent_hg, bias_h, start_h = weights

    def step(state_bh: Array, slot: Slots) -> tuple[Array, tuple[Array, Array, Gates]]:
        gates = gru_gates(slot.gates_bsg, state_bh, recurrent_hg, bias_h, dtype)
        new_bh = (1 - gates.z) * gates.n + gates.z * state_bh
        new_bh = jnp.where(slot.starts_user_bs[:, None], start_h, new_bh)
        decayed_bh = new_bh * slot.decay_bs[:, None]
        held_bh = jnp.where(slot.starts_session_bs[:, None], decayed_bh, state_bh)
        return held_bh, (held_bh, new_bh, gates)

    state_bh, kept = jax.lax.scan(step, state_bh, _slots_first(slots))
    held_bsh, new_bsh, gates = _slots_first(kept)
    return (state_bh, held_bsh, new_bsh), gates


def _slots_first(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)


def _forward(state_bh: Array, slots: Slots, weights: Weights, dtype: Any) -> tuple[Any, Any]:
    outputs, gates = _steps(state_bh, slots, weights, dtype)
    _, held_bsh, new_bsh = outputs
    before_bsh = jnp.concatenate([state_bh[:, None], held_bsh[:, :-1]], axis=1)
    return outputs, (before_bsh, new_bsh, gates, slots, weights.recurrent_hg)


def _backward(dtype: Any, kept: Any, cotangents: tuple[Array, Array, Array]) -> tuple[Any, ...]:
    before_bsh, new_bsh, (r, z, n, recurrent_n), slots, recurrent_hg = kept
    grad_state_bh, grad_held_bsh, grad_new_bsh = cotangents
    starts_bs1, user_bs1 = slots.starts_session_bs[..., None], slots.starts_user_bs[..., None]
    decay_bs1 = slots.decay_bs[..., None]

    # d n_s / d (x_r, x_z, x_n), and / d (w_r, w_z, w_n); nothing where a user starts.
    by_n = (1 - z) * (1 - n**2)
    by_r, by_z = by_n * recurrent_n * r * (1 - r), (before_bsh - n) * z * (1 - z)
    inputs_bsg = jnp.where(user_bs1, 0, jnp.concatenate([by_r, by_z, by_n], axis=-1))
    products_bsg = jnp.where(user_bs1, 0, jnp.concatenate([by_r, by_z, by_n * r], axis=-1))
    direct_bsh = jnp.where(user_bs1, 0, z)
    stepped_bs1 = jnp.where(starts_bs1, decay_bs1, 0)
    recurrent_gh = recurrent_hg.T.astype(dtype)

    def step(grad_bh: Array, slot: Any) -> tuple[Array, Array]:
        grad_held_bh, grad_new_bh, stepped_b1, held_b1, direct_bh, products_bg = slot
        grad_bh = grad_held_bh + grad_bh
        through_bh = stepped_b1 * grad_bh + grad_new_bh
        shares_bg = products_bg * jnp.tile(through_bh, 3)
        before_bh = jnp.dot(
            shares_bg.astype(dtype), recurrent_gh, preferred_element_type=jnp.float32
        )
        return held_b1 * grad_bh + through_bh * direct_bh + before_bh, grad_bh

    held_bs1 = jnp.where(starts_bs1, 0.0, 1.0)
    row = (grad_held_bsh, grad_new_bsh, stepped_bs1, held_bs1, direct_bsh, products_bsg)
    grad_state_bh, grad_sbh = jax.lax.scan(step, grad_state_bh, _slots_first(row), reverse=True)

    grad_bsh = jnp.swapaxes(grad_sbh, 0, 1)
    through_bsh = stepped_bs1 * grad_bsh + grad_new_bsh
    tiled_bsg = jnp.tile(through_bsh, 3)
    shares_bsg = products_bsg * tiled_bsg
    grad_recurrent_hg = jnp.einsum(
        "bsh,bsg->hg",
        before_bsh.astype(dtype),
        shares_bsg.astype(dtype),
        preferred_element_type=jnp.float32,
    )
    grad_decay_bs = jnp.sum(jnp.where(starts_bs1, grad_bsh * new_bsh, 0), -1)
    grad_slots = Slots(inputs_bsg * tiled_bsg, None, None, grad_decay_bs)  # type: ignore[arg-type]
    grad_weights = Weights(
        grad_recurrent_hg,
        jnp.sum(jnp.split(shares_bsg, 3, axis=-1)[2], (0, 1)),
        jnp.sum(jnp.where(user_bs1, through_bsh, 0), (0, 1)),
    )
    return grad_state_bh, grad_slots, grad_weights


gru_scan.defvjp(_forward, _backward)
