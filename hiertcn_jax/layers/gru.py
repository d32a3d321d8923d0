"""The long-term level: a GRU that steps once per session, when the session starts.

    h_m = GRU(h~_{m-1}, s_{m-1})           s: the pooled previous session
    h~_m = h_m * exp(-gap_m / tau)         what the session's predictions and the next step read

Nothing here depends on the TCN's output, so one scan over the sessions of a segment serves all its
events. At a user's first session the state becomes the learned start state. A slot that starts no
session (a continued session, or padding) keeps the state.
"""

import dataclasses
from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hiertcn_jax.config import ModelConfig
from hiertcn_jax.layers.dense import Dense
from hiertcn_jax.layers.gru_scan import Slots, Weights, gru_scan, gru_step
from hiertcn_jax.settings import setting

HELP_TOPIC = "models with a GRU"

GapDecay = Literal["none", "fixed", "learned"]


@dataclasses.dataclass(frozen=True)
class GRUConfig(ModelConfig):
    """Settings of models with GRU layers."""

    widths: ClassVar[tuple[str, ...]] = ("gru_dim",)

    gru_dim: int = setting(128, "Width of one GRU layer.", at_least=1)
    gru_layers: int = setting(
        1,
        "GRU layers. HierTCN's TCN reads the states of all of them, concatenated.",
        at_least=1,
    )


@dataclasses.dataclass(frozen=True)
class SessionGRUConfig(GRUConfig):
    """Settings of models whose GRU steps once per session."""

    gap_decay: GapDecay = setting(
        "none",
        "Decay of the state between sessions by exp(-gap/tau): none, fixed tau, or learned tau.",
    )
    gap_decay_hours: float = setting(
        168.0, "Tau of --gap_decay in hours; a learned tau starts from it.", above=0
    )


class GRUStep(nn.Module):
    """One step of one GRU layer for all lanes, for stacks whose levels wait for each other.

    Attributes:
      features: `h`.
      dtype: Type of the matrix products; the state is float32.
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
        """The state after one step.

        Args:
          state_bh: The state before it.
          gates_bg: The inputs' gates, g = 3h.
          steps_b: False keeps the state.
          resets_b: True takes the start state instead.
          start_bh: The start state.
        """
        new_bh = gru_step(gates_bg, state_bh, *recurrent_weights(self, self.features), self.dtype)
        new_bh = jnp.where(resets_b[:, None], start_bh, new_bh)
        return jnp.where(steps_b[:, None], new_bh, state_bh)


class GRULayer(nn.Module):
    """One GRU layer over the session slots of a segment: `lax.scan` over `s`.

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
        """Steps at every session start.

        Returns:
          The state after the last slot, the decayed state in each slot, and the state before decay,
          which a further layer reads.
        """
        # The product with the inputs does not need the state: compute it for all sessions at once.
        gates_bsg = Dense(3 * self.features, dtype=self.dtype, name="input")(inputs_bsd)
        slots = Slots(gates_bsg.astype(jnp.float32), starts_session_bs, starts_user_bs, decay_bs)
        weights = Weights(
            *recurrent_weights(self, self.features),
            self.param("start_state", nn.initializers.zeros, (self.features,)),
        )
        return gru_scan(state_bh, slots, weights, self.dtype)


def recurrent_weights(module: nn.Module, features: int) -> tuple[Array, Array]:
    """Creates a module's recurrent parameters: W [h, 3h] and the candidate's bias [h]."""
    return (
        module.param("recurrent", nn.initializers.orthogonal(), (features, 3 * features)),
        module.param("candidate_bias", nn.initializers.zeros, (features,)),
    )


def gap_decay(
    module: nn.Module, config: SessionGRUConfig, gap_hours_bs: Float[Array, "b s"]
) -> Float[Array, "b s"]:
    """What a state over sessions is multiplied by after each gap.

    Args:
      module: Gets the parameter of a learned tau.
      config: Uses `gap_decay` and `gap_decay_hours`.
      gap_hours_bs: Hours since the previous session.
    """
    if config.gap_decay == "none":
        return jnp.ones_like(gap_hours_bs)
    hours = jnp.float32(config.gap_decay_hours)
    if config.gap_decay == "learned":
        # exp keeps tau positive whatever the optimizer does.
        hours = jnp.exp(module.param("log_tau_hours", lambda _: jnp.log(hours)))
    return jnp.exp(-gap_hours_bs / hours)


class SessionGRU(nn.Module):
    """A stack of GRU layers, with decay over the gap between sessions.

    Attributes:
      config: Uses `gru_dim`, `gru_layers`, `gap_decay`, `gap_decay_hours` and `dtype`.
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
        """The long-term state in every session slot of a segment.

        Args:
          state_bh: State of all layers, concatenated, after the previous segment.
          pooled_bsd: For each slot the pooled session *before* it.
          starts_session_bs: Where a session starts; elsewhere the state is kept.
          starts_user_bs: Where a user starts: there the learned start state replaces the state.
          gap_hours_bs: Hours since the previous session.

        Returns:
          The state after the segment, and the state that each slot's predictions read.
        """
        decay_bs = gap_decay(self, self.config, gap_hours_bs)
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
