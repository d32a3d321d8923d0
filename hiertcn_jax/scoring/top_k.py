"""The best k items of each event over the whole catalogue, exactly."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hiertcn_jax.batch import PADDING_ID
from hiertcn_jax.scoring.chunk_scores import at_least_two, chunked_scores
from hiertcn_jax.scoring.scores import Keys, Queries


def top_k(
    queries: Queries,
    keys: Keys,
    k: int,
    chunk: int,
    seen_nk: Int[Array, "n s"] | None = None,
) -> tuple[Int[Array, "n k"], Float[Array, "n k"]]:
    """The k best items of each event, best first; of equal scores the lower id comes first.

    Args:
      queries: Of n events.
      keys: Of the whole table. The rows of padding and unknown are not recommended.
      k: Items wanted.
      chunk: Table rows at a time.
      seen_nk: Rows not to recommend; PADDING_ID is none.

    Returns:
      Table rows (int32) and scores. Where fewer than k items are left, PADDING_ID and -inf. A NaN
      comes before any number, so it shows.

    Raises:
      ValueError: `chunk` or `k` is below 1.
    """
    if k < 1:
        raise ValueError(f"k={k}: must be >= 1")
    events = len(queries.vectors)
    queries, seen_nk = at_least_two((queries, seen_nk))
    score, chunks = chunked_scores(queries, keys, chunk)

    def merge(number: Any, best: tuple[Array, Array]) -> tuple[Array, Array]:
        scores = score(number)
        allowed_nc = jnp.broadcast_to(scores.in_catalogue(), scores.values_nc.shape)
        if seen_nk is not None:
            allowed_nc &= ~scores.is_seen(seen_nk)
        values_nc = jnp.where(allowed_nc, scores.values_nc, -jnp.inf)
        # The chunk's best alone meet the best so far, which have lower ids and stand before them.
        values_nk, places_nk = jax.lax.top_k(values_nc, min(k, values_nc.shape[1]))
        is_item_nk = jnp.take_along_axis(allowed_nc, places_nk, 1)
        ids_nk = jnp.where(is_item_nk, scores.start + places_nk, PADDING_ID)
        values_nk, order_nk = jax.lax.top_k(jnp.concatenate([best[1], values_nk], 1), k)
        ids_nk = jnp.take_along_axis(jnp.concatenate([best[0], ids_nk], 1), order_nk, 1)
        return ids_nk, values_nk

    nothing = (
        jnp.full((len(queries.vectors), k), PADDING_ID, jnp.int32),
        jnp.full((len(queries.vectors), k), -jnp.inf),
    )
    ids_nk, scores_nk = jax.lax.fori_loop(0, chunks, merge, nothing)
    return ids_nk[:events], scores_nk[:events]
