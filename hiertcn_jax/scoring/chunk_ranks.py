"""One chunk of the catalogue: its scores, and what they say of the ranks of targets.

The score of item i is <u, e_i> + b_i in float32, at full precision. A target's score is looked up
in the very product that its competitors' come from: out of another it could differ in the last bit,
and ties would be lost.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from hiertcn_jax.batch import FIRST_ITEM_ID


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


class ChunkScores(NamedTuple):
    """Scores of the table rows start..start+c-1, of which first.. to end are items to count.

    Rows below `first` were in a chunk before: the last chunk starts early enough to be full, so
    that the table needs no padding.

    Attributes:
      values_nc: float32. The scores.
      start: Table row of the first column.
      first: Table row of the first that is counted.
      end: Table row behind the last that is counted; None where all are.
    """

    values_nc: Array
    start: Array
    first: Array
    end: Any = None

    def in_catalogue(self) -> Bool[Array, " c"]:
        """Which columns are items, and were in no chunk before."""
        ids_c = self._ids()
        is_item_c = ids_c >= self.first
        return is_item_c if self.end is None else is_item_c & (ids_c < self.end)

    def is_seen(self, seen_nk: Int[Array, "n k"]) -> Bool[Array, "n c"]:
        """Which columns are among the table rows seen by each event."""
        place_nk = seen_nk - self.start
        size = self.values_nc.shape[1]
        # Past the end is dropped; a negative place would count from the end.
        place_nk = jnp.where(place_nk >= 0, place_nk, size)
        events_n1 = jnp.arange(len(seen_nk))[:, None]
        nothing = jnp.zeros(self.values_nc.shape, bool)
        return nothing.at[events_n1, place_nk].set(True, mode="drop")

    def look_up(self, state: RankState, target_n: Int[Array, " n"]) -> RankState:
        """The state with the scores of the targets that are in this chunk."""
        place_n = target_n - self.start
        size = self.values_nc.shape[1]
        found_n1 = jnp.take_along_axis(self.values_nc, jnp.clip(place_n, 0, size - 1)[:, None], 1)
        is_here_n = (place_n >= 0) & (place_n < size)
        return state._replace(
            target_score_n=jnp.where(is_here_n, found_n1[:, 0], state.target_score_n)
        )

    def count_competitors(
        self, state: RankState, target_n: Int[Array, " n"], seen_nk: Int[Array, "n k"] | None
    ) -> RankState:
        """The state with the competitors in this chunk counted; targets' scores are known."""
        competes_nc = self.in_catalogue() & (self._ids() != target_n[:, None])
        if seen_nk is not None:
            competes_nc &= ~self.is_seen(seen_nk)
        target_n1 = state.target_score_n[:, None]
        greater_nc = competes_nc & (self.values_nc > target_n1)
        equal_nc = competes_nc & (self.values_nc == target_n1)
        is_nan_nc = competes_nc & jnp.isnan(self.values_nc)
        before = state.counts
        counts = RankCounts(
            before.greater_n + jnp.sum(greater_nc, 1, dtype=jnp.int32),
            before.equal_n + jnp.sum(equal_nc, 1, dtype=jnp.int32),
            before.nan_n | jnp.any(is_nan_nc, 1) | jnp.isnan(state.target_score_n),
        )
        return state._replace(counts=counts)

    def _ids(self) -> Int[Array, " c"]:
        return self.start + jnp.arange(self.values_nc.shape[1])


def products(u_nd: Float[Array, "n d"], rows_cd: Float[Array, "c d"]) -> Float[Array, "n c"]:
    """Inner products in float32, at full precision."""
    return jnp.einsum(
        "nd,cd->nc",
        u_nd.astype(jnp.float32),
        rows_cd.astype(jnp.float32),
        precision=jax.lax.Precision.HIGHEST,
    )


def rank_chunk(
    state: RankState,
    rows_cd: Float[Array, "c d"],
    start: Int[Array, ""],
    first: Int[Array, ""],
    looks_up: Bool[Array, ""],
    u_nd: Float[Array, "n d"],
    target_n: Int[Array, " n"],
    seen_nk: Int[Array, "n k"] | None = None,
) -> RankState:
    """`ranking.rank_counts`, one chunk at a time, of a catalogue that is not there as a whole.

    The chunks are gone through twice, by this same function: those with a target to look their
    scores up, then all of them to count. All are of one size.

    Args:
      state: Behind the chunks before.
      rows_cd: The chunk's item embeddings.
      start: Table row of the first of them.
      first: Table row of the first that was in no chunk before.
      looks_up: Whether targets are looked up, or competitors counted.
      u_nd: What the model gives at each event; two or more.
      target_n: As in `ranking.rank_counts`.
      seen_nk: Likewise.
    """
    scores = ChunkScores(products(u_nd, rows_cd), start, jnp.maximum(first, FIRST_ITEM_ID))
    return jax.lax.cond(
        looks_up,
        lambda state: scores.look_up(state, target_n),
        lambda state: scores.count_competitors(state, target_n, seen_nk),
        state,
    )
