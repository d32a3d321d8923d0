"""Masked reductions, safe normalization, and sums of a segment's events by session.

A mask is True where a value counts. A value where it is False never affects a result or a gradient,
even if it is NaN or infinite. If everything is masked, sums and means are 0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Axis = int | tuple[int, ...] | None


def masked_sum(
    values: Float[Array, "..."], mask: Bool[Array, "..."], axis: Axis = None
) -> Float[Array, "..."]:
    """Sum of `values` where `mask` is True; 0 if nothing is.

    Args:
      values: Any shape.
      mask: Broadcastable to the shape of `values`.
      axis: Axes to sum over; all by default.

    Returns:
      `values` without the summed axes.

    Example:
      >>> values = jnp.asarray([1.0, 2.0, jnp.nan])
      >>> masked_sum(values, jnp.asarray([True, True, False])).item()
      3.0
    """
    return jnp.sum(jnp.where(mask, values, 0), axis)


def masked_mean(
    values: Float[Array, "..."], mask: Bool[Array, "..."], axis: Axis = None
) -> Float[Array, "..."]:
    """Mean of `values` where `mask` is True; 0 if nothing is.

    Args:
      values: Any shape.
      mask: Broadcastable to the shape of `values`.
      axis: Axes to average over; all by default.

    Returns:
      `values` without the averaged axes.
    """
    count = jnp.sum(jnp.broadcast_to(mask, values.shape), axis)
    return masked_sum(values, mask, axis) / jnp.maximum(count, 1).astype(values.dtype)


def safe_l2_normalize(
    x: Float[Array, "..."], axis: int = -1, eps: float = 1e-6
) -> Float[Array, "..."]:
    """`x / ||x||`, and 0 if `||x|| <= eps`.

    The derivative of a plain norm at 0 is NaN. So is that of `x / max(||x||, eps)`: the branch not
    taken is differentiated too, and 0 * inf is NaN. So this function replaces short vectors by
    constants before it takes their norm; their gradient is 0.

    Args:
      x: Vectors along `axis`, short enough that float32 holds the squared length (below 1e19).
      axis: The axis of the vectors' components.
      eps: The length up to which a vector counts as 0.

    Returns:
      Vectors of length 1 or 0, in the type of `x`. Lengths are computed in float32.
    """
    x_f32 = x.astype(jnp.float32)
    is_long = jnp.sum(x_f32**2, axis, keepdims=True) > eps**2
    safe_x = jnp.where(is_long, x_f32, 1)
    norm = jnp.sqrt(jnp.sum(safe_x**2, axis, keepdims=True))
    return jnp.where(is_long, safe_x / norm, 0).astype(x.dtype)


def session_members(
    session_bl: Int[Array, "b l"], mask_bl: Bool[Array, "b l"], sessions: int
) -> Bool[Array, "b l s"]:
    """Which events belong to which session slot of their segment.

    Args:
      session_bl: Index of each event's session in its segment.
      mask_bl: The events that count, for example all but padding.
      sessions: `s`, session slots in a segment.

    Returns:
      One-hot along `s`; all False for masked events.
    """
    return (session_bl[..., None] == jnp.arange(sessions)) & mask_bl[..., None]


def segment_count(members_bls: Bool[Array, "b l s"]) -> Int[Array, "b s"]:
    """Number of events in each session slot."""
    return jnp.sum(members_bls, 1, dtype=jnp.int32)


def segment_sum(
    values_bld: Float[Array, "b l d"], members_bls: Bool[Array, "b l s"]
) -> Float[Array, "b s d"]:
    """Sum of the events of each session slot; 0 for slots without events.

    A product with the one-hot matrix, not a scatter: accelerators are fast at products, and the
    order of summation is deterministic.

    Args:
      values_bld: One vector per event.
      members_bls: See `session_members`.

    Returns:
      float32 whatever the type of the values, because sums continue from segment to segment.
    """
    # 0 * NaN is NaN, so values without a session must not enter the product.
    values_bld = jnp.where(members_bls.any(-1, keepdims=True), values_bld, 0)
    return jnp.einsum(
        "bls,bld->bsd",
        members_bls.astype(values_bld.dtype),
        values_bld,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )


def segment_max(
    values_bld: Float[Array, "b l d"], members_bls: Bool[Array, "b l s"]
) -> Float[Array, "b s d"]:
    """Largest value, by component, over the events of each session slot.

    Args:
      values_bld: One vector per event.
      members_bls: See `session_members`.

    Returns:
      In the type of the values. -inf for slots without events, so that `jnp.maximum` combines the
      maxima of parts; `segment_count` tells those slots. Equal maxima share the gradient.
    """
    lanes, events, sessions = members_bls.shape
    if events == 1:
        return jnp.where(members_bls[:, 0, :, None], values_bld, -jnp.inf)
    # A masked maximum over [b, l, s, d] would need s times the memory of the values.
    slot_bl = jnp.arange(lanes)[:, None] * sessions + jnp.argmax(members_bls, -1)
    nowhere = lanes * sessions
    slot_bl = jnp.where(members_bls.any(-1), slot_bl, nowhere)
    width = values_bld.shape[-1]
    largest = jax.ops.segment_max(values_bld.reshape(-1, width), slot_bl.reshape(-1), nowhere)
    return largest.reshape(lanes, sessions, width)


def segment_last(
    values_bld: Float[Array, "b l d"], members_bls: Bool[Array, "b l s"]
) -> Float[Array, "b s d"]:
    """Value at the last event of each session slot; 0 for slots without events.

    Args:
      values_bld: One vector per event.
      members_bls: See `session_members`.

    Returns:
      In the type of the values.
    """
    places_l = jnp.arange(1, members_bls.shape[1] + 1)
    place_bs = jnp.max(jnp.where(members_bls, places_l[:, None], 0), 1)
    last_bsd = jnp.take_along_axis(values_bld, jnp.maximum(place_bs - 1, 0)[..., None], 1)
    return jnp.where(place_bs[..., None] > 0, last_bsd, 0)
