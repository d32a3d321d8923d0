"""Scores a chunk of the catalogue, and tells which of its columns are items, and which were seen.

Scoring a catalogue in chunks of table rows limits memory to n*chunk scores, whatever its size.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.scoring.scores import Keys, Queries, known_items, row_scores


class ChunkScores(NamedTuple):
    """Scores of the table rows start..start+c-1; rows first..end-1 are items to count.

    Rows below `first` were in an earlier chunk: the last chunk starts early enough to be full, so
    that the table needs no padding.

    Attributes:
      values_nc: float32. The scores.
      start: Table row of the first column.
      first: Table row of the first item to count.
      end: Table row after the last item to count; None: all count.
      held_from: If the rows are those of a part of the table, and all of the above are indices in
        it: the table row of the part's first row.
      known_nc: bool. Which columns are items that each event knows; None: it knows all.
    """

    values_nc: Array
    start: Array
    first: Array
    end: Any = None
    held_from: Any = 0
    known_nc: Any = None

    def ids(self) -> Int[Array, " c"]:
        """Table rows of the columns."""
        return self.start + jnp.arange(self.values_nc.shape[1])

    def in_catalogue(self) -> Bool[Array, " c"]:
        """Which columns are items that were in no earlier chunk."""
        ids_c = self.ids()
        is_item_c = ids_c >= self.first
        return is_item_c if self.end is None else is_item_c & (ids_c < self.end)

    def competes(self, seen_nk: Int[Array, "n k"] | None) -> Bool[Array, "n c"]:
        """Which columns each event's ranking counts: items of no earlier chunk, known, not seen."""
        competes_nc = jnp.broadcast_to(self.in_catalogue(), self.values_nc.shape)
        if self.known_nc is not None:
            competes_nc &= self.known_nc
        return competes_nc if seen_nk is None else competes_nc & ~self.is_seen(seen_nk)

    def is_seen(self, seen_nk: Int[Array, "n k"]) -> Bool[Array, "n c"]:
        """Which columns are among the table rows seen by each event."""
        place_nk = seen_nk - self.start
        size = self.values_nc.shape[1]
        # Indices past the end are dropped; a negative one would count from the end.
        place_nk = jnp.where(place_nk >= 0, place_nk, size)
        events_n1 = jnp.arange(len(seen_nk))[:, None]
        nothing = jnp.zeros(self.values_nc.shape, bool)
        return nothing.at[events_n1, place_nk].set(True, mode="drop")


def chunked_scores(
    queries: Queries, keys: Keys, chunk: int, held_from: Any = 0, rows: int | None = None
) -> tuple[Callable[[Any], ChunkScores], int]:
    """A function from the number of a chunk to its scores, and the number of chunks.

    Args:
      queries: Of n events, two or more (`at_least_two`).
      keys: Of the table, or of the part of it on this device.
      chunk: Table rows at a time.
      held_from: If the keys are a part: the table row of the first. `ChunkScores` then holds
        indices in the part.
      rows: If the keys are a part: rows of the whole table without padding.

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
        known_nc = known_items(queries, of_chunk)
        return ChunkScores(values_nc, start, first, end, held_from, known_nc)

    return score, -(-held // chunk)


def at_least_two(tree: Any) -> Any:
    """Duplicates arrays of a single event; returns those of several events, and None, unchanged.

    XLA computes a product with a single vector differently: on CPU equal rows of the table then get
    scores that differ in the last bit, depending on their position.
    """
    return jax.tree.map(lambda x: jnp.repeat(x, 2, 0) if x.shape[0] == 1 else x, tree)
