"""Exact rank of a target over the whole catalogue, or within a list.

The catalogue is scored in chunks of table rows (`chunk_scores`), without copying the table.
`scores` defines the score and how ties count.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from hiertcn_jax.batch import PADDING_ID
from hiertcn_jax.devices.mesh import MODEL
from hiertcn_jax.scoring.best_items import BestItems, first_of
from hiertcn_jax.scoring.chunk_ranks import (
    RankCounts,
    Ranking,
    RankState,
    count_among,
    count_competitors,
    init_rank_state,
    look_up,
)
from hiertcn_jax.scoring.chunk_scores import at_least_two, chunked_scores
from hiertcn_jax.scoring.scores import Keys, Queries, list_scores, tied_rank


class _Part(NamedTuple):
    """The rows of a table on this device: `held` of them, from `start` on.

    Within this module ids are indices among them; items of other parts are outside. If the table is
    whole (`rows` is None), no other device is asked.
    """

    start: Any
    held: int
    rows: int | None

    def indices(self, ids: Any) -> Any:
        """The indices of these table rows in the part."""
        return ids if self.rows is None or ids is None else ids - self.start

    def collect(self, score_n: Array, place_n: Array) -> Array:
        """Each target's score, from the part that contains it; NaN if none does."""
        if self.rows is None:
            return score_n
        is_here_n = (place_n >= 0) & (place_n < self.held)
        score_n = jax.lax.psum(jnp.where(is_here_n, score_n, 0), MODEL)
        return jnp.where(jax.lax.psum(is_here_n.astype(jnp.int32), MODEL) > 0, score_n, jnp.nan)

    def total(self, counts: RankCounts) -> RankCounts:
        """Sums the counts over all parts."""
        if self.rows is None:
            return counts
        greater_n, equal_n, nan_n = (jax.lax.psum(x.astype(jnp.int32), MODEL) for x in counts)
        return RankCounts(greater_n, equal_n, nan_n > 0)

    def best(self, best: BestItems) -> BestItems:
        """The best of all parts together."""
        if self.rows is None:
            return best
        # One part after the other: lower ids stand before higher ones.
        parts = [jax.lax.all_gather(x_nk, MODEL, axis=1, tiled=True) for x_nk in best]
        return first_of(BestItems(*parts), best.ids_nk.shape[1])


def rank(
    queries: Queries,
    keys: Keys,
    target_n: Int[Array, " n"],
    chunk: int,
    seen_nk: Int[Array, "n k"] | None = None,
    whole_rows: int | None = None,
    k: int = 0,
) -> Ranking:
    """Counts the items that score above, and the same as, each target; lists the best k.

    A target's score comes from the same product as its competitors' (`chunk_ranks`). So a catalogue
    of several chunks is read twice, by the same loop body: first for the targets' scores, then to
    count. If the events are sorted by target, few chunks contain one, and the first pass skips the
    others.

    Args:
      queries: Of n events.
      keys: Of the whole table. Padding and unknown do not compete.
      target_n: Table row of each event's target, FIRST_ITEM_ID..
      chunk: Table rows at a time.
      seen_nk: Rows left out of each event's competition; PADDING_ID is none. A target among them
        stays.
      whole_rows: If `keys` are this device's part of a table sharded over the mesh axis `model`:
        rows of the whole table without padding. The counts are then those of the whole table; all
        its devices must count, for the same events.
      k: Items of each event's list; 0: no lists.

    Returns:
      The counts and lists of each event. The caller drops events that only pad n.

    Raises:
      ValueError: `chunk` is below 1.

    Example:
      Rows 0 and 1 are padding and unknown; the target, row 3, ties with row 4 and loses to row 2.

      >>> keys = Keys(jnp.asarray([[0.0], [0.0], [3.0], [2.0], [2.0]]), None)
      >>> queries = Queries(jnp.ones((1, 1)), None)
      >>> ranks_of(rank(queries, keys, jnp.asarray([3]), chunk=3).counts)
      array([2.5])
    """
    events, held = len(target_n), keys.rows.shape[0]
    part = _Part(0 if whole_rows is None else jax.lax.axis_index(MODEL) * held, held, whole_rows)
    target_n, seen_nk = part.indices(target_n), part.indices(seen_nk)
    queries, target_n, seen_nk = at_least_two((queries, target_n, seen_nk))
    score, chunks = chunked_scores(queries, keys, chunk, part.start, part.rows)
    state = init_rank_state(len(target_n), k)

    def collect(state: RankState) -> RankState:
        return state._replace(target_score_n=part.collect(state.target_score_n, target_n))

    size = min(chunk, held)

    def go_through(i: Array, state: RankState) -> RankState:
        start = jnp.minimum((i % chunks) * size, held - size)
        wanted = (i >= chunks) | jnp.any((target_n >= start) & (target_n < start + size))

        def use(state: RankState) -> RankState:
            scores = score(i % chunks)
            return jax.lax.cond(
                i < chunks,
                lambda state: look_up(state, scores, target_n),
                lambda state: count_competitors(state, scores, target_n, seen_nk),
                state,
            )

        state = jax.lax.cond(wanted, use, lambda state: state, state)
        if whole_rows is None:
            return state
        # Once, between the two passes over the catalogue.
        return jax.lax.cond(i == chunks - 1, collect, lambda state: state, state)

    if chunks == 1:
        scores = score(0)
        state = collect(look_up(state, scores, target_n))
        state = count_competitors(state, scores, target_n, seen_nk)
    else:
        state = jax.lax.fori_loop(0, 2 * chunks, go_through, state)
    listed_nk = part.best(state.best).ids_nk if k else None
    return jax.tree.map(lambda x_n: x_n[:events], Ranking(part.total(state.counts), listed_nk))


def list_counts(queries: Queries, keys: Keys, ids_nk: Int[Array, "n k"]) -> RankCounts:
    """Counts the items of each event's own list that score above, and the same as, its target.

    Args:
      queries: Of n events.
      keys: Those of the lists' items, [n, k, d].
      ids_nk: The lists' items; the target is the first, PADDING_ID is none.

    Returns:
      The counts of each event; pass them to `ranks_of`.
    """
    scores_nk = list_scores(queries, keys, ids_nk)
    return count_among(scores_nk[:, 1:], scores_nk[:, 0], ids_nk[:, 1:] != PADDING_ID)


def ranks_of(counts: RankCounts) -> np.ndarray:
    """Converts counts to ranks, on the host; float64 [n], with halves for ties.

    Raises:
      ValueError: A score is NaN.
    """
    is_nan_n = np.asarray(counts.nan_n)
    if is_nan_n.any():
        where = np.flatnonzero(is_nan_n)
        raise ValueError(
            f"scores: NaN at {len(where)} of {len(is_nan_n)} events, the first is event {where[0]}"
            " (or its target is not in the item table)"
        )
    return tied_rank(*(np.asarray(counts_n, np.float64) for counts_n in counts[:2]))
