"""Causal self-attention over a user's last events, whatever segments they are in.

    q_t, k_t, v_t = W_q x_t + b_q, W_k x_t + b_k, W_v x_t + b_v
    a_{t,i}       = softmax over i of q_t . (k_i + r_{t-i}) / sqrt(e),   0 <= t - i < window
    y_t           = sum over i of a_{t,i} v_i

in each of `a` heads of width e, side by side. r is a learned embedding of an event's age in events;
an embedding of the position in a segment would change with the cuts. The keys and values of the
last window - 1 events are kept for the next segment. So a segment costs l * (window - 1 + l)
products, or l * 2 * (window - 1) if it is longer and is computed in blocks.

Axes besides those of `batch`: g blocks of a segment, q queries of a block, m keys that a block
sees, a heads, e width of a head.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from hiertcn_jax.config import ModelConfig
from hiertcn_jax.layers.dense import Dense
from hiertcn_jax.layers.dropout import Dropout
from hiertcn_jax.layers.tcn import kept_tail
from hiertcn_jax.settings import setting

HELP_TOPIC = "models with attention"


@dataclasses.dataclass(frozen=True)
class AttentionConfig(ModelConfig):
    """Of a model with blocks of attention over the last events of a user."""

    widths: ClassVar[tuple[str, ...]] = ("attention_dim",)

    attention_dim: int = setting(128, "Width of the attention blocks.", at_least=1)
    attention_window: int = setting(
        50,
        "Events that one attention block sees, the newest included.",
        at_least=1,
    )
    attention_blocks: int = setting(2, "Attention blocks.", at_least=1)
    attention_heads: int = setting(
        1,
        "Heads of each attention block; they divide attention_dim.",
        at_least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention_dim % self.attention_heads:
            raise ValueError(
                f"attention_heads={self.attention_heads}: must divide "
                f"attention_dim={self.attention_dim}"
            )

    @property
    def width_unit(self) -> int:
        """Each head has an equal share of the width."""
        return self.attention_heads

    @property
    def reads(self) -> str:
        """See `ModelConfig.reads`. Each block sees so many of the block below."""
        events = self.attention_blocks * (self.attention_window - 1) + 1
        return f"the user's last {events} events"


def block_length(length: int, reach: int) -> int:
    """Number of queries in a block: the whole segment, or `reach` if that needs fewer products.

    Args:
      length: `l`.
      reach: How many earlier events a query sees.
    """
    return reach if 0 < 2 * reach <= length else length


def query_blocks(values_blc: Shaped[Array, "b l c"], block: int) -> Shaped[Array, "b g q c"]:
    """The segment in blocks of this length, filled up with 0."""
    lanes, length, width = values_blc.shape
    padded = jnp.pad(values_blc, ((0, 0), (0, -length % block), (0, 0)))
    return padded.reshape(lanes, -1, block, width)


def key_blocks(
    joined_bmc: Shaped[Array, "b m c"], reach: int, block: int
) -> Shaped[Array, "b g m2 c"]:
    """The keys each block of queries sees: its own, and the `reach` events before its first.

    Args:
      joined_bmc: `reach` events of earlier segments, then the segment.
      reach: How many earlier events a query sees.
      block: See `block_length`.
    """
    if joined_bmc.shape[1] == reach + block:
        return joined_bmc[:, None]
    # Blocks are as long as the reach, so a block sees itself and the one before.
    halves = query_blocks(joined_bmc, block)
    return jnp.concatenate([halves[:, :-1], halves[:, 1:]], axis=2)


def by_place(logits: Float[Array, "*batch q n"], reach: int) -> Float[Array, "*batch q m"]:
    """Turns logits indexed by age into logits indexed by key: key m has the age q + reach - m.

    For query q this reverses its ages, oldest first, and shifts them right by q. To shift without
    a gather, the logits are written in rows of q + n + 1 and read in rows one shorter, so that each
    row moves by one more than the row before.

    Args:
      logits: By age, n = reach + 1.
      reach: How many earlier events a query sees.

    Returns:
      m = reach + q. Keys that are younger than the query or out of its reach get 0.
    """
    *batch, queries, _ = logits.shape
    widened = jnp.pad(logits[..., ::-1], [(0, 0)] * (len(batch) + 1) + [(0, queries)])
    flat = widened.reshape(*batch, -1)[..., :-queries]
    return flat.reshape(*batch, queries, reach + queries)


class WindowAttention(nn.Module):
    """Self-attention of every event over itself and the `window - 1` events before it.

    Attributes:
      heads: `a`; must divide the width of the input.
      window: Number of events that one output sees.
      dropout: Share of attention weights dropped.
      dtype: Type of the products; the softmax is float32.
    """

    heads: int
    window: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        inputs_blc: Float[Array, "b l c"],
        tail_btc: Float[Array, "b t c2"],
        position_bl: Int[Array, "b l"],
        events_b: Int[Array, " b"],
        train: bool = False,
    ) -> tuple[Float[Array, "b l c"], Float[Array, "b t c2"]]:
        """The outputs, and keys and values for the next segment.

        Args:
          inputs_blc: Inputs of the segment.
          tail_btc: Keys and values, side by side, of the t = window - 1 events before the segment.
          position_bl: How many earlier events each event could see without the window's limit.
          events_b: Events in the segment.
          train: Turns on dropout (rng `dropout`).
        """
        lanes, length, width = inputs_blc.shape
        reach = self.window - 1
        block = block_length(length, reach)
        queries_blc = Dense(width, dtype=self.dtype, name="query")(inputs_blc)
        row_blc = Dense(2 * width, dtype=self.dtype, name="key_value")(inputs_blc)
        joined_bmc = jnp.concatenate([tail_btc.astype(row_blc.dtype), row_blc], axis=1)

        seen_bgmc = key_blocks(joined_bmc, reach, block)
        seen = seen_bgmc.reshape(*seen_bgmc.shape[:-1], 2, self.heads, -1)
        queries_bgqc = query_blocks(queries_blc, block)
        queries_bgqae = queries_bgqc.reshape(*queries_bgqc.shape[:-1], self.heads, -1)
        logits_bgaqm = self._logits(queries_bgqae, seen[..., 0, :, :])

        position_bgq = query_blocks(position_bl[..., None], block)[..., 0]
        age_qm = np.arange(block)[:, None] + reach - np.arange(reach + block)
        near_qm = (age_qm >= 0) & (age_qm <= reach)
        mask_bgqm = near_qm & (age_qm <= position_bgq[..., None])
        # Every event sees itself, padding too, so no row of the softmax is empty.
        weights = nn.softmax(jnp.where(mask_bgqm[:, :, None], logits_bgaqm, -jnp.inf))
        weights = Dropout(self.dropout)(weights, train).astype(self.dtype)
        out_bgqae = jnp.einsum("bgaqm,bgmae->bgqae", weights, seen[..., 1, :, :])
        out_blc = out_bgqae.reshape(lanes, -1, width)[:, :length]
        return out_blc, kept_tail(joined_bmc, events_b, reach)

    def _logits(
        self, queries_bgqae: Float[Array, "b g q a e"], keys_bgmae: Float[Array, "b g m a e"]
    ) -> Float[Array, "b g a q m"]:
        heads, features = queries_bgqae.shape[-2:]
        ages_nae = self.param(
            "age", nn.initializers.normal(features**-0.5), (self.window, heads, features)
        ).astype(self.dtype)
        by_key = jnp.einsum(
            "bgqae,bgmae->bgaqm", queries_bgqae, keys_bgmae, preferred_element_type=jnp.float32
        )
        by_age = jnp.einsum(
            "bgqae,nae->bgaqn", queries_bgqae, ages_nae, preferred_element_type=jnp.float32
        )
        return (by_key + by_place(by_age, self.window - 1)) * features**-0.5


def init_attention_tail(
    lanes: int, window: int, width: int, dtype: jnp.dtype
) -> Float[Array, "b t c2"]:
    """The initial keys and values of the events before a segment: zeros."""
    return jnp.zeros((lanes, window - 1, 2 * width), dtype)
