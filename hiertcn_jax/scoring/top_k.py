"""The best k items of each event over the whole catalogue, exactly."""

from typing import Any

import jax
from jaxtyping import Array, Float, Int

from hiertcn_jax.scoring.best_items import BestItems, no_items, take_in
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

    def merge(number: Any, best: BestItems) -> BestItems:
        return take_in(best, score(number), seen_nk)

    ids_nk, scores_nk = jax.lax.fori_loop(0, chunks, merge, no_items(len(queries.vectors), k))
    return ids_nk[:events], scores_nk[:events]
