"""TCN over the items before an event, of the session or of the user's whole history.

Bai, Kolter, Koltun: An Empirical Evaluation of Generic Convolutional and Recurrent Networks for
Sequence Modeling, 2018 (arXiv 1803.01271); the lower level of HierTCN without its upper one.

    u_t = TCN([start, x_1, ..., x_{t-1}])
"""

import dataclasses
from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from hiertcn_jax.layers.dense import Dense
from hiertcn_jax.layers.dropout import Dropout
from hiertcn_jax.layers.tcn import TCN, TCNConfig, init_tails, receptive_field
from hiertcn_jax.models.common import SequenceModel
from hiertcn_jax.models.context import Context


@dataclasses.dataclass(frozen=True)
class FlatTCNConfig(TCNConfig):
    """The settings of a TCN over items.

    `tcn_session` restarts at each session. `tcn_user` restarts at each user, and does not know
    where sessions start.
    """

    name: Literal["tcn_session", "tcn_user"] = "tcn_session"

    @property
    def whole_history(self) -> bool:
        """Whether it continues across the sessions of a user."""
        return self.name == "tcn_user"

    @property
    def reads(self) -> str:
        """See `ModelConfig.reads`."""
        whose = "user" if self.whole_history else "session"
        return f"the {whose}'s last {receptive_field(self)} events"


class FlatTCNCarry(NamedTuple):
    """The state of each lane after a segment.

    Attributes:
      last_bc: Embedding of the last event's item, the TCN's next input.
      tails: Last inputs of each convolution.
    """

    last_bc: Float[Array, "b c"]
    tails: tuple[Float[Array, "b _ _"], ...]


class FlatTCN(SequenceModel):
    """Predicts every event from the items before it.

    Attributes:
      config: Its settings.
    """

    config: FlatTCNConfig

    def init_carry(self, b: int) -> FlatTCNCarry:
        """The state of `b` lanes before a user's first event."""
        return FlatTCNCarry(
            jnp.zeros((b, self.input_dim), self.compute_dtype), init_tails(self.config, b)
        )

    @nn.compact
    def run(
        self,
        context: Context,
        previous_blc: Float[Array, "b l c"],
        carry: FlatTCNCarry,
        train: bool,
    ) -> tuple[Float[Array, "b l d"], FlatTCNCarry]:
        """The predictions of a segment; see `SequenceModel.run`."""
        config = self.config
        position_bl = context.user_position_bl if self.config.whole_history else context.position_bl
        previous_blc = self.with_start_token(previous_blc, position_bl == 0)

        inputs_blc = Dense(config.tcn_channels[0], dtype=self.compute_dtype, name="join_item")(
            previous_blc
        )
        inputs_blc = Dropout(config.input_dropout)(inputs_blc, train)
        hidden_blc, tails = TCN(config, name="tcn")(
            inputs_blc, carry.tails, position_bl, context.events_b, train
        )
        return self.output(hidden_blc), carry._replace(tails=tails)
