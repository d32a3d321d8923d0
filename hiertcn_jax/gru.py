"""The long-term level: a GRU that steps once a session, when the session starts.

    h_m = GRU(h~_{m-1}, s_{m-1})           s: the pooled session before
    h~_m = h_m * exp(-gap_m / tau)         what the session's predictions read, and the next step

Nothing here depends on what the TCN computes, so one scan over the sessions of a row serves all of
its events. A user's first session starts from the learned state instead; a slot that starts no
session (a continued one, or padding) holds the state.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hiertcn_jax.config import ModelConfig


class GRUStep(nn.Module):
    """One session of one GRU layer, for all lanes.

    Cho et al. 2014, in the form whose candidate gates the recurrent product:

        r = sigmoid(x_r + W_r h)
        z = sigmoid(x_z + W_z h)
        n = tanh(x_n + r * (W_n h + b_n))
        h' = (1 - z) * n + z * h

    Attributes:
      features: `h`.
      dtype: Type of the matrix products; the state stays float32.
    """

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, state_bh: Array, inputs: tuple[Array, Array, Array, Array, Array]
    ) -> tuple[Array, tuple[Array, Array]]:
        """Steps where a session starts.

        Args:
          state_bh: State in front of this slot.
          inputs: The inputs' gates [b, 3h], whether a session and a user start here [b], the factor
            of the decay [b], and the state of a new user [b, h].

        Returns:
          The state behind the slot, and (that state, the state before hold and decay).
        """
        gates_b3h, starts_session_b, starts_user_b, decay_b, start_bh = inputs
        recurrent_b3h = nn.Dense(
            3 * self.features,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=nn.initializers.orthogonal(),
            name="recurrent",
        )(state_bh).astype(jnp.float32)
        bias_h = self.param("candidate_bias", nn.initializers.zeros, (self.features,))
        x_r, x_z, x_n = jnp.split(gates_b3h, 3, axis=-1)
        w_r, w_z, w_n = jnp.split(recurrent_b3h, 3, axis=-1)
        r_bh = nn.sigmoid(x_r + w_r)
        z_bh = nn.sigmoid(x_z + w_z)
        n_bh = nn.tanh(x_n + r_bh * (w_n + bias_h))
        new_bh = (1 - z_bh) * n_bh + z_bh * state_bh
        new_bh = jnp.where(starts_user_b[:, None], start_bh, new_bh)
        decayed_bh = new_bh * decay_b[:, None]
        held_bh = jnp.where(starts_session_b[:, None], decayed_bh, state_bh)
        return held_bh, (held_bh, new_bh)


class GRULayer(nn.Module):
    """One GRU layer over the session slots of a row: `lax.scan` over `s`.

    Attributes:
      features: `h`.
      dtype: Type of the matrix products.
    """

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        state_bh: Float[Array, "b h"],
        inputs_bsd: Float[Array, "b s d"],
        starts_session_bs: Bool[Array, "b s"],
        starts_user_bs: Bool[Array, "b s"],
        decay_bs: Float[Array, "b s"],
    ) -> tuple[Float[Array, "b h"], Float[Array, "b s h"], Float[Array, "b s h"]]:
        """Steps at every started session.

        Returns:
          The state behind the last slot, the decayed state in each slot, and the state before the
          decay, which is what a further layer reads.
        """
        # The inputs' product does not wait for the state: one product for all sessions.
        gates_bsh = nn.Dense(3 * self.features, dtype=self.dtype, name="input")(inputs_bsd)
        start_h = self.param("start_state", nn.initializers.zeros, (self.features,))
        scan = nn.scan(
            GRUStep,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=((1, 1, 1, 1, nn.broadcast),),
            out_axes=1,
        )
        state_bh, (held_bsh, new_bsh) = scan(self.features, self.dtype, name="step")(
            state_bh,
            (
                gates_bsh.astype(jnp.float32),
                starts_session_bs,
                starts_user_bs,
                decay_bs,
                jnp.broadcast_to(start_h, state_bh.shape),
            ),
        )
        return state_bh, held_bsh, new_bsh


class SessionGRU(nn.Module):
    """The stack of GRU layers, with the decay over the gap between sessions.

    Attributes:
      config: `gru_dim`, `gru_layers`, `gap_decay`, `gap_decay_hours`, `dtype` are read.
    """

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        state_bh: Float[Array, "b h"],
        pooled_bsd: Float[Array, "b s d"],
        starts_session_bs: Bool[Array, "b s"],
        starts_user_bs: Bool[Array, "b s"],
        gap_hours_bs: Float[Array, "b s"],
    ) -> tuple[Float[Array, "b h"], Float[Array, "b s h"]]:
        """Long-term interest in every session slot of a row.

        Args:
          state_bh: State of all layers side by side, behind the row before.
          pooled_bsd: For each slot the pooled session *before* it.
          starts_session_bs: Where a session starts; the state is held elsewhere.
          starts_user_bs: Where a user starts: the learned start state, whatever was before.
          gap_hours_bs: Hours since the session before.

        Returns:
          The state behind the row, and the state that each slot's predictions read.
        """
        decay_bs = self._decay(gap_hours_bs)
        inputs_bsd = pooled_bsd
        last, held = [], []
        for layer, layer_state_bh in enumerate(
            jnp.split(state_bh, self.config.gru_layers, axis=-1)
        ):
            layer_state_bh, held_bsh, inputs_bsd = GRULayer(
                self.config.gru_dim, jnp.dtype(self.config.dtype), name=f"layer_{layer}"
            )(layer_state_bh, inputs_bsd, starts_session_bs, starts_user_bs, decay_bs)
            last.append(layer_state_bh)
            held.append(held_bsh)
        return jnp.concatenate(last, axis=-1), jnp.concatenate(held, axis=-1)

    def _decay(self, gap_hours_bs: jax.Array) -> jax.Array:
        if self.config.gap_decay == "none":
            return jnp.ones_like(gap_hours_bs)
        hours = jnp.float32(self.config.gap_decay_hours)
        if self.config.gap_decay == "learned":
            # exp keeps tau above 0 however far the optimizer goes.
            hours = jnp.exp(self.param("log_tau_hours", lambda _: jnp.log(hours)))
        return jnp.exp(-gap_hours_bs / hours)
