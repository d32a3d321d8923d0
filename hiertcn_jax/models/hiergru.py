"""Hierarchical GRU: a GRU over the events of a session, and one over sessions.

Quadrana, Karatzoglou, Hidasi, Cremonesi: Personalizing Session-based Recommendations with
Hierarchical Recurrent Neural Networks (HRNN), RecSys 2017 (arXiv 1706.04148). For sessions m of
events x_{m,1..n_m}:

    c_0      = learned start state, initialised to 0
    s_{m,1}  = tanh(W_init c~_{m-1} + b_init)
    s_{m,t}  = GRU_session(s_{m,t-1}, x_{m,t-1})           hiergru_feed=init
    s_{m,t}  = GRU_session(s_{m,t-1}, [x_{m,t-1}, c~_{m-1}])  hiergru_feed=all
    c_m      = GRU_user(c~_{m-1}, s_{m,n_m + 1})
    c~_m     = c_m * exp(-gap_{m+1} / tau)                   --gap_decay, as in HierTCN; none: c_m
    u_{m,t}  = W s_{m,t} + b

The paper predicts from the second event of a session on; here s_{m,1} predicts the first. Each
level needs the other's state, so the scan runs over all events of a segment. The end of a session
is known when the next one starts, and its last step is taken there.
"""

import dataclasses
from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hiertcn_jax.layers.dense import Dense
from hiertcn_jax.layers.dropout import Dropout
from hiertcn_jax.layers.gru import GRUStep, SessionGRUConfig, gap_decay
from hiertcn_jax.models.common import SequenceModel
from hiertcn_jax.models.context import Context
from hiertcn_jax.settings import setting

HELP_TOPIC = "model hiergru"


@dataclasses.dataclass(frozen=True)
class HierGRUConfig(SessionGRUConfig):
    """The settings of the hierarchical GRU; both levels have `gru_layers` of `gru_dim`."""

    name: Literal["hiergru"] = "hiergru"
    hiergru_feed: Literal["init", "all"] = setting(
        "init",
        "Where hiergru feeds the state over sessions: init, into the first state of the next "
        "session; all, also into each of its steps.",
    )


class HierGRUCarry(NamedTuple):
    """The state of each lane after a segment.

    Attributes:
      session_bh: `s` of all layers, concatenated, as the last event read it.
      user_bh: `c` of all layers, concatenated, of the current session.
      last_bc: Embedding of the last event's item, the session GRU's next input.
    """

    session_bh: Float[Array, "b h"]
    user_bh: Float[Array, "b h"]
    last_bc: Float[Array, "b c"]


class StackedStep(nn.Module):
    """One step of a stack of GRU layers.

    Attributes:
      config: Uses `gru_dim`, `gru_layers` and `dtype`.
    """

    config: HierGRUConfig

    @nn.compact
    def __call__(
        self,
        state_bh: Float[Array, "b h"],
        gates_bg: Float[Array, "b g"],
        steps_b: Bool[Array, " b"],
        resets_b: Bool[Array, " b"],
        start_bh: Float[Array, "b h"],
    ) -> Float[Array, "b h"]:
        """State of all layers after the step.

        Args:
          state_bh: State of all layers, concatenated.
          gates_bg: Inputs of the first layer's gates.
          steps_b: False keeps the state.
          resets_b: True takes the start state instead.
          start_bh: Start state of all layers, concatenated.
        """
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        starts = jnp.split(start_bh, config.gru_layers, axis=-1)
        states: list[Array] = []
        for layer, layer_bh in enumerate(jnp.split(state_bh, config.gru_layers, axis=-1)):
            if layer:
                gates_bg = Dense(3 * config.gru_dim, dtype=dtype, name=f"input_{layer}")(
                    states[-1]
                ).astype(jnp.float32)
            layer_bh = GRUStep(config.gru_dim, dtype, name=f"layer_{layer}")(
                layer_bh, gates_bg, steps_b, resets_b, starts[layer]
            )
            states.append(layer_bh)
        return jnp.concatenate(states, axis=-1)


class HierGRUStep(nn.Module):
    """One event of both levels.

    Attributes:
      config: Uses `hiergru_feed` and the settings of the stacks.
    """

    config: HierGRUConfig

    @nn.compact
    def __call__(
        self, carry: tuple[Array, Array], inputs: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], Array]:
        """Advances both levels by one event.

        Args:
          carry: `s` and `c` as the previous event read them.
          inputs: Gates of the previous item [b, 3h]; whether there is an event, whether it starts a
            session, whether it starts a user [b]; and the state of a new user [b, h].

        Returns:
          `s` and `c` as this event reads them, and `s` of the last layer.
        """
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        session_bh, user_bh = carry
        gates_bg, is_event_b, starts_session_b, starts_user_b, decay_b, start_bh = inputs
        if config.hiergru_feed == "all":
            gates_bg += Dense(gates_bg.shape[-1], use_bias=False, dtype=dtype, name="feed")(
                user_bh[:, -config.gru_dim :]
            ).astype(jnp.float32)
        stepped_bh = StackedStep(config, name="session")(
            session_bh, gates_bg, is_event_b, jnp.zeros_like(is_event_b), jnp.zeros_like(session_bh)
        )
        user_gates_bg = Dense(3 * config.gru_dim, dtype=dtype, name="user_input")(
            stepped_bh[:, -config.gru_dim :]
        ).astype(jnp.float32)
        user_bh = StackedStep(config, name="user")(
            user_bh, user_gates_bg, starts_session_b, starts_user_b, start_bh
        )
        user_bh *= decay_b[:, None]
        begun_bh = Dense(session_bh.shape[-1], dtype=dtype, name="session_start")(
            user_bh[:, -config.gru_dim :]
        ).astype(jnp.float32)
        session_bh = jnp.where(starts_session_b[:, None], nn.tanh(begun_bh), stepped_bh)
        return (session_bh, user_bh), session_bh[:, -config.gru_dim :]


class HierGRU(SequenceModel):
    """Predicts every event from the current session so far and the earlier sessions.

    Attributes:
      config: Its settings. Each level reads the last layer of the other.
    """

    config: HierGRUConfig

    def init_carry(self, b: int) -> HierGRUCarry:
        """The state of `b` lanes before a user's first event."""
        width = self.config.gru_layers * self.config.gru_dim
        return HierGRUCarry(
            jnp.zeros((b, width)),
            jnp.zeros((b, width)),
            jnp.zeros((b, self.input_dim), self.compute_dtype),
        )

    @nn.compact
    def run(
        self,
        context: Context,
        previous_blc: Float[Array, "b l c"],
        carry: HierGRUCarry,
        train: bool,
    ) -> tuple[Float[Array, "b l d"], HierGRUCarry]:
        """The predictions of a segment; see `SequenceModel.run`."""
        config = self.config
        is_event_bl = context.is_event_bl
        starts_session_bl = is_event_bl & (context.position_bl == 0)
        decay_bs = gap_decay(self, config, context.gap_hours_bs)
        decay_bl = jnp.take_along_axis(decay_bs, context.session_bl, axis=1)
        inputs_blc = Dropout(config.input_dropout)(previous_blc, train)

        # One product for all events, because the items' share of the gates needs no states.
        gates_blg = Dense(3 * config.gru_dim, dtype=self.compute_dtype, name="session_input")(
            inputs_blc
        ).astype(jnp.float32)
        start_h = self.param("start_state", nn.initializers.zeros, (carry.user_bh.shape[-1],))
        scan = nn.scan(
            HierGRUStep,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=((1, 1, 1, 1, 1, nn.broadcast),),
            out_axes=1,
        )
        (session_bh, user_bh), hidden_blh = scan(config, name="step")(
            (carry.session_bh, carry.user_bh),
            (
                gates_blg,
                is_event_bl,
                starts_session_bl,
                is_event_bl & (context.user_position_bl == 0),
                jnp.where(starts_session_bl, decay_bl, 1),
                jnp.broadcast_to(start_h, carry.user_bh.shape),
            ),
        )
        hidden_blh = Dropout(config.dropout)(hidden_blh, train)
        return self.output(hidden_blh), carry._replace(session_bh=session_bh, user_bh=user_bh)
