"""A GRU over the slots of a segment.

    w_s = W h_{s-1}
    r   = sigmoid(x_r + w_r)
    z   = sigmoid(x_z + w_z)
    n   = tanh(x_n + r * (w_n + b))
    n_s = (1 - z) * n + z * h_{s-1}        start_s where a user starts
    h_s = n_s * decay_s                    h_{s-1} where no session starts

Cho et al. 2014, in the form whose candidate gates the recurrent product.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Slots(NamedTuple):
    """Inputs of a GRU in the slots of a segment.

    Attributes:
      gates_bsg: The inputs' gates r, z and n, concatenated: g = 3h.
      starts_session_bs: Where the state steps; elsewhere it is kept.
      starts_user_bs: Where it becomes the start state instead of stepping.
      decay_bs: Factor of the state after a step.
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


def gru_step(
    gates: Float[Array, "b g"],
    state: Float[Array, "b h"],
    recurrent_hg: Float[Array, "h g"],
    bias_h: Float[Array, " h"],
    dtype: Any,
) -> Float[Array, "b h"]:
    """The state after one step.

    Args:
      gates: The inputs' gates r, z and n, concatenated: g = 3h.
      state: The state before the step, float32.
      recurrent_hg: W.
      bias_h: b.
      dtype: Type of the product's factors; its sums are float32.

    Example:
      >>> gates = jnp.zeros((1, 3))  # r = z = 1/2
      >>> state = jnp.asarray([2.0])
      >>> gru_step(gates, state[None], jnp.zeros((1, 3)), jnp.zeros(1), jnp.float32).tolist()
      [[1.0]]
    """
    product = jnp.dot(
        state.astype(dtype), recurrent_hg.astype(dtype), preferred_element_type=jnp.float32
    )
    x_r, x_z, x_n = jnp.split(gates, 3, axis=-1)
    w_r, w_z, w_n = jnp.split(product, 3, axis=-1)
    r, z = jax.nn.sigmoid(x_r + w_r), jax.nn.sigmoid(x_z + w_z)
    n = jnp.tanh(x_n + r * (w_n + bias_h))
    return (1 - z) * n + z * state


def gru_scan(
    state_bh: Float[Array, "b h"], slots: Slots, weights: Weights, dtype: Any
) -> tuple[Float[Array, "b h"], Float[Array, "b s h"], Float[Array, "b s h"]]:
    """Steps through the slots of a segment with `lax.scan` over `s`.

    Args:
      state_bh: State before the segment, float32.
      slots: The segment.
      weights: The parameters.
      dtype: Type of the products' factors; everything else is float32.

    Returns:
      h after the last slot, h in each slot, and n_s, the state before keep and decay.
    """
    recurrent_hg, bias_h, start_h = weights

    def step(state_bh: Array, slot: Slots) -> tuple[Array, tuple[Array, Array]]:
        new_bh = gru_step(slot.gates_bsg, state_bh, recurrent_hg, bias_h, dtype)
        new_bh = jnp.where(slot.starts_user_bs[:, None], start_h, new_bh)
        decayed_bh = new_bh * slot.decay_bs[:, None]
        held_bh = jnp.where(slot.starts_session_bs[:, None], decayed_bh, state_bh)
        return held_bh, (held_bh, new_bh)

    by_slot = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), slots)
    state_bh, (held_sbh, new_sbh) = jax.lax.scan(step, state_bh, by_slot)
    return state_bh, jnp.swapaxes(held_sbh, 0, 1), jnp.swapaxes(new_sbh, 0, 1)
