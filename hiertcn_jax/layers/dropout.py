"""Dropout with a quarter of the usual random bits."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def keep_mask(key: PRNGKeyArray, shape: tuple[int, ...], dropped: int) -> Array:
    """True with probability 1 - dropped/256, independently for each element.

    A generator makes 32 bits at a time, and a decision needs only eight, so four elements share a
    word. Each index of the first axis has its own words, so that with lanes on several devices each
    device makes its own.

    Args:
      key: PRNG key.
      shape: Shape of the mask, at least one axis.
      dropped: How many of 256 elements to drop on average.
    """
    lanes, each = shape[0], math.prod(shape[1:])
    words = jax.random.bits(key, (lanes, -(-each // 4)), jnp.uint32)
    bytes_ = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(lanes, -1)[:, :each]
    return bytes_.reshape(shape) >= dropped


class Dropout(nn.Module):
    """Sets a share of the values to 0 and scales up the others to keep the mean (rng `dropout`).

    Srivastava et al., JMLR 15 (2014).

    Attributes:
      rate: The share, in [0, 1); rounded to whole 256ths.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "..."], train: bool) -> Float[Array, "..."]:
        """`x` with values dropped if `train`, otherwise unchanged."""
        dropped = min(round(self.rate * 256), 255)
        if not train or not dropped:
            return x
        kept = keep_mask(self.make_rng("dropout"), x.shape, dropped)
        return jnp.where(kept, x * (256 / (256 - dropped)), 0).astype(x.dtype)
