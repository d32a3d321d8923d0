"""The exact best k items of each event over the whole catalogue."""

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
    """The k best items of each event, best first; equal scores in the order of their ids.

    Args:
      queries: Of n events.
      keys: Of the whole table. Padding and unknown are never recommended.
      k: Number of items.
      chunk: Table rows at a time.
      seen_nk: Rows not to recommend; PADDING_ID is none.

    Returns:
      Table rows (int32) and scores; PADDING_ID and -inf if fewer than k items are left. NaN comes
      before any number, so it is noticed.

    Raises:
      ValueError: `chunk` or `k` is below 1.

    Example:
      >>> import numpy as np
      >>> keys = Keys(np.array([[0.0], [0.0], [1.0], [3.0], [2.0]], np.float32), None)
      >>> queries = Queries(np.ones((1, 1), np.float32), None)
      >>> ids, scores = top_k(queries, keys, k=2, chunk=5)
      >>> ids.tolist(), scores.tolist()
      ([[3, 4]], [[3.0, 2.0]])
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
