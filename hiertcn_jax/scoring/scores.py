"""Defines the score of an item at an event, and the rank that scores give; nothing else does.

    score(i at n) = <u_n, e_i> + b_i + addition_n(i)

`Queries` are the side of the events, `Keys` that of the items. An event has additions for a short
list of items; without additions nothing is computed for them. Products are summed in float32 at
full precision; biases and additions are float32.

A rank counts ties half, so that for a model that gives all items the same score every target is in
the middle:

    rank = 1 + #(items with a greater score) + 1/2 #(other items with the same score)

Losses use the scores of targets and candidates; softmax and ranks use those of all rows of a table
or of a chunk; lists use those of each event's own rows.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.scoring.own_products import own_products, product

_UNROLLED = 8
"""Listed items that one pass over the candidates searches for."""


class Additions(NamedTuple):
    """Additions to the scores of a few items at each event: its list.

    Attributes:
      item_ids: int32 [*e, m]. Rows of the keys' table, an item at most once per event. Rows before
        FIRST_ITEM_ID are no items: PADDING_ID fills up a list.
      values: float32 [*e, m]. The addition for each; any value where there is no item.
    """

    item_ids: Any
    values: Any

    def is_item(self) -> Bool[Array, "*e m"]:
        """Which entries of the lists are items."""
        return self.item_ids >= FIRST_ITEM_ID

    def index_of(self, ids: Int[Array, "*e k"]) -> Int[Array, "*e k"]:
        """The index of each item on its event's list; -1 if it is not on it.

        One pass over the candidates for each entry of the lists, m*k comparisons per event. On CPUs
        that is 10 times as fast as sorting the lists.
        """
        listed = jnp.where(self.is_item(), self.item_ids, -1)

        def look(index: Any, found: Array) -> Array:
            item = jax.lax.dynamic_slice_in_dim(listed, index, 1, axis=-1)
            return jnp.where(ids == item, index, found)

        nowhere = jnp.full(ids.shape, -1, jnp.int32)
        return jax.lax.fori_loop(0, listed.shape[-1], look, nowhere, unroll=_UNROLLED)

    def of(self, ids: Int[Array, "*e k"]) -> Float[Array, "*e k"]:
        """The additions to the scores of items; 0 for those not on their event's list."""
        index = self.index_of(ids)
        values = jnp.take_along_axis(self.values, jnp.maximum(index, 0), -1)
        return jnp.where(index >= 0, values, 0)

    def columns(self, start: Any, size: int) -> Int[Array, "*e m"]:
        """The listed items' indices among `size` rows of the table from `start` on; else `size`.

        For `add_at_columns` and `at_columns`, which ignore indices past the end.
        """
        index = self.item_ids - start
        return jnp.where(self.is_item() & (index >= 0) & (index < size), index, size)


class Queries(NamedTuple):
    """The side of the events.

    Attributes:
      vectors: float [*e, d]. The model's prediction at each event.
      additions: Additions to the scores of some items, or None.
      time: int32 [*e, 1]. When each event happens, on the clock of `Keys.known_from`; None: all
        items are known to every event.
    """

    vectors: Any
    additions: Additions | None = None
    time: Any = None

    @property
    def listed(self) -> Additions | None:
        """The additions; also None if no list has room for an item."""
        additions = self.additions
        return None if additions is None or additions.item_ids.shape[-1] == 0 else additions

    def counted(self, weight: Float[Array, "*e"]) -> "Queries":
        """The queries, with zeros at events of weight 0: a NaN there would reach gradients."""
        counts = weight[..., None] > 0
        vectors, additions = jnp.where(counts, self.vectors, 0), self.listed
        if additions is not None:
            values = jnp.where(counts & additions.is_item(), additions.values, 0)
            additions = additions._replace(values=values)
        return self._replace(vectors=vectors, additions=additions)

    def cast(self, dtype: Any) -> "Queries":
        """The queries with vectors of another type; additions stay float32."""
        return self._replace(vectors=self.vectors.astype(dtype))

    def pick(self, places_n: Int[Array, " n"]) -> "Queries":
        """Selects events of a batch, [b, l, ..] -> [n, ..], by their index in the batch."""
        return jax.tree.map(lambda x: jnp.take(x.reshape(-1, x.shape[-1]), places_n, axis=0), self)


class Keys(NamedTuple):
    """The side of the items.

    Attributes:
      rows: float [v, d]. Item embeddings; [n, k, d] if each event has its own rows.
      bias: float32 [v], or [n, k]; None if there are no biases.
      known_from: int32 [v]. An item is known to events after this time; None: to all.
    """

    rows: Any
    bias: Any = None
    known_from: Any = None


def target_scores(queries: Queries, keys: Keys, item_ids: Int[Array, "*e"]) -> Float[Array, "*e"]:
    """Score of each event's target."""
    vectors = queries.vectors
    scores = product("...d,...d->...", vectors, keys.rows[item_ids].astype(vectors.dtype))
    if keys.bias is not None:
        scores += keys.bias[item_ids]
    if queries.listed is not None:
        scores += queries.listed.of(item_ids[..., None])[..., 0]
    return scores


def candidate_scores(
    queries: Queries, keys: Keys, candidate_ids: Int[Array, "*own k"], mesh: Mesh | None = None
) -> Float[Array, "*e k"]:
    """Scores of each event's candidates.

    Args:
      queries: Products use the type of their vectors, and are summed in float32.
      keys: In `rows` mode those of the batch; ids are then indices among them.
      candidate_ids: [k] if all events share them: one matrix product. [*e, k] if each has its own.
      mesh: The devices, if lanes (the events' first axis) are on several.
    """
    scores = _without_additions(queries, keys, candidate_ids, mesh)
    if queries.listed is not None:
        ids = jnp.broadcast_to(candidate_ids, scores.shape)
        scores += queries.listed.of(ids)
    return scores


def listed_scores(queries: Queries, keys: Keys, mesh: Mesh | None = None) -> Float[Array, "*e m"]:
    """Scores of the items on each event's own list; meaningless for entries without an item.

    Args:
      queries: With additions.
      keys: See `candidate_scores`.
      mesh: See `candidate_scores`.
    """
    listed = queries.additions
    assert listed is not None
    return _without_additions(queries, keys, listed.item_ids, mesh) + listed.values


def _without_additions(
    queries: Queries, keys: Keys, ids: Int[Array, "*own k"], mesh: Mesh | None
) -> Float[Array, "*e k"]:
    vectors = queries.vectors
    if ids.ndim == 1:
        scores = product("...d,kd->...k", vectors, keys.rows[ids].astype(vectors.dtype))
    else:
        scores = own_products(vectors, keys.rows, ids, mesh)
    return scores if keys.bias is None else scores + keys.bias[ids]


def row_scores(queries: Queries, keys: Keys, start: Any = 0) -> Float[Array, "n c"]:
    """Scores of all rows of a chunk of a table, at each of n events.

    Args:
      queries: As for `candidate_scores`.
      keys: Those of the chunk.
      start: Table row of the chunk's first row.
    """
    scores_nc = product("nd,cd->nc", queries.vectors, keys.rows.astype(queries.vectors.dtype))
    if keys.bias is not None:
        scores_nc += keys.bias
    if (listed := queries.listed) is not None:
        columns_nm = listed.columns(start, scores_nc.shape[1])
        scores_nc = scores_nc.at[_events(scores_nc), columns_nm].add(listed.values, mode="drop")
    return scores_nc


def known_items(queries: Queries, keys: Keys) -> Bool[Array, "n c"] | None:
    """Which rows of a chunk are items that each event can know; None if all are."""
    if queries.time is None or keys.known_from is None:
        return None
    return keys.known_from < queries.time


def at_columns(values_nc: Float[Array, "n c"], columns_nm: Int[Array, "n m"]) -> Array:
    """The values in some columns, chosen per event (`Additions.columns`); 0 past the end."""
    return jnp.take_along_axis(values_nc, columns_nm, 1, mode="fill", fill_value=0)


def without_columns(scores_nc: Float[Array, "n c"], columns_nm: Int[Array, "n m"]) -> Array:
    """The scores with -inf in some columns, chosen per event; ignores columns past the end."""
    return scores_nc.at[_events(scores_nc), columns_nm].set(-jnp.inf, mode="drop")


def _events(scores_nc: Array) -> Int[Array, "n 1"]:
    return jnp.arange(len(scores_nc))[:, None]


def list_scores(queries: Queries, keys: Keys, ids_nk: Int[Array, "n k"]) -> Float[Array, "n k"]:
    """Scores of each event's own rows: equal rows have equal scores, whatever their positions.

    Args:
      queries: Of n events.
      keys: The rows, [n, k, d].
      ids_nk: The items of the rows.
    """
    # Sums, because a matrix product may give equal rows different scores, by their position.
    vectors_n1d, rows_nkd = queries.vectors[:, None], keys.rows
    scores_nk = jnp.sum(vectors_n1d.astype(jnp.float32) * rows_nkd.astype(jnp.float32), -1)
    if keys.bias is not None:
        scores_nk += keys.bias
    return scores_nk if queries.listed is None else scores_nk + queries.listed.of(ids_nk)


def greater_and_equal(scores: Any, target: Any, competes: Any = True) -> tuple[Any, Any]:
    """Which competitors score above the target, and which exactly the same.

    Args:
      scores: Numpy or JAX.
      target: The target's own score, broadcastable.
      competes: Bool. Which scores count; never the target's.
    """
    return competes & (scores > target), competes & (scores == target)


def tied_rank(greater: Any, equal: Any) -> Any:
    """The rank of a target with this many competitors above it, and this many level with it.

    Example:
      >>> tied_rank(greater=2, equal=1)
      3.5
    """
    return 1 + greater + equal / 2


def rank_among(scores_k: np.ndarray, target: Any, competes_k: np.ndarray | bool = True) -> float:
    """The rank of one target, on the host; compares scores in float32.

    Args:
      scores_k: Scores of its competitors.
      target: Its own score.
      competes_k: Which scores are competitors'; never the target's.
    """
    scores_k, target = np.asarray(scores_k, np.float32), np.float32(target)
    above_k, level_k = greater_and_equal(scores_k, target, competes_k)
    return float(tied_rank(np.count_nonzero(above_k), np.count_nonzero(level_k)))
