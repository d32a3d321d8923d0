"""The scores of a chunk of the catalogue: which of its columns are items, and which were seen.

A catalogue is scored in chunks of table rows, so memory is bounded by n*chunk whatever its size.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.scoring.scores import Keys, Queries, row_scores


class ChunkScores(NamedTuple):
    """Scores of the table rows start..start+c-1, of which first.. to end are items to count.

    Rows below `first` were in a chunk before: the last chunk starts early enough to be full, so
    that the table needs no padding.

    Attributes:
      values_nc: float32. The scores.
      start: Table row of the first column.
      first: Table row of the first that is counted.
      end: Table row after the last that is counted; None where all are.
      held_from: Where the rows are those of a part of the table, and all of the above are places in
        it: the table row of the part's first.
    """

    values_nc: Array
    start: Array
    first: Array
    end: Any = None
    held_from: Any = 0

    def ids(self) -> Int[Array, " c"]:
        """Table rows of the columns."""
        return self.start + jnp.arange(self.values_nc.shape[1])

    def in_catalogue(self) -> Bool[Array, " c"]:
        """Which columns are items, and were in no chunk before."""
        ids_c = self.ids()
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


def chunked_scores(
    queries: Queries, keys: Keys, chunk: int, held_from: Any = 0, rows: int | None = None
) -> tuple[Callable[[Any], ChunkScores], int]:
    """A function from the number of a chunk to its scores, and how many chunks there are.

    Args:
      queries: Of n events, two or more (`at_least_two`).
      keys: Of the table, or of the part of it that this device has.
      chunk: Table rows at a time.
      held_from: Where the keys are a part: the table row of the first. `ChunkScores` then holds
        places in the part.
      rows: Where the keys are a part: rows of the whole, without those that fill it up.

    Raises:
      ValueError: `chunk` is below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: must be >= 1")
    queries, held = queries.cast(jnp.float32), keys.rows.shape[0]
    chunk = min(chunk, held)

    def score(number: Any) -> ChunkScores:
        first = jnp.asarray(number * chunk)
        start = jnp.minimum(first, held - chunk)
        of_chunk = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, chunk), keys)
        values_nc = row_scores(queries, of_chunk, held_from + start)
        end = None if rows is None else rows - held_from
        first = jnp.maximum(first, FIRST_ITEM_ID - held_from)
        return ChunkScores(values_nc, start, first, end, held_from)

    return score, -(-held // chunk)


def at_least_two(tree: Any) -> Any:
    """Arrays of one event as arrays of two equal ones; of more than one, and None, as they are.

    A product of a matrix and a single vector is computed by other means: on CPU equal rows of the
    table then get scores that differ in the last bit, by their place.
    """
    return jax.tree.map(lambda x: jnp.repeat(x, 2, 0) if x.shape[0] == 1 else x, tree)
