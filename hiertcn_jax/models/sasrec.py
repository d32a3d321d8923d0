"""Self-attention over the last items of a user.

Kang, McAuley: Self-Attentive Sequential Recommendation (SASRec), ICDM 2018 (arXiv 1808.09781). For
a user's items x_1, x_2, ...:

    z_t = W_in [start, x_1, ..., x_{t-1}]_t + b_in
    z_t = z_t + Attention(LayerNorm(z))_t                in each of `attention_blocks`
    z_t = z_t + W_2 relu(W_1 LayerNorm(z_t) + b_1) + b_2
    u_t = W LayerNorm(z_t) + b

Differences from the paper, all so that a stream of segments and one long segment are the same
function: each block attends to the last `attention_window` inputs, its own among them, of whichever
segment, instead of all blocks to one cut of the history, so that stacked blocks see
attention_blocks * (attention_window - 1) + 1 items; and the learned position is the age in events,
met by the query (Shaw, Uszkoreit, Vaswani 2018, arXiv 1803.02155), not the position in the cut. The
width is the model's own: W_in and W lead to it and back.
"""

import dataclasses
import functools
from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hiertcn_jax.layers.attention import AttentionConfig, WindowAttention, init_attention_tail
from hiertcn_jax.layers.dense import Dense
from hiertcn_jax.layers.dropout import Dropout
from hiertcn_jax.models.common import SequenceModel
from hiertcn_jax.models.context import Context


@dataclasses.dataclass(frozen=True)
class SASRecConfig(AttentionConfig):
    """The settings of SASRec."""

    name: Literal["sasrec"] = "sasrec"


class SASRecCarry(NamedTuple):
    """The state of each lane after a segment.

    Attributes:
      last_bc: Embedding of the last event's item, the next input.
      tails: Keys and values, side by side, of each block for the last `attention_window - 1`
        events.
    """

    last_bc: Float[Array, "b c"]
    tails: tuple[Float[Array, "b _ _"], ...]


class AttentionBlock(nn.Module):
    """Attention, then two layers at each event, each with a residual.

    Attributes:
      config: Uses `attention_heads`, `attention_window`, `dropout` and `dtype`.
    """

    config: AttentionConfig

    @nn.compact
    def __call__(
        self,
        inputs_blc: Float[Array, "b l c"],
        tail: Float[Array, "b t _"],
        position_bl: Int[Array, "b l"],
        events_b: Int[Array, " b"],
        train: bool,
    ) -> tuple[Float[Array, "b l c"], Float[Array, "b t _"]]:
        """The block's output and its keys and values for the next segment."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        width = inputs_blc.shape[-1]
        drop = functools.partial(Dropout(config.dropout), train=train)
        attended_blc, tail = WindowAttention(
            config.attention_heads, config.attention_window, config.dropout, dtype, name="attention"
        )(
            nn.LayerNorm(dtype=dtype, name="attention_norm")(inputs_blc),
            tail,
            position_bl,
            events_b,
            train,
        )
        inputs_blc = inputs_blc + drop(attended_blc)
        hidden_blc = nn.LayerNorm(dtype=dtype, name="feed_forward_norm")(inputs_blc)
        hidden_blc = drop(nn.relu(Dense(width, dtype=dtype, name="inner")(hidden_blc)))
        return inputs_blc + drop(Dense(width, dtype=dtype, name="outer")(hidden_blc)), tail


class SASRec(SequenceModel):
    """Predicts every event from the last items of the user.

    Attributes:
      config: Its settings.
    """

    config: AttentionConfig

    def block(self, number: int) -> nn.Module:
        """A block: maps inputs and a tail to outputs and the tail for the next segment."""
        return AttentionBlock(self.config, name=f"block_{number}")

    def end(self, hidden_blc: Float[Array, "b l c"]) -> Float[Array, "b l c"]:
        """Applied between the last block and the output layer."""
        return nn.LayerNorm(dtype=self.compute_dtype, name="norm")(hidden_blc)

    def init_carry(self, b: int) -> SASRecCarry:
        """The state of `b` lanes before a user's first event."""
        config = self.config
        # A separate array for each block, because the steps donate the carry, and no array twice.
        tails = [
            init_attention_tail(
                b, config.attention_window, config.attention_dim, self.compute_dtype
            )
            for _ in range(config.attention_blocks)
        ]
        return SASRecCarry(jnp.zeros((b, self.input_dim), self.compute_dtype), tuple(tails))

    @nn.compact
    def run(
        self,
        context: Context,
        previous_blc: Float[Array, "b l c"],
        carry: SASRecCarry,
        train: bool,
    ) -> tuple[Float[Array, "b l d"], SASRecCarry]:
        """The predictions of a segment; see `SequenceModel.run`."""
        config = self.config
        position_bl, events_b = context.user_position_bl, context.events_b
        previous_blc = self.with_start_token(previous_blc, position_bl == 0)

        hidden_blc = Dense(config.attention_dim, dtype=self.compute_dtype, name="join_item")(
            previous_blc
        )
        hidden_blc = Dropout(config.input_dropout)(hidden_blc, train)
        tails = []
        for number, tail in enumerate(carry.tails):
            hidden_blc, tail = self.block(number)(hidden_blc, tail, position_bl, events_b, train)
            tails.append(tail)
        return self.output(self.end(hidden_blc)), carry._replace(tails=tuple(tails))
