"""HSTU: attention without a softmax, with biases by age and by time, and a gate on what it gives.

Zhai et al.: Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for
Generative Recommendations, ICML 2024 (arXiv 2402.17152), as in the released code. Of a user's items
x_1, x_2, ... at the times T_1, T_2, ..., the input of event t is x_{t-1}, of the time T_{t-1}:

    z_t       = W_in [start, x_1, ..., x_{t-1}]_t + b_in         the start is at T_1
    U, K, V, Q = split(silu(N(z) W))                              N: LayerNorm, nothing learned
    s_{t,i}   = <q_t, k_i> + p_{t-i} + r_{beta(T_t - T_{i-1})}    0 <= t - i < n; all heads alike
    a_{t,i}   = silu(s_{t,i}) / n
    z_t       = z_t + W_o Dropout(U_t * N(sum_i a_{t,i} v_i)) + b_o   in each of `attention_blocks`
    u_t       = W z_t + b
    beta(D)   = floor(ln(max(|D|, 1 second)) / 0.301), 128 at most

n is `attention_window`. A query knows the time of the event that it predicts: when serving, now.
Differences from the released code, so that a stream of segments and one long segment are the same
function: each block sees the last n inputs, of whichever segment, instead of one cut of the
history, and there is no embedding of the position in the cut beside p. The width is the model's
own: W_in and W lead to it and back.

The released code scores cosines over 0.05 (`normalize`, `temperature`), against 128 items drawn
uniformly for each event, without correction: experiments/flagfiles/hstu_released.flags.
"""

import dataclasses
from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from hiertcn_jax.layers.attention import (
    AttentionConfig,
    block_length,
    by_place,
    init_attention_tail,
    key_blocks,
    query_blocks,
)
from hiertcn_jax.layers.dense import Dense
from hiertcn_jax.layers.dropout import Dropout
from hiertcn_jax.layers.tcn import kept_tail
from hiertcn_jax.models.common import SequenceModel
from hiertcn_jax.models.context import Context

HELP_TOPIC = "model hstu"

SPANS = 129
"""Values of beta."""
_BIAS_DEVIATION = 0.02


@dataclasses.dataclass(frozen=True)
class HSTUConfig(AttentionConfig):
    """The settings of HSTU."""

    name: Literal["hstu"] = "hstu"


class HSTUCarry(NamedTuple):
    """The state of each lane after a segment.

    Attributes:
      last_bc: Embedding of the last event's item, the next input.
      last_seconds_b: When it happened, in seconds since the user's first event.
      seconds_bt: The same of the t = `attention_window` - 1 inputs before it.
      tails: Keys and values, side by side, of those inputs, for each block.
    """

    last_bc: Float[Array, "b c"]
    last_seconds_b: Int[Array, " b"]
    seconds_bt: Int[Array, "b t"]
    tails: tuple[Float[Array, "b _ _"], ...]


class Before(NamedTuple):
    """The earlier events that the predictions of a segment read.

    Attributes:
      previous_blc: The item before each event.
      seconds_bl: When it happened.
    """

    previous_blc: Float[Array, "b l c"]
    seconds_bl: Int[Array, "b l"]


class Meetings(NamedTuple):
    """Which inputs each query of a segment meets, the same for all blocks; axes as in `attention`.

    Attributes:
      mask_bgqm: Whether it sees the input.
      span_bgqm: beta, of the time from the input's event to the predicted one.
    """

    mask_bgqm: Bool[Array, "b g q m"]
    span_bgqm: Int[Array, "b g q m"]


def span_of(seconds: Int[Array, "*any"]) -> Int[Array, "*any"]:
    """beta(D)."""
    spans = jnp.log(jnp.maximum(jnp.abs(seconds), 1).astype(jnp.float32)) / 0.301
    return jnp.minimum(spans.astype(jnp.int32), SPANS - 1)


def _norm(x: Float[Array, "*any c"], dtype: jnp.dtype) -> Float[Array, "*any c"]:
    return nn.LayerNorm(use_scale=False, use_bias=False, dtype=dtype)(x)


class HSTUBlock(nn.Module):
    """Gated attention with a residual.

    Attributes:
      config: Uses `attention_heads`, `attention_window`, `dropout` and `dtype`.
    """

    config: HSTUConfig

    @nn.compact
    def __call__(
        self,
        inputs_blc: Float[Array, "b l c"],
        tail_btc: Float[Array, "b t c2"],
        meetings: Meetings,
        events_b: Int[Array, " b"],
        train: bool,
    ) -> tuple[Float[Array, "b l c"], Float[Array, "b t c2"]]:
        """The block's output, and its keys and values for the next segment."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        lanes, length, width = inputs_blc.shape
        reach = config.attention_window - 1
        parts = Dense(4 * width, use_bias=False, dtype=dtype, name="join")(_norm(inputs_blc, dtype))
        gate_blc, row_blc, queries_blc = jnp.split(nn.silu(parts), [width, 3 * width], axis=-1)
        joined_bmc = jnp.concatenate([tail_btc.astype(row_blc.dtype), row_blc], axis=1)

        block, heads = meetings.mask_bgqm.shape[2], config.attention_heads
        seen_bgmc = key_blocks(joined_bmc, reach, block)
        keys, values = jnp.split(seen_bgmc.reshape(*seen_bgmc.shape[:-1], 2 * heads, -1), 2, -2)
        queries = query_blocks(queries_blc, block)
        scores_bgaqm = jnp.einsum(
            "bgqae,bgmae->bgaqm",
            queries.reshape(*queries.shape[:-1], heads, -1),
            keys,
            preferred_element_type=jnp.float32,
        )
        biases_bgqm = self._biases(meetings.span_bgqm)
        weights = nn.silu(scores_bgaqm + biases_bgqm[:, :, None]) / config.attention_window
        weights = jnp.where(meetings.mask_bgqm[:, :, None], weights, 0).astype(dtype)
        out_bgqae = jnp.einsum("bgaqm,bgmae->bgqae", weights, values)
        out_blc = out_bgqae.reshape(lanes, -1, width)[:, :length]

        gated_blc = Dropout(config.dropout)(gate_blc * _norm(out_blc, dtype), train)
        out_blc = inputs_blc + Dense(width, dtype=dtype, name="output")(gated_blc)
        return out_blc, kept_tail(joined_bmc, events_b, reach)

    def _biases(self, span_bgqm: Int[Array, "b g q m"]) -> Float[Array, "b g q m"]:
        """The biases p by age and r by time, together."""
        window, queries = self.config.attention_window, span_bgqm.shape[2]
        init = nn.initializers.normal(_BIAS_DEVIATION)
        age_n = self.param("age_bias", init, (window,))
        span_n = self.param("span_bias", init, (SPANS,))
        of_age_qm = by_place(jnp.broadcast_to(age_n, (queries, window)), window - 1)
        return of_age_qm + span_n[span_bgqm]


class HSTU(SequenceModel):
    """Predicts every event from the last items of the user and their times.

    Attributes:
      config: Its settings.
    """

    config: HSTUConfig

    def init_carry(self, b: int) -> HSTUCarry:
        """The state of `b` lanes before a user's first event."""
        config = self.config
        # A separate array for each block, because the steps donate the carry, and no array twice.
        tails = [
            init_attention_tail(
                b, config.attention_window, config.attention_dim, self.compute_dtype
            )
            for _ in range(config.attention_blocks)
        ]
        return HSTUCarry(
            jnp.zeros((b, self.input_dim), self.compute_dtype),
            jnp.zeros(b, jnp.int32),
            jnp.zeros((b, config.attention_window - 1), jnp.int32),
            tuple(tails),
        )

    def take_items(
        self,
        context: Context,
        ids_bl: Int[Array, "b l"],
        items_blc: Float[Array, "b l c"],
        carry: HSTUCarry,
    ) -> tuple[Before, HSTUCarry]:
        """The last item before each event and its time; see `SequenceModel.take_items`."""
        previous_blc, carry = super().take_items(context, ids_bl, items_blc, carry)
        joined_bm = jnp.concatenate([carry.last_seconds_b[:, None], context.seconds_bl], axis=1)
        last_b = kept_tail(joined_bm[..., None], context.events_b, 1)[:, 0, 0]
        return Before(previous_blc, joined_bm[:, :-1]), carry._replace(last_seconds_b=last_b)

    def before_next(self, carry: HSTUCarry) -> Before:
        """The last item and its time."""
        return Before(super().before_next(carry), carry.last_seconds_b[:, None])

    @nn.compact
    def run(
        self, context: Context, before: Before, carry: HSTUCarry, train: bool
    ) -> tuple[Float[Array, "b l d"], HSTUCarry]:
        """The predictions of a segment; see `SequenceModel.run`."""
        config, events_b = self.config, context.events_b
        starts_bl = context.user_position_bl == 0
        hidden_blc = Dense(config.attention_dim, dtype=self.compute_dtype, name="join_item")(
            self.with_start_token(before.previous_blc, starts_bl)
        )
        hidden_blc = Dropout(config.input_dropout)(hidden_blc, train)

        # The learned start is at the first event's own time, which is 0.
        seconds_bl = jnp.where(starts_bl, 0, before.seconds_bl)
        joined_bm = jnp.concatenate([carry.seconds_bt, seconds_bl], axis=1)
        meetings = _meetings(context, joined_bm, config.attention_window)
        tails = []
        for number, tail in enumerate(carry.tails):
            hidden_blc, tail = HSTUBlock(config, name=f"block_{number}")(
                hidden_blc, tail, meetings, events_b, train
            )
            tails.append(tail)
        seconds_bt = kept_tail(joined_bm[..., None], events_b, config.attention_window - 1)[..., 0]
        carry = carry._replace(seconds_bt=seconds_bt, tails=tuple(tails))
        return self.output(hidden_blc), carry


def _meetings(context: Context, seconds_bm: Int[Array, "b m"], window: int) -> Meetings:
    """Which inputs the queries of a segment meet.

    Args:
      context: Of the events that are predicted.
      seconds_bm: Times of the inputs: window - 1 before the segment, then the segment's.
      window: Inputs that a query sees.
    """
    reach, length = window - 1, context.seconds_bl.shape[1]
    block = block_length(length, reach)
    position_bgq = query_blocks(context.user_position_bl[..., None], block)[..., 0]
    now_bgq = query_blocks(context.seconds_bl[..., None], block)[..., 0]
    seconds_bgm = key_blocks(seconds_bm[..., None], reach, block)[..., 0]
    age_qm = np.arange(block)[:, None] + reach - np.arange(reach + block)
    near_qm = (age_qm >= 0) & (age_qm <= reach)
    mask_bgqm = jnp.asarray(near_qm) & (age_qm <= position_bgq[..., None])
    return Meetings(mask_bgqm, span_of(now_bgq[..., None] - seconds_bgm[:, :, None]))
