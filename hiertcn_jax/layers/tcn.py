"""The short-term level: dilated causal convolutions that stop at a session's start.

A tap at offset o reads the event o steps earlier. It counts only where `position >= o`, that is,
where that event belongs to the same session. This one mask keeps sessions, users and padding apart.
A tap that reaches past the start of the segment reads inputs kept from the previous segment.

Bai, Kolter, Koltun 2018 (arXiv 1803.01271), as HierTCN uses it.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from hiertcn_jax.config import ModelConfig
from hiertcn_jax.layers.dense import Dense
from hiertcn_jax.layers.dropout import Dropout
from hiertcn_jax.settings import setting

HELP_TOPIC = "models with a TCN"


@dataclasses.dataclass(frozen=True)
class TCNConfig(ModelConfig):
    """Settings of models with a TCN."""

    widths: ClassVar[tuple[str, ...]] = ("tcn_channels",)

    tcn_channels: tuple[int, ...] = setting(
        (128, 128, 128),
        "Channels of each temporal block, separated by commas.",
        at_least=1,
        filled=True,
    )
    kernel_size: int = setting(3, "Taps of each convolution.", at_least=1)
    dilation_base: int = setting(
        2, "Block i of the TCN has the dilation dilation_base**i.", at_least=1
    )
    convs_per_block: int = setting(
        1,
        "Convolutions in a temporal block: 1 as in the released code, 2 as in the TCN paper.",
        at_least=1,
        at_most=2,
    )
    residual: bool = setting(True, "Whether a temporal block adds its input to its output.")
    gated: bool = setting(
        False,
        "Multiply each output of a convolution by a learned gate from 0 to 1. Residuals then have"
        " no ReLU after the sum, and the output layer also reads the first block's input.",
    )


def receptive_field(config: TCNConfig) -> int:
    """How many events one output sees: 1 + convs_per_block * (kernel_size - 1) * sum of dilations.

    Example:
      >>> receptive_field(TCNConfig(tcn_channels=(64, 64), kernel_size=3, dilation_base=2))
      7
    """
    dilations = [config.dilation_base**block for block in range(len(config.tcn_channels))]
    return 1 + config.convs_per_block * (config.kernel_size - 1) * sum(dilations)


def kept_tail(
    joined_bmc: Shaped[Array, "b m c"], events_b: Int[Array, " b"], length: int
) -> Shaped[Array, "b t c"]:
    """The last `length` inputs of each lane, which the next segment reads.

    Args:
      joined_bmc: The tail kept so far, then the segment: m = length + l.
      events_b: Events in the segment (its padding is not part of the stream).
      length: Number of inputs to keep.
    """
    return jax.vmap(
        lambda joined_mc, events: jax.lax.dynamic_slice_in_dim(joined_mc, events, length)
    )(joined_bmc, events_b)


class CausalConv(nn.Module):
    """Session-masked causal dilated convolution.

        y_t = b + sum over k of W_k x_{t - k * dilation} * [position_t >= k * dilation]

    Attributes:
      features: Output channels.
      kernel_size: Number of taps.
      dilation: Distance between taps, in events.
      dtype: Type of the product.
    """

    features: int
    kernel_size: int
    dilation: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        inputs_blc: Float[Array, "b l c"],
        tail_btc: Float[Array, "b t c"],
        position_bl: Int[Array, "b l"],
        events_b: Int[Array, " b"],
    ) -> tuple[Float[Array, "b l f"], Float[Array, "b t c"]]:
        """The convolution, and the tail for the next segment; t = (kernel_size - 1) * dilation."""
        reach = (self.kernel_size - 1) * self.dilation
        length = inputs_blc.shape[1]
        joined_bmc = jnp.concatenate([tail_btc.astype(inputs_blc.dtype), inputs_blc], axis=1)
        taps = []
        for offset in range(reach, 0, -self.dilation):
            tap_blc = jax.lax.slice_in_dim(
                joined_bmc, reach - offset, reach - offset + length, axis=1
            )
            taps.append(jnp.where((position_bl >= offset)[..., None], tap_blc, 0))
        # One matrix product of all taps, concatenated, instead of kernel_size small ones.
        stacked_blc = jnp.concatenate([*taps, inputs_blc], axis=-1)
        out_blf = Dense(self.features, dtype=self.dtype, kernel_init=nn.initializers.he_normal())(
            stacked_blc
        )
        return out_blf, kept_tail(joined_bmc, events_b, reach)


class TemporalBlock(nn.Module):
    """One or two convolutions with the same dilation, each with ReLU and dropout, and a residual.

    plain:  y = relu(x + conv(x)),   conv(x) = relu(W * x)
    gated:  y = x + conv(x),         conv(x) = relu(W * x) sigmoid(V * x)

    The gates are those of van den Oord et al. 2016 (arXiv 1609.03499), with ReLU in place of tanh.

    Attributes:
      features: Channels.
      dilation: Dilation of its convolutions.
      config: Uses `kernel_size`, `convs_per_block`, `residual`, `gated`, `dropout` and `dtype`.
    """

    features: int
    dilation: int
    config: TCNConfig

    @nn.compact
    def __call__(
        self,
        inputs_blc: Float[Array, "b l c"],
        tails: Sequence[Float[Array, "b t _"]],
        position_bl: Int[Array, "b l"],
        events_b: Int[Array, " b"],
        train: bool,
    ) -> tuple[Float[Array, "b l f"], tuple[Float[Array, "b t _"], ...]]:
        """The block's output and its convolutions' tails."""
        dtype, gated = jnp.dtype(self.config.dtype), self.config.gated
        hidden = inputs_blc
        new_tails: list[Array] = []
        for index, tail in enumerate(tails):
            # One convolution gives both an output and its gate: the taps are read once.
            hidden, tail = CausalConv(
                2 * self.features if gated else self.features,
                self.config.kernel_size,
                self.dilation,
                dtype,
                name=f"conv_{index}",
            )(hidden, tail, position_bl, events_b)
            if gated:
                hidden, gate = jnp.split(hidden, 2, axis=-1)
                hidden = nn.relu(hidden) * nn.sigmoid(gate)
            else:
                hidden = nn.relu(hidden)
            hidden = Dropout(self.config.dropout)(hidden, train)
            new_tails.append(tail)
        if self.config.residual:
            if inputs_blc.shape[-1] != self.features:
                inputs_blc = Dense(self.features, dtype=dtype, name="skip")(inputs_blc)
            hidden = hidden + inputs_blc
            if not gated:
                hidden = nn.relu(hidden)
        return hidden, tuple(new_tails)


class TCN(nn.Module):
    """A stack of temporal blocks with growing dilation.

    Attributes:
      config: Uses `tcn_channels`, `dilation_base`, and the settings of a block.
    """

    config: TCNConfig

    @nn.compact
    def __call__(
        self,
        inputs_blc: Float[Array, "b l c"],
        tails: Sequence[Float[Array, "b _ _"]],
        position_bl: Int[Array, "b l"],
        events_b: Int[Array, " b"],
        train: bool = False,
    ) -> tuple[Float[Array, "b l f"], tuple[Float[Array, "b _ _"], ...]]:
        """Output of the last block at every event, and the tails of all convolutions.

        If the blocks are gated, the inputs are appended to the output.
        """
        hidden = inputs_blc
        new_tails: list[Array] = []
        per_block = self.config.convs_per_block
        for block, features in enumerate(self.config.tcn_channels):
            hidden, block_tails = TemporalBlock(
                features, self.config.dilation_base**block, self.config, name=f"block_{block}"
            )(
                hidden,
                tails[block * per_block : (block + 1) * per_block],
                position_bl,
                events_b,
                train,
            )
            new_tails.extend(block_tails)
        if self.config.gated:
            hidden = jnp.concatenate([hidden, inputs_blc], axis=-1)
        return hidden, tuple(new_tails)


def init_tails(config: TCNConfig, lanes: int) -> tuple[Float[Array, "b _ _"], ...]:
    """Zero tails of all convolutions, in the order in which `TCN` reads them."""
    tails = []
    width = config.tcn_channels[0]
    for block, features in enumerate(config.tcn_channels):
        reach = (config.kernel_size - 1) * config.dilation_base**block
        for _ in range(config.convs_per_block):
            tails.append(jnp.zeros((lanes, reach, width), jnp.dtype(config.dtype)))
            width = features
    return tuple(tails)
