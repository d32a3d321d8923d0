"""SASRec with gated blocks.

Tikhonovich et al.: eSASRec: Enhancing Transformer-based Recommendations in a Modular Fashion,
RecSys 2025, with the blocks of LiGR (Borisyuk et al. 2025, arXiv 2502.03417) as in RecTools'
`ligr.py`. In each of `attention_blocks`:

    z_t = z_t + sigmoid(G_1 z_t + g_1) * Dropout(W_o Attention(LayerNorm(z))_t + b_o)
    f_t = LayerNorm(z_t)
    z_t = z_t + sigmoid(G_2 z_t + g_2) * Dropout(W_2 Dropout(silu(W_1 f_t) * (W_3 f_t)))
    u_t = W z_t + b

The gates read the block's input before its norm. Attention, its window, learned ages instead of
positions, and the carry are those of `sasrec`. The paper trains with sampled softmax of 256
items drawn uniformly for each event: `--own_negatives --negatives=uniform:256`.
"""

import dataclasses
import functools
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hiertcn_jax.layers.attention import AttentionConfig, WindowAttention
from hiertcn_jax.layers.dense import Dense
from hiertcn_jax.layers.dropout import Dropout
from hiertcn_jax.models.sasrec import SASRec
from hiertcn_jax.settings import setting

HELP_TOPIC = "model esasrec"


@dataclasses.dataclass(frozen=True)
class ESASRecConfig(AttentionConfig):
    """The settings of eSASRec."""

    name: Literal["esasrec"] = "esasrec"
    feed_forward_factor: int = setting(
        4,
        "Width of the inner layers of eSASRec's blocks, as a multiple of the block's width.",
        at_least=1,
    )


class GatedBlock(nn.Module):
    """Attention, then a gated product of two layers, each with a residual and a gate.

    Attributes:
      config: Uses `attention_heads`, `attention_window`, `feed_forward_factor`, `dropout` and
        `dtype`.
    """

    config: ESASRecConfig

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
        dense = functools.partial(Dense, dtype=dtype)
        linear = functools.partial(dense, use_bias=False)
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
        attended_blc = dense(width, name="attention_output")(attended_blc)
        gate_blc = nn.sigmoid(dense(width, name="attention_gate")(inputs_blc))
        inputs_blc = inputs_blc + gate_blc * drop(attended_blc)

        normal_blc = nn.LayerNorm(dtype=dtype, name="feed_forward_norm")(inputs_blc)
        inner = config.feed_forward_factor * width
        inner_blc = nn.silu(linear(inner, name="inner")(normal_blc))
        inner_blc = drop(inner_blc * linear(inner, name="inner_factor")(normal_blc))
        gate_blc = nn.sigmoid(dense(width, name="feed_forward_gate")(inputs_blc))
        return inputs_blc + gate_blc * drop(linear(width, name="outer")(inner_blc)), tail


class ESASRec(SASRec):
    """Predicts every event from the last items of the user.

    Attributes:
      config: Its settings.
    """

    config: ESASRecConfig

    def block(self, number: int) -> nn.Module:
        """See `SASRec.block`."""
        return GatedBlock(self.config, name=f"block_{number}")

    def end(self, hidden_blc: Float[Array, "b l c"]) -> Float[Array, "b l c"]:
        """The output layer reads the last block without a norm, as in RecTools."""
        return hidden_blc
