"""The items of the highest scores, gathered over chunks of the catalogue and over devices."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hiertcn_jax.batch import PADDING_ID
from hiertcn_jax.scoring.chunk_scores import ChunkScores

_GROUP = 32
"""Neighbouring columns whose highest score decides whether they are looked at one by one."""


class BestItems(NamedTuple):
    """The best items of each event so far, best first; of equal scores the lower id comes first.

    Attributes:
      ids_nk: int32. Table rows; PADDING_ID where there are fewer.
      scores_nk: float32. -inf there.
    """

    ids_nk: Any
    scores_nk: Any


def no_items(events: int, k: int) -> BestItems:
    """Nothing yet, of `k` items that are wanted."""
    ids_nk = np.full((events, k), PADDING_ID, np.int32)
    return BestItems(ids_nk, np.full((events, k), -np.inf, np.float32))


def take_in(best: BestItems, scores: ChunkScores, seen_nk: Int[Array, "n s"] | None) -> BestItems:
    """The best items after a chunk of higher ids; rows of the chunk that were seen are none.

    A NaN comes before any number, so it shows.
    """
    k = best.ids_nk.shape[1]
    allowed_nc = scores.competes(seen_nk)
    # The sign of a NaN would decide where it comes.
    values_nc = jnp.where(jnp.isnan(scores.values_nc), jnp.nan, scores.values_nc)
    values_nc = jnp.where(allowed_nc, values_nc, -jnp.inf)
    places_nk = highest_places(values_nc, min(k, values_nc.shape[1]))
    is_item_nk = jnp.take_along_axis(allowed_nc, places_nk, 1)
    values_nk = jnp.take_along_axis(values_nc, places_nk, 1)
    ids_nk = scores.held_from + scores.start + places_nk
    ids_nk = jnp.where(is_item_nk, ids_nk, PADDING_ID).astype(jnp.int32)
    # The chunk's best alone meet the best so far, which have lower ids and stand before them.
    both = BestItems(
        jnp.concatenate([best.ids_nk, ids_nk], 1), jnp.concatenate([best.scores_nk, values_nk], 1)
    )
    return first_of(both, k)


def first_of(items: BestItems, k: int) -> BestItems:
    """The best `k` of each event's items, which stand in the order of their ids where they tie."""
    scores_nk, order_nk = jax.lax.top_k(items.scores_nk, k)
    return BestItems(jnp.take_along_axis(items.ids_nk, order_nk, 1), scores_nk)


def highest_places(values_nc: Float[Array, "n c"], k: int) -> Int[Array, "n k"]:
    """Columns of the highest values, highest first; of equal ones the lower column comes first.

    A NaN without sign is higher than any number.

    Exact, but looks at few columns one by one: an item of the best k is in one of the k groups of
    neighbours with the highest maxima. On CPUs that takes half the time of `jax.lax.top_k`.
    """
    columns = values_nc.shape[1]
    if columns <= 2 * k * _GROUP:
        return jax.lax.top_k(values_nc, k)[1]
    room = [(0, 0), (0, -columns % _GROUP)]
    keys_ngc = jnp.pad(_as_integers(values_nc), room, constant_values=np.iinfo(np.int32).min)
    keys_ng = keys_ngc.reshape(len(values_nc), -1, _GROUP).max(-1)
    groups_nk = jnp.sort(jax.lax.top_k(_as_floats(keys_ng), k)[1], 1)
    # In the order of columns, so that the first of equal values has the lowest.
    columns_nm = (groups_nk[:, :, None] * _GROUP + jnp.arange(_GROUP)).reshape(len(values_nc), -1)
    candidates_nm = jnp.take_along_axis(values_nc, columns_nm, 1, mode="fill", fill_value=-jnp.inf)
    places_nk = jax.lax.top_k(candidates_nm, k)[1]
    return jnp.take_along_axis(columns_nm, places_nk, 1)


def _as_integers(values: Float[Array, "*x"]) -> Int[Array, "*x"]:
    """Integers of the order of these floats, whose maxima CPUs find faster."""
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    return bits ^ _flip(bits)


def _as_floats(keys: Int[Array, "*x"]) -> Float[Array, "*x"]:
    return jax.lax.bitcast_convert_type(keys ^ _flip(keys), jnp.float32)


def _flip(bits: Int[Array, "*x"]) -> Int[Array, "*x"]:
    """What turns the order of negative floats' bits around: all bits but the sign."""
    return jnp.where(bits < 0, np.int32(0x7FFFFFFF), np.int32(0))
