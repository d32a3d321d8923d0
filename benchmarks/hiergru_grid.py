"""The hierarchical GRU on a padded grid: a loop over sessions around a loop over their events.

Equations and parameters are those of `hiertcn_jax.models.hiergru`, fed by `init`. In a grid every
lane starts its sessions at the same positions. So the user level steps once per session; otherwise
it would be computed at each event and mostly discarded. This is the cheapest way to use a grid.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hiertcn_jax.batch import PADDING_ID, Batch
from hiertcn_jax.layers.dense import Dense
from hiertcn_jax.layers.dropout import Dropout
from hiertcn_jax.models.common import SequenceModel
from hiertcn_jax.models.hiergru import HierGRUConfig, StackedStep

GridCarry = tuple[Float[Array, "b h"], Float[Array, "b h"]]
"""States of both levels: `s` after the last session's end, and `c` of that session."""


class SessionStep(nn.Module):
    """One session of both levels.

    Attributes:
      config: As for `HierGRUStep`.
    """

    config: HierGRUConfig

    @nn.compact
    def __call__(
        self, carry: GridCarry, inputs: tuple[Array, Array, Array, Array]
    ) -> tuple[GridCarry, Array]:
        """Advances both levels by one session.

        Args:
          carry: `s` after the previous session, and `c` of it.
          inputs: Gates of the items [b, t, 3h], where events are [b, t], whether a user starts
            here [b], and the state of a new user [b, h].

        Returns:
          The carry after this session, and `s` of the last layer as each event reads it [b, t, h].
        """
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        session_bh, user_bh = carry
        gates_btg, is_event_bt, starts_user_b, start_bh = inputs
        user_gates_bg = Dense(3 * config.gru_dim, dtype=dtype, name="user_input")(
            session_bh[:, -config.gru_dim :]
        ).astype(jnp.float32)
        user_bh = StackedStep(config, name="user")(
            user_bh, user_gates_bg, jnp.ones_like(starts_user_b), starts_user_b, start_bh
        )
        begun_bh = Dense(session_bh.shape[-1], dtype=dtype, name="session_start")(
            user_bh[:, -config.gru_dim :]
        ).astype(jnp.float32)

        def event(
            session: StackedStep, state_bh: Array, inputs: tuple[Array, Array]
        ) -> tuple[Array, Array]:
            gates_bg, is_event_b = inputs
            never_b = jnp.zeros_like(is_event_b)
            after_bh = session(state_bh, gates_bg, is_event_b, never_b, jnp.zeros_like(state_bh))
            return after_bh, state_bh[:, -config.gru_dim :]

        scan = nn.scan(
            event,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        session_bh, hidden_bth = scan(
            StackedStep(config, name="session"), nn.tanh(begun_bh), (gates_btg, is_event_bt)
        )
        return (session_bh, user_bh), hidden_bth


class HierGRUGrid(SequenceModel):
    """Predicts every event of a grid from the current session so far and the sessions before.

    Attributes:
      config: See `HierGRU`.
    """

    config: HierGRUConfig

    def init_carry(self, b: int) -> GridCarry:
        """The state of `b` lanes before a user's first session."""
        width = self.config.gru_layers * self.config.gru_dim
        return jnp.zeros((b, width)), jnp.zeros((b, width))

    @nn.compact
    def __call__(
        self, batch: Batch, carry: GridCarry, train: bool = False
    ) -> tuple[Float[Array, "b l d"], GridCarry]:
        """Predictions for the events of a grid whose slots all have the same length.

        Args:
          batch: From `grid_batches`, not tight, with `EmbeddedItems`.
          carry: The state after the previous batch.
          train: Turns on dropout and replacement by the unknown item.
        """
        config = self.config
        batch = jax.tree.map(jnp.asarray, batch)
        lanes, sessions = batch.starts_session_bs.shape
        _, items_blc = self.read_items(batch, train)
        items_blc = Dropout(config.input_dropout)(items_blc, train)
        gates_blg = Dense(3 * config.gru_dim, dtype=self.compute_dtype, name="session_input")(
            items_blc
        ).astype(jnp.float32)
        start_h = self.param("start_state", nn.initializers.zeros, (carry[1].shape[-1],))
        scan = nn.scan(
            SessionStep,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=((1, 1, 1, nn.broadcast),),
            out_axes=1,
        )
        carry, hidden_bsth = scan(config, name="step")(
            carry,
            (
                gates_blg.reshape(lanes, sessions, -1, gates_blg.shape[-1]),
                (batch.item_ids_bl != PADDING_ID).reshape(lanes, sessions, -1),
                batch.starts_user_bs,
                jnp.broadcast_to(start_h, carry[1].shape),
            ),
        )
        hidden_blh = hidden_bsth.reshape(lanes, -1, hidden_bsth.shape[-1])
        hidden_blh = Dropout(config.dropout)(hidden_blh, train)
        return self.output(hidden_blh), carry
