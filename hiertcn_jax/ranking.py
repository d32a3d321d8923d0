"""Exact rank of a target over the whole catalogue, and the best k items.

The score of item i is <u, e_i> + b_i in float32, at full precision. The catalogue is taken in
chunks of table rows, so memory is bounded by n*chunk whatever its size; the table is not copied.
The rank of a target counts ties half,

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
from hiertcn_jax.mesh import MODEL


class RankCounts(NamedTuple):
    """What stands before each target in the order of scores.

    Attributes:
      greater_n: int32. Items with a greater score.
      equal_n: int32. Other items with the same score.
      nan_n: bool. The score of the target or of a competitor is NaN, or the target is no row of
        the table: the counts mean nothing.
    """

    greater_n: Any
    equal_n: Any
    nan_n: Any


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


class _Scores(NamedTuple):
    """Scores of the table rows start..start+c-1, of which first.. to end are items to count.

    Rows below `first` were in a chunk before: the last chunk starts early enough to be full, so
    that the table needs no padding.
    """

    values_nc: Array
    start: Array
    first: Array
    end: Any = None

    @property
    def ids_c(self) -> Array:
        return self.start + jnp.arange(self.values_nc.shape[1])


def rank_counts(
    u_nd: Float[Array, "n d"],
    target_n: Int[Array, "n"],
    table_vd: Float[Array, "v d"],
    bias_v: Float[Array, "v"] | None,
    chunk: int,
    seen_nk: Int[Array, "n k"] | None = None,
    whole_rows: int | None = None,
) -> RankCounts:
    """Counts the items that score above, and the same as, each target.

    A target's score is looked up in the very product that its competitors' come from: out of
    another it could differ in the last bit, and ties would be lost. A catalogue of several chunks
    is therefore gone through twice, by one and the same loop body: for the targets' scores first,
    then to count. Where the events stand in the order of their targets, few chunks hold one of
    those, and the others are passed over the first time.

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
    target_score_n = jnp.full(target_n.shape, jnp.nan)
    nothing_n = jnp.zeros(target_n.shape, jnp.int32)
    counts = RankCounts(nothing_n, nothing_n, nothing_n > 0)

    def look_up(scores: _Scores, target_score_n: Array, counts: RankCounts) -> tuple:
        return _look_up(scores, target_n, target_score_n), counts

    def count(scores: _Scores, target_score_n: Array, counts: RankCounts) -> tuple:
        found = _count(scores, target_n, target_score_n, seen_nk)
        added = (counts.greater_n + found.greater_n, counts.equal_n + found.equal_n)
        return target_score_n, RankCounts(*added, counts.nan_n | found.nan_n)

    rows, size = table_vd.shape[0], min(chunk, table_vd.shape[0])

    def go_through(i: Array, state: tuple) -> tuple:
        start = jnp.minimum((i % chunks) * size, rows - size)
        wanted = (i >= chunks) | jnp.any((target_n >= start) & (target_n < start + size))
        state = jax.lax.cond(
            wanted,
            lambda state: jax.lax.cond(i < chunks, look_up, count, score(i % chunks), *state),
            lambda state: state,
            state,
        )
        if whole_rows is None:
            return state
        # Once, between the two ways through the catalogue.
        collected_n = jax.lax.cond(
            i == chunks - 1, lambda x_n: part.collect(x_n, target_n), lambda x_n: x_n, state[0]
        )
        return collected_n, state[1]

    if chunks == 1:
        scores = score(0)
        found_n, _ = look_up(scores, target_score_n, counts)
        state = count(scores, part.collect(found_n, target_n), counts)
    else:
        state = jax.lax.fori_loop(0, 2 * chunks, go_through, (target_score_n, counts))
    return jax.tree.map(lambda x_n: x_n[:events], part.total(state[1]))


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
) -> tuple[Callable[[Any], _Scores], int]:
    """A function from the number of a chunk to its scores, and how many chunks there are."""
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: must be >= 1")
    rows = table_vd.shape[0]
    chunk = min(chunk, rows)

    def score(number: Any) -> _Scores:
        first = jnp.asarray(number * chunk)
        start = jnp.minimum(first, rows - chunk)
        values_nc = _products(u_nd, jax.lax.dynamic_slice_in_dim(table_vd, start, chunk))
        if bias_v is not None:
            values_nc += jax.lax.dynamic_slice_in_dim(bias_v, start, chunk)
        end = None if part.rows is None else part.rows - part.start
        return _Scores(values_nc, start, jnp.maximum(first, FIRST_ITEM_ID - part.start), end)

    return score, -(-rows // chunk)


def _products(u_nd: Array, rows_cd: Array) -> Array:
    """Inner products in float32, at full precision."""
    return jnp.einsum(
        "nd,cd->nc",
        u_nd.astype(jnp.float32),
        rows_cd.astype(jnp.float32),
        precision=jax.lax.Precision.HIGHEST,
    )


def _look_up(scores: _Scores, target_n: Array, target_score_n: Array) -> Array:
    """The targets' scores, where they are in this chunk."""
    place_n = target_n - scores.start
    size = scores.values_nc.shape[1]
    found_n = jnp.take_along_axis(scores.values_nc, jnp.clip(place_n, 0, size - 1)[:, None], 1)[
        :, 0
    ]
    return jnp.where((place_n >= 0) & (place_n < size), found_n, target_score_n)


def _count(
    scores: _Scores, target_n: Array, target_score_n: Array, seen_nk: Array | None
) -> RankCounts:
    """The counts of the competitors in this chunk."""
    competes_nc = _in_catalogue(scores) & (scores.ids_c != target_n[:, None])
    if seen_nk is not None:
        competes_nc &= ~_is_seen(scores, seen_nk)
    target_score_n1 = target_score_n[:, None]
    return RankCounts(
        jnp.sum(competes_nc & (scores.values_nc > target_score_n1), 1, dtype=jnp.int32),
        jnp.sum(competes_nc & (scores.values_nc == target_score_n1), 1, dtype=jnp.int32),
        jnp.any(competes_nc & jnp.isnan(scores.values_nc), 1) | jnp.isnan(target_score_n),
    )


def _in_catalogue(scores: _Scores) -> Array:
    """Which rows are items, and were in no chunk before; bool [c]."""
    is_item_c = scores.ids_c >= scores.first
    return is_item_c if scores.end is None else is_item_c & (scores.ids_c < scores.end)


def _is_seen(scores: _Scores, seen_nk: Array) -> Array:
    """Which of the chunk's rows are among those seen by each event; bool [n, c]."""
    place_nk = seen_nk - scores.start
    size = scores.values_nc.shape[1]
    # Past the end is dropped; a negative place would count from the end.
    place_nk = jnp.where(place_nk >= 0, place_nk, size)
    events_n1 = jnp.arange(len(seen_nk))[:, None]
    nothing = jnp.zeros(scores.values_nc.shape, bool)
    return nothing.at[events_n1, place_nk].set(True, mode="drop")


class RankState(NamedTuple):
    """What is known of each event's rank behind some chunks of the catalogue.

    Attributes:
      target_score_n: float32. NaN before the target's chunk was looked at.
      counts: Of the chunks that were counted.
    """

    target_score_n: Any
    counts: RankCounts


def init_rank_state(events: int) -> RankState:
    """Nothing is known yet."""
    nothing_n = np.zeros(events, np.int32)
    counts = RankCounts(nothing_n, nothing_n, nothing_n > 0)
    return RankState(np.full(events, np.nan, np.float32), counts)


def rank_chunk(
    state: RankState,
    rows_cd: Float[Array, "c d"],
    start: Int[Array, ""],
    first: Int[Array, ""],
    looks_up: Bool[Array, ""],
    u_nd: Float[Array, "n d"],
    target_n: Int[Array, "n"],
    seen_nk: Int[Array, "n k"] | None = None,
) -> RankState:
    """`rank_counts`, one chunk at a time, of a catalogue that is not there as a whole.

    The chunks are gone through twice, by this same function: those with a target to look their
    scores up, then all of them to count. All are of one size.

    Args:
      state: Behind the chunks before.
      rows_cd: The chunk's item embeddings.
      start: Table row of the first of them.
      first: Table row of the first that was in no chunk before.
      looks_up: Whether targets are looked up, or competitors counted.
      u_nd: What the model gives at each event; two or more.
      target_n: As in `rank_counts`.
      seen_nk: Likewise.
    """
    scores = _Scores(_products(u_nd, rows_cd), start, jnp.maximum(first, FIRST_ITEM_ID))

    def look_up(state: RankState) -> RankState:
        return state._replace(target_score_n=_look_up(scores, target_n, state.target_score_n))

    def count(state: RankState) -> RankState:
        found, counts = _count(scores, target_n, state.target_score_n, seen_nk), state.counts
        added = (counts.greater_n + found.greater_n, counts.equal_n + found.equal_n)
        return state._replace(counts=RankCounts(*added, counts.nan_n | found.nan_n))

    return jax.lax.cond(looks_up, look_up, count, state)


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
    bias_v: Float[Array, "v"] | None,
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
        allowed_nc = jnp.broadcast_to(_in_catalogue(scores), scores.values_nc.shape)
        if seen_nk is not None:
            allowed_nc &= ~_is_seen(scores, seen_nk)
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
