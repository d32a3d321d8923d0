"""GRU over the items before an event, of the session or of the user's whole history.

Hidasi, Karatzoglou, Baltrunas, Tikk: Session-based Recommendations with Recurrent Neural Networks
(GRU4Rec), ICLR 2016 (arXiv 1511.06939).

    h_1 = learned start state, initialised to 0
    h_t = GRU(h_{t-1}, x_{t-1})
    u_t = W h_t + b

The products with the inputs do not need the states: one product computes them for all events of a
segment, and the scan contains only the recurrent products.
"""

import dataclasses
from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from hiertcn_jax.layers.dropout import Dropout
from hiertcn_jax.layers.gru import GRUConfig, GRULayer
from hiertcn_jax.models.common import SequenceModel
from hiertcn_jax.models.context import Context


@dataclasses.dataclass(frozen=True)
class FlatGRUConfig(GRUConfig):
    """The settings of a GRU over items.

    `gru_session` restarts at each session. `gru_user` restarts at each user, and does not know
    where sessions start.
    """

    name: Literal["gru_session", "gru_user"] = "gru_session"

    @property
    def whole_history(self) -> bool:
        """Whether it continues across the sessions of a user."""
        return self.name == "gru_user"

    @property
    def reads(self) -> str:
        """See `ModelConfig.reads`."""
        return super().reads if self.whole_history else "the session's earlier events"


class FlatGRUCarry(NamedTuple):
    """The state of each lane after a segment.

    Attributes:
      state_bh: State of all layers, concatenated, as the last event read it.
      last_bc: Embedding of the last event's item, the GRU's next input.
    """

    state_bh: Float[Array, "b h"]
    last_bc: Float[Array, "b c"]


class FlatGRU(SequenceModel):
    """Predicts every event from the items before it.

    Attributes:
      config: Its settings. Predictions read the last of `gru_layers`.
    """

    config: FlatGRUConfig

    def init_carry(self, b: int) -> FlatGRUCarry:
        """The state of `b` lanes before a user's first event."""
        return FlatGRUCarry(
            jnp.zeros((b, self.config.gru_layers * self.config.gru_dim)),
            jnp.zeros((b, self.input_dim), self.compute_dtype),
        )

    @nn.compact
    def run(
        self,
        context: Context,
        previous_blc: Float[Array, "b l c"],
        carry: FlatGRUCarry,
        train: bool,
    ) -> tuple[Float[Array, "b l d"], FlatGRUCarry]:
        """The predictions of a segment; see `SequenceModel.run`."""
        config = self.config
        position_bl = context.user_position_bl if self.config.whole_history else context.position_bl
        hidden_blh = Dropout(config.input_dropout)(previous_blc, train)
        no_decay_bl = jnp.ones(position_bl.shape)
        states = []
        for layer, state_bh in enumerate(jnp.split(carry.state_bh, config.gru_layers, axis=-1)):
            state_bh, _, hidden_blh = GRULayer(
                config.gru_dim, self.compute_dtype, name=f"layer_{layer}"
            )(state_bh, hidden_blh, context.is_event_bl, position_bl == 0, no_decay_bl)
            hidden_blh = Dropout(config.dropout)(hidden_blh, train)
            states.append(state_bh)
        return self.output(hidden_blh), carry._replace(state_bh=jnp.concatenate(states, axis=-1))
