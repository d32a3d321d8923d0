"""Softmax of each event's target against candidates that all events share, without storing scores.

    loss_n = log( e^{s_n} + sum_{j: id_j not in X_n} e^{score(j at n)} ) - s_n

X_n holds the target, and other items that the event counts separately (its own negatives, in s_n).
Full softmax (candidates: the catalogue) and sampled softmax (candidates: the drawn items, biases
minus log expected counts) are both this sum. There are n*k scores, far more numbers than anything
else in a step. So they are computed for a chunk of events at a time, and the chunk's share of every
gradient with them. That takes three matrix products in all. Recomputing the scores for the gradient
would take another product, and storing them would take n*k numbers.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from hiertcn_jax.devices.mesh import DATA, LANES, REPLICATED
from hiertcn_jax.scoring.own_products import product
from hiertcn_jax.scoring.scores import (
    Additions,
    Keys,
    Queries,
    at_columns,
    row_scores,
    without_columns,
)

CHUNK_SCORES = 1 << 21
"""Scores computed at a time: 8 MB, which fits the caches of most machines."""


def shared_softmax(
    queries: Queries,
    keys: Keys,
    ids_k: Int[Array, " k"],
    target_score: Float[Array, "*e"],
    excluded: Int[Array, "*e x"],
    weight: Float[Array, "*e"],
    excluded_columns: Int[Array, "*e y"] | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Float[Array, ""]:
    """Sum over events of weight * loss. An event of weight 0 has exactly no effect anywhere.

    Args:
      queries: One per event. Products use the type of the vectors and are summed in float32. Items
        of additions are indices of keys.
      keys: The candidates' keys; a bias of -inf for one that does not count.
      ids_k: Ids of the candidates.
      target_score: s, the score of each event's target, or the logarithm of a sum of exponentials
        that replaces it.
      excluded: X, ids that do not count as an event's candidates; few.
      weight: Weight of each event, >= 0; constant for the gradient.
      excluded_columns: Indices of further candidates that do not count for an event; k means none.
      chunk: Events at a time; None: as many as have `CHUNK_SCORES` scores.
      mesh: The devices, if lanes (the events' first axis) are on several; each sums its own.
    """
    additions = queries.listed
    events = (queries.vectors, target_score, None if additions is None else additions.values)
    rest = (excluded, excluded_columns, None if additions is None else additions.item_ids, weight)
    if mesh is None:
        return _sum_events(events, keys, rest, ids_k, chunk)

    def sum_own(*arrays: Any) -> Array:
        return _sum_events(*arrays, chunk=chunk)[None]

    sum_of_devices = jax.shard_map(
        sum_own,
        mesh=mesh,
        in_specs=(LANES, REPLICATED, LANES, REPLICATED),
        out_specs=LANES,
        axis_names={DATA},
        check_vma=False,
    )
    return jnp.sum(sum_of_devices(events, keys, rest, ids_k))


class _Events(NamedTuple):
    """Inputs at each event that get a gradient: [*e, ..], or [chunks, chunk, ..]."""

    vectors: Array
    target_score: Array
    values: Array | None


class _Constants(NamedTuple):
    """The other inputs at each event."""

    excluded: Array
    excluded_columns: Array | None
    listed: Array | None
    weight: Array


def _sum_events(events: Any, keys: Keys, constants: Any, ids_k: Array, chunk: int | None) -> Array:
    """The sum over the events of one device."""
    events, constants = _Events(*events), _Constants(*constants)
    counts = constants.weight > 0
    size, axes = counts.size, counts.ndim
    if chunk is None:
        chunk = max(CHUNK_SCORES // keys.rows.shape[0], 8)
    # The same number of chunks, of equal size: what fills up the last one is computed too.
    chunk = max(-(-size // max(-(-size // chunk), 1)), 1)

    def without_nan(x: Array) -> Array:
        # A NaN in an event that does not count would reach the rows' gradients, as NaN * 0.
        return jnp.where(counts.reshape(*counts.shape, *[1] * (x.ndim - axes)), x, 0)

    events, constants = jax.tree.map(
        lambda x: _in_chunks(x, axes, chunk), (jax.tree.map(without_nan, events), constants)
    )
    keys = keys._replace(rows=keys.rows.astype(events.vectors.dtype))
    return _total(events, keys, constants, ids_k)


@jax.custom_vjp
def _total(events: _Events, keys: Keys, constants: _Constants, ids_k: Array) -> Array:
    """The sum, if no gradient is needed."""

    def add(total: Array, chunk: tuple[_Events, _Constants]) -> tuple[Array, None]:
        _, _, loss_n = _exponentials(*chunk, keys, ids_k)
        return total + jnp.sum(chunk[1].weight * loss_n), None

    return jax.lax.scan(add, jnp.zeros(()), (events, constants))[0]


def _queries(events: _Events, constants: _Constants) -> Queries:
    listed = constants.listed
    return Queries(events.vectors, None if listed is None else Additions(listed, events.values))


def _exponentials(
    events: _Events, constants: _Constants, keys: Keys, ids_k: Array
) -> tuple[Array, Array, Array]:
    """Softmax share of each candidate and of the target, and the loss, for one chunk."""
    score_n = events.target_score
    scores_nk = row_scores(_queries(events, constants), keys)
    scores_nk = jnp.where(is_among(ids_k, constants.excluded), -jnp.inf, scores_nk)
    if constants.excluded_columns is not None:
        scores_nk = without_columns(scores_nk, constants.excluded_columns)
    highest_n = jnp.maximum(jnp.max(scores_nk, 1), score_n)
    parts_nk = jnp.exp(scores_nk - highest_n[:, None])
    own_n = jnp.exp(score_n - highest_n)
    sum_n = jnp.sum(parts_nk, 1) + own_n
    return parts_nk / sum_n[:, None], own_n / sum_n, jnp.log(sum_n) + highest_n - score_n


def is_among(ids: Int[Array, "*own k"], excluded: Int[Array, "*e x"]) -> Bool[Array, "*e k"]:
    """Whether each id is one of its event's `excluded` ids.

    Args:
      ids: [k], the same for all events, or [*e, k].
      excluded: Few: this makes x comparisons in one pass over the result. A reduction over a
        separate axis would be many short ones.
    """
    among = ids == excluded[..., :1]
    for number in range(1, excluded.shape[-1]):
        among |= ids == excluded[..., number : number + 1]
    return among


def _forward(
    events: _Events, keys: Keys, constants: _Constants, ids_k: Array
) -> tuple[Array, tuple[_Events, Keys]]:
    rows_kd, offset_k = keys.rows, keys.bias

    def add(sums: tuple[Array, Array, Array], chunk: Any) -> tuple[Any, _Events]:
        total, grad_rows_dk, grad_offset_k = sums
        chunk_events, chunk_constants = chunk
        vectors_nd, weight_n = chunk_events.vectors, chunk_constants.weight
        share_nk, own_n, loss_n = _exponentials(chunk_events, chunk_constants, keys, ids_k)
        share_nk *= weight_n[:, None]
        low_nk = share_nk.astype(vectors_nd.dtype)
        grad_vectors_nd = product("nk,kd->nd", low_nk, rows_kd)
        listed = _queries(chunk_events, chunk_constants).listed
        grad_values_nm = None
        if listed is not None:
            grad_values_nm = at_columns(share_nk, listed.columns(0, share_nk.shape[1]))
        sums = (
            total + jnp.sum(weight_n * loss_n),
            # [d, k], because CPUs take twice as long for the product that gives [k, d].
            grad_rows_dk + product("nd,nk->dk", vectors_nd, low_nk),
            grad_offset_k + jnp.sum(share_nk, 0),
        )
        return sums, _Events(grad_vectors_nd, weight_n * (own_n - 1), grad_values_nm)

    zeros = (jnp.zeros(()), jnp.zeros(rows_kd.shape[::-1]), jnp.zeros(offset_k.shape))
    (total, grad_rows_dk, grad_offset_k), grads = jax.lax.scan(add, zeros, (events, constants))
    grads = grads._replace(vectors=grads.vectors.astype(events.vectors.dtype))
    return total, (grads, Keys(grad_rows_dk.T.astype(rows_kd.dtype), grad_offset_k))


def _backward(gradients: tuple[_Events, Keys], cotangent: Array) -> tuple[Any, ...]:
    scaled = jax.tree.map(lambda grad: (grad * cotangent).astype(grad.dtype), gradients)
    return (*scaled, None, None)


_total.defvjp(_forward, _backward)


def _in_chunks(x: Array, event_axes: int, chunk: int) -> Array:
    """Reshapes [*e, ...] to [chunks, chunk, ...], filled up with 0; a weight of 0 has no effect.

    Lanes, the first axis, change fastest, so each chunk has events of all lanes.
    """
    x = jnp.moveaxis(x, 0, event_axes - 1)
    x = x.reshape(-1, *x.shape[event_axes:])
    padding = [(0, -len(x) % chunk)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, padding).reshape(-1, chunk, *x.shape[1:])
