"""Pools a session into one vector, from a statistic that grows event by event.

The statistic is a value and the number of known items in it, so that a session can continue in the
next segment: `combine` joins two parts of a session, and `pooled` computes the vector.

    mean  value: sum          pooled: value / count
    max   value: maximum      pooled: value
    last  value: last item    pooled: value

A session without a known item pools to 0.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hiertcn_jax.layers import masking

Pooling = Literal["mean", "max", "last"]


class PoolState(NamedTuple):
    """Statistic of a session so far, for each lane or each slot.

    Attributes:
      value: float32 [..., c].
      known: float32 [...], number of known items.
    """

    value: Float[Array, "*batch c"]
    known: Float[Array, "*batch"]


def pool_slots(
    pooling: str,
    inputs_blc: Float[Array, "b l c"],
    known_bls: Bool[Array, "b l s"],
) -> PoolState:
    """Statistic of each session slot, from the events of this segment only.

    Args:
      pooling: mean, max or last.
      inputs_blc: Embeddings of the events' items.
      known_bls: `masking.session_members` of the events with known items.
    """
    segment = {
        "mean": masking.segment_sum,
        "max": masking.segment_max,
        "last": masking.segment_last,
    }[pooling]
    known_bs = masking.segment_count(known_bls)
    value_bsc = jnp.where((known_bs > 0)[..., None], segment(inputs_blc, known_bls), 0)
    return PoolState(value_bsc, known_bs.astype(jnp.float32))


def combine(pooling: str, before: PoolState, after: PoolState) -> PoolState:
    """Statistic of a session whose first part is `before` and whose second is `after`.

    Example:
      >>> before = PoolState(jnp.asarray([6.0]), jnp.asarray(2.0))
      >>> after = PoolState(jnp.asarray([3.0]), jnp.asarray(1.0))
      >>> pooled("mean", combine("mean", before, after)).tolist()
      [3.0]
    """
    known = before.known + after.known
    if pooling == "mean":
        return PoolState(before.value + after.value, known)
    new = jnp.maximum(before.value, after.value) if pooling == "max" else after.value
    value = jnp.where((before.known > 0)[..., None], new, after.value)
    return PoolState(jnp.where((after.known > 0)[..., None], value, before.value), known)


def pooled(pooling: str, state: PoolState) -> Float[Array, "*batch c"]:
    """The session's vector."""
    if pooling == "mean":
        return state.value / jnp.maximum(state.known, 1)[..., None]
    return state.value
