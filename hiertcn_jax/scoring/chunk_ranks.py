"""Computes ranks of targets, and the top items, from one chunk of the catalogue at a time.

A target's score comes from the same product as its competitors' scores. From another product it
could differ in the last bit, and ties would be lost.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.scoring.best_items import BestItems, no_items, take_in
from hiertcn_jax.scoring.chunk_scores import ChunkScores
from hiertcn_jax.scoring.scores import (
    Keys,
    Queries,
    greater_and_equal,
    known_items,
    row_scores,
)


class RankCounts(NamedTuple):
    """Counts of the items ahead of, and level with, each target.

    Attributes:
      greater_n: int32. Items with a greater score.
      equal_n: int32. Other items with the same score.
      nan_n: bool. The score of the target or of a competitor is NaN, or the target is no row of
        the table: the counts are meaningless.
    """

    greater_n: Any
    equal_n: Any
    nan_n: Any


class RankState(NamedTuple):
    """What is known of each event's rank after some chunks of the catalogue.

    Attributes:
      target_score_n: float32. NaN until the target's chunk has been seen.
      counts: Counts over the chunks so far.
      best: Items with the highest scores in these chunks.
    """

    target_score_n: Any
    counts: RankCounts
    best: BestItems


class Ranking(NamedTuple):
    """The ranks of targets, and the recommendations at their events.

    Attributes:
      counts: Pass them to `ranks.ranks_of`.
      listed_nk: int32. The items with the highest scores, best first, equal scores in the order of
        their ids, filled up with PADDING_ID. None if no list was made. Rows left out of the
        competition are not in it, even a target.
    """

    counts: RankCounts
    listed_nk: Any = None


def init_rank_state(events: int, k: int) -> RankState:
    """The state before any chunk; lists have `k` items, possibly 0."""
    nothing_n = np.zeros(events, np.int32)
    counts = RankCounts(nothing_n, nothing_n, nothing_n > 0)
    return RankState(np.full(events, np.nan, np.float32), counts, no_items(events, k))


def look_up(state: RankState, scores: ChunkScores, target_n: Int[Array, " n"]) -> RankState:
    """Adds the scores of the targets in this chunk."""
    place_n = target_n - scores.start
    size = scores.values_nc.shape[1]
    found_n1 = jnp.take_along_axis(scores.values_nc, jnp.clip(place_n, 0, size - 1)[:, None], 1)
    is_here_n = (place_n >= 0) & (place_n < size)
    return state._replace(target_score_n=jnp.where(is_here_n, found_n1[:, 0], state.target_score_n))


def count_competitors(
    state: RankState,
    scores: ChunkScores,
    target_n: Int[Array, " n"],
    seen_nk: Int[Array, "n k"] | None,
) -> RankState:
    """Counts the competitors in this chunk, and merges its best items with the best so far.

    All targets' scores must be known.
    """
    competes_nc = scores.competes(seen_nk) & (scores.ids() != target_n[:, None])
    before = state.counts
    chunk = count_among(scores.values_nc, state.target_score_n, competes_nc)
    counts = RankCounts(
        before.greater_n + chunk.greater_n,
        before.equal_n + chunk.equal_n,
        before.nan_n | chunk.nan_n,
    )
    best = take_in(state.best, scores, seen_nk) if state.best.ids_nk.shape[1] else state.best
    return state._replace(counts=counts, best=best)


def count_among(
    scores_nk: Float[Array, "n k"],
    target_score_n: Float[Array, " n"],
    competes_nk: Bool[Array, "n k"],
) -> RankCounts:
    """Counts the competitors above each target, and level with it.

    Args:
      scores_nk: Scores of the competitors.
      target_score_n: Scores of the targets.
      competes_nk: Which scores count; never the target's.
    """
    greater_nk, equal_nk = greater_and_equal(scores_nk, target_score_n[:, None], competes_nk)
    is_nan_nk = competes_nk & jnp.isnan(scores_nk)
    # One reduction for all three takes a third of the time on CPUs.
    counted_nk = tuple(x_nk.astype(jnp.int32) for x_nk in (greater_nk, equal_nk, is_nan_nk))
    greater_n, equal_n, nans_n = jax.lax.reduce(
        counted_nk, (jnp.int32(0),) * 3, lambda a, b: tuple(map(jnp.add, a, b)), (1,)
    )
    return RankCounts(greater_n, equal_n, (nans_n > 0) | jnp.isnan(target_score_n))


def rank_chunk(
    state: RankState,
    keys: Keys,
    start: Int[Array, ""],
    first: Int[Array, ""],
    looks_up: Bool[Array, ""],
    queries: Queries,
    target_n: Int[Array, " n"],
    seen_nk: Int[Array, "n k"] | None = None,
) -> RankState:
    """`ranks.rank`, one chunk at a time, for a catalogue that is not in memory as a whole.

    Pass the chunks twice through this function: first those with a target, to find the targets'
    scores, then all of them, to count. All chunks have the same size.

    Args:
      state: After the chunks so far.
      keys: The chunk's keys.
      start: Table row of the first of them.
      first: Table row of the first that was in no earlier chunk.
      looks_up: True: find targets' scores. False: count competitors.
      queries: Of two or more events.
      target_n: As in `ranks.rank`.
      seen_nk: As in `ranks.rank`.
    """
    values_nc = row_scores(queries.cast(jnp.float32), keys, start)
    scores = ChunkScores(
        values_nc,
        start,
        jnp.maximum(first, FIRST_ITEM_ID),
        known_nc=known_items(queries, keys),
    )
    return jax.lax.cond(
        looks_up,
        lambda state: look_up(state, scores, target_n),
        lambda state: count_competitors(state, scores, target_n, seen_nk),
        state,
    )
