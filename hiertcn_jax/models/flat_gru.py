"""GRU over the items before an event, of the session or of the user's whole history.

Hidasi, Karatzoglou, Baltrunas, Tikk: Session-based Recommendations with Recurrent Neural Networks
(GRU4Rec), ICLR 2016 (arXiv 1511.06939).

    h_1 = learned start state, initialised to 0
    h_t = GRU(h_{t-1}, x_{t-1})
    u_t = W h_t + b

The products with the inputs do not wait for the states: one product serves all events of a row,
and the scan over them holds the recurrent products alone.
"""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hiertcn_jax.batch import PADDING_ID, Batch
from hiertcn_jax.layers.dropout import Dropout
from hiertcn_jax.layers.gru import GRULayer
from hiertcn_jax.models.common import SequenceModel, events_in_row, previous_items


class FlatGRUCarry(NamedTuple):
    """The state of each lane behind a row.

    Attributes:
      state_bh: State of all layers side by side, as the last event read it.
      last_bc: Embedding of the last event's item, the GRU's next input.
    """

    state_bh: Float[Array, "b h"]
    last_bc: Float[Array, "b c"]


class FlatGRU(SequenceModel):
    """Predicts every event from the items before it.

    Attributes:
      config: See `ModelConfig`. Predictions read the last of `gru_layers`.
      whole_history: False starts anew at each session, the model `gru_session`; True at each user,
        the model `gru_user`, which does not know where sessions start.
    """

    whole_history: bool = False
    widths: ClassVar[tuple[str, ...]] = ("gru_dim",)

    def init_carry(self, b: int) -> FlatGRUCarry:
        """The state of `b` lanes in front of a user's first event."""
        return FlatGRUCarry(
            jnp.zeros((b, self.config.gru_layers * self.config.gru_dim)),
            jnp.zeros((b, self.input_dim), self.compute_dtype),
        )

    @nn.compact
    def __call__(
        self, batch: Batch, carry: FlatGRUCarry, train: bool = False
    ) -> tuple[Float[Array, "b l d"], FlatGRUCarry]:
        """Predictions for the events of a batch; see `HierTCN.__call__`."""
        config = self.config
        batch = jax.tree.map(jnp.asarray, batch)
        is_event_bl = batch.item_ids_bl != PADDING_ID
        position_bl = batch.user_position_bl if self.whole_history else batch.position_bl
        _, items_blc = self.read_items(batch, train)
        hidden_blh, last_bc = previous_items(items_blc, carry.last_bc, events_in_row(batch))

        hidden_blh = Dropout(config.input_dropout)(hidden_blh, train)
        no_decay_bl = jnp.ones(position_bl.shape)
        states = []
        for layer, state_bh in enumerate(jnp.split(carry.state_bh, config.gru_layers, axis=-1)):
            state_bh, _, hidden_blh = GRULayer(
                config.gru_dim, self.compute_dtype, name=f"layer_{layer}"
            )(state_bh, hidden_blh, is_event_bl, position_bl == 0, no_decay_bl)
            hidden_blh = Dropout(config.dropout)(hidden_blh, train)
            states.append(state_bh)
        return self.predict(hidden_blh), FlatGRUCarry(jnp.concatenate(states, axis=-1), last_bc)
