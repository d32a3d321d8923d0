"""Exact rank of a target over the whole catalogue, and the best k items.

The score of item i is <u, e_i> + b_i (`chunk_ranks`). The catalogue is taken in chunks of table
rows, so memory is bounded by n*chunk whatever its size; the table is not copied. The rank of a
target counts ties half,

    rank = 1 + #(items with a greater score) + 1/2 #(other items with the same score),

so that a model which gives every item the same score has every target in the middle.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.devices.mesh import MODEL
from hiertcn_jax.scoring.chunk_ranks import (
    ChunkScores,
    RankCounts,
    RankState,
    init_rank_state,
    products,
)


class _Part(NamedTuple):
    """The rows of a table that this device has: `held` of them, from `start` on.

    Within the module ids are places among them; items of other parts are outside. Where the table
    is whole (`rows` is None) nothing has to be asked of other devices.
    """

    start: Any
    held: int
    rows: int | None

    def places(self, ids: Any) -> Any:
        """Where these rows of the table are in the part."""
        return ids if self.rows is None or ids is None else ids - self.start

    def collect(self, score_n: Array, place_n: Array) -> Array:
        """Each target's score, from the part that has it; NaN if none has."""
        if self.rows is None:
            return score_n
        is_here_n = (place_n >= 0) & (place_n < self.held)
        score_n = jax.lax.psum(jnp.where(is_here_n, score_n, 0), MODEL)
        return jnp.where(jax.lax.psum(is_here_n.astype(jnp.int32), MODEL) > 0, score_n, jnp.nan)

    def total(self, counts: RankCounts) -> RankCounts:
        """The counts of all parts together."""
        if self.rows is None:
            return counts
        greater_n, equal_n, nan_n = (jax.lax.psum(x.astype(jnp.int32), MODEL) for x in counts)
        return RankCounts(greater_n, equal_n, nan_n > 0)


def rank_counts(
    u_nd: Float[Array, "n d"],
    target_n: Int[Array, " n"],
    table_vd: Float[Array, "v d"],
    bias_v: Float[Array, " v"] | None,
    chunk: int,
    seen_nk: Int[Array, "n k"] | None = None,
    whole_rows: int | None = None,
) -> RankCounts:
    """Counts the items that score above, and the same as, each target.

    A target's score comes out of the very product that its competitors' do (`chunk_ranks`). A
    catalogue of several chunks is therefore gone through twice, by one and the same loop body: for
    the targets' scores first, then to count. Where the events stand in the order of their targets,
    few chunks hold one of those, and the others are passed over the first time.

    Args:
      u_nd: What the model gives at each event.
      target_n: Table row of each event's target, FIRST_ITEM_ID..
      table_vd: Item embeddings. The rows of padding and unknown do not compete.
      bias_v: Item biases, if there are any.
      chunk: Table rows at a time.
      seen_nk: Rows left out of each event's competition; PADDING_ID is none. A target among them
        stays.
      whole_rows: Where `table_vd` is the part that this device has of a table whose rows lie over
        the mesh axis `model`: rows of the whole, without those that fill it up. The counts are then
        those of the whole table; its devices must all count, the same events.

    Returns:
      The counts of each event; pass them to `ranks_of`. Events passed in only to fill up n are the
      caller's to cut off.

    Raises:
      ValueError: `chunk` is below 1.
    """
    events = u_nd.shape[0]
    held = table_vd.shape[0]
    part = _Part(0 if whole_rows is None else jax.lax.axis_index(MODEL) * held, held, whole_rows)
    target_n, seen_nk = part.places(target_n), part.places(seen_nk)
    u_nd, target_n, seen_nk = (_at_least_two(x) for x in (u_nd, target_n, seen_nk))
    score, chunks = _chunked_scores(u_nd, table_vd, bias_v, chunk, part)
    state = init_rank_state(len(target_n))

    def look_up(scores: ChunkScores, state: RankState) -> RankState:
        return scores.look_up(state, target_n)

    def count(scores: ChunkScores, state: RankState) -> RankState:
        return scores.count_competitors(state, target_n, seen_nk)

    def collect(state: RankState) -> RankState:
        return state._replace(target_score_n=part.collect(state.target_score_n, target_n))

    rows, size = table_vd.shape[0], min(chunk, table_vd.shape[0])

    def go_through(i: Array, state: RankState) -> RankState:
        start = jnp.minimum((i % chunks) * size, rows - size)
        wanted = (i >= chunks) | jnp.any((target_n >= start) & (target_n < start + size))
        state = jax.lax.cond(
            wanted,
            lambda state: jax.lax.cond(i < chunks, look_up, count, score(i % chunks), state),
            lambda state: state,
            state,
        )
        if whole_rows is None:
            return state
        # Once, between the two ways through the catalogue.
        return jax.lax.cond(i == chunks - 1, collect, lambda state: state, state)

    if chunks == 1:
        scores = score(0)
        state = count(scores, collect(look_up(scores, state)))
    else:
        state = jax.lax.fori_loop(0, 2 * chunks, go_through, state)
    return jax.tree.map(lambda x_n: x_n[:events], part.total(state.counts))


def list_counts(
    u_nd: Float[Array, "n d"],
    rows_nkd: Float[Array, "n k d"],
    bias_nk: Float[Array, "n k"] | None,
    present_nk: Bool[Array, "n k"],
) -> RankCounts:
    """Counts the items of each event's own list that score above, and the same as, its target.

    Args:
      u_nd: What the model gives at each event.
      rows_nkd: Embeddings of the items of its list; the target's is the first.
      bias_nk: Their biases, if there are any.
      present_nk: False where a list has ended.

    Returns:
      The counts of each event; pass them to `ranks_of`.
    """
    # Sums, not a matrix product, which may give equal rows other scores by their place.
    scores_nk = jnp.sum(u_nd[:, None].astype(jnp.float32) * rows_nkd.astype(jnp.float32), -1)
    if bias_nk is not None:
        scores_nk += bias_nk
    target_n1, others_nk, competes_nk = scores_nk[:, :1], scores_nk[:, 1:], present_nk[:, 1:]
    return RankCounts(
        jnp.sum(competes_nk & (others_nk > target_n1), 1, dtype=jnp.int32),
        jnp.sum(competes_nk & (others_nk == target_n1), 1, dtype=jnp.int32),
        jnp.any(competes_nk & jnp.isnan(others_nk), 1) | jnp.isnan(target_n1[:, 0]),
    )


def _at_least_two(x: Any) -> Any:
    """One event as two equal ones; more than one, and None, as they are.

    A product of a matrix and a single vector is computed by other means: on CPU equal rows of the
    table then get scores that differ in the last bit, by their place.
    """
    return jnp.repeat(x, 2, 0) if x is not None and x.shape[0] == 1 else x


def _chunked_scores(
    u_nd: Array, table_vd: Array, bias_v: Array | None, chunk: int, part: _Part
) -> tuple[Callable[[Any], ChunkScores], int]:
    """A function from the number of a chunk to its scores, and how many chunks there are."""
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: must be >= 1")
    rows = table_vd.shape[0]
    chunk = min(chunk, rows)

    def score(number: Any) -> ChunkScores:
        first = jnp.asarray(number * chunk)
        start = jnp.minimum(first, rows - chunk)
        values_nc = products(u_nd, jax.lax.dynamic_slice_in_dim(table_vd, start, chunk))
        if bias_v is not None:
            values_nc += jax.lax.dynamic_slice_in_dim(bias_v, start, chunk)
        end = None if part.rows is None else part.rows - part.start
        return ChunkScores(values_nc, start, jnp.maximum(first, FIRST_ITEM_ID - part.start), end)

    return score, -(-rows // chunk)


def ranks_of(counts: RankCounts) -> np.ndarray:
    """The ranks that counts stand for, on the host; float64 [n], halves where there are ties.

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
    greater_n = np.asarray(counts.greater_n, np.float64)
    return 1 + greater_n + np.asarray(counts.equal_n, np.float64) / 2


def top_k(
    u_nd: Float[Array, "n d"],
    table_vd: Float[Array, "v d"],
    bias_v: Float[Array, " v"] | None,
    k: int,
    chunk: int,
    seen_nk: Int[Array, "n s"] | None = None,
) -> tuple[Int[Array, "n k"], Float[Array, "n k"]]:
    """The k best items of each event, best first; of equal scores the lower id comes first.

    Args:
      u_nd: What the model gives at each event.
      table_vd: Item embeddings. The rows of padding and unknown are not recommended.
      bias_v: Item biases, if there are any.
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
    events = u_nd.shape[0]
    u_nd, seen_nk = _at_least_two(u_nd), _at_least_two(seen_nk)
    score, chunks = _chunked_scores(u_nd, table_vd, bias_v, chunk, _Part(0, len(table_vd), None))

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
        jnp.full((len(u_nd), k), PADDING_ID, jnp.int32),
        jnp.full((len(u_nd), k), -jnp.inf),
    )
    ids_nk, scores_nk = jax.lax.fori_loop(0, chunks, merge, nothing)
    return ids_nk[:events], scores_nk[:events]
