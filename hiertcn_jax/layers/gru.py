"""The long-term level: a GRU that steps once a session, when the session starts.

    h_m = GRU(h~_{m-1}, s_{m-1})           s: the pooled session before
    h~_m = h_m * exp(-gap_m / tau)         what the session's predictions read, and the next step

Nothing here depends on what the TCN computes, so one scan over the sessions of a row serves all of
its events. A user's first session starts from the learned state instead; a slot that starts no
session (a continued one, or padding) holds the state.
"""

import dataclasses
from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hiertcn_jax.config import ModelConfig
from hiertcn_jax.layers.dense import Dense
from hiertcn_jax.layers.gru_scan import Slots, Weights, gru_scan, gru_step
from hiertcn_jax.settings import setting

GapDecay = Literal["none", "fixed", "learned"]


@dataclasses.dataclass(frozen=True)
class GRUConfig(ModelConfig):
    """Of a model with GRU layers."""

    widths: ClassVar[tuple[str, ...]] = ("gru_dim",)

    gru_dim: int = setting(128, "Width of one GRU layer.", at_least=1)
    gru_layers: int = setting(
        1,
        "GRU layers. HierTCN's TCN sees the states of all of them side by side.",
        at_least=1,
    )


@dataclasses.dataclass(frozen=True)
class SessionGRUConfig(GRUConfig):
    """Of a model whose GRU steps once a session."""

    gap_decay: GapDecay = setting(
        "none",
        "exp(-gap/tau) on the state over sessions: none, with a fixed tau, or with a learned tau.",
    )
    gap_decay_hours: float = setting(168.0, "tau in hours; a learned tau starts from it.", above=0)


class GRUStep(nn.Module):
    """One step of one GRU layer, for all lanes; for stacks whose levels wait for each other.

    Attributes:
      features: `h`.
      dtype: Type of the matrix products; the state stays float32.
    """

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        state_bh: Float[Array, "b h"],
        gates_bg: Float[Array, "b g"],
        steps_b: Bool[Array, " b"],
        resets_b: Bool[Array, " b"],
        start_bh: Float[Array, "b h"],
    ) -> Float[Array, "b h"]:
        """The state behind one step.

        Args:
          state_bh: The state in front of it.
          gates_bg: The inputs' gates, g = 3h.
          steps_b: False holds the state.
          resets_b: True takes the start state instead.
          start_bh: The start state.
        """
        new_bh = gru_step(gates_bg, state_bh, *recurrent_weights(self, self.features), self.dtype)
        new_bh = jnp.where(resets_b[:, None], start_bh, new_bh)
        return jnp.where(steps_b[:, None], new_bh, state_bh)


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
        gates_bsg = Dense(3 * self.features, dtype=self.dtype, name="input")(inputs_bsd)
        slots = Slots(gates_bsg.astype(jnp.float32), starts_session_bs, starts_user_bs, decay_bs)
        weights = Weights(
            *recurrent_weights(self, self.features),
            self.param("start_state", nn.initializers.zeros, (self.features,)),
        )
        return gru_scan(state_bh, slots, weights, self.dtype)


def recurrent_weights(module: nn.Module, features: int) -> tuple[Array, Array]:
    """A module's parameters of the recurrence, W [h, 3h] and the candidate's bias [h]."""
    return (
        module.param("recurrent", nn.initializers.orthogonal(), (features, 3 * features)),
        module.param("candidate_bias", nn.initializers.zeros, (features,)),
    )


class SessionGRU(nn.Module):
    """The stack of GRU layers, with the decay over the gap between sessions.

    Attributes:
      config: `gru_dim`, `gru_layers`, `gap_decay`, `gap_decay_hours`, `dtype` are read.
    """

    config: SessionGRUConfig

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
