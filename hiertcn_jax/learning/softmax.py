"""Softmax of each event's target against candidates that all events share, without their scores.

    loss_n = log( e^{s_n} + sum_{j: id_j not in X_n} e^{<u_n, e_j> + o_j} ) - s_n

X_n holds the target, and what else the event counts by itself (negatives of its own, in s_n).
Full softmax (candidates: the catalogue, o: biases) and sampled softmax (candidates: the drawn
items, o: biases minus log expected counts) are this one sum. There are n*k scores, far more than
anything else that a step makes. So they are made for a chunk of events at a time, and with them at
hand their share of every gradient is made too: three matrix products in all, where keeping nothing
would make the scores again for the gradient, and keeping them would take n*k numbers.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from hiertcn_jax.devices.mesh import DATA, LANES, REPLICATED

CHUNK_SCORES = 1 << 21
"""Scores made at a time: 8 MB, which the caches of most machines hold."""


def shared_softmax(
    u: Float[Array, "*e d"],
    target_score: Float[Array, "*e"],
    rows_kd: Float[Array, "k d"],
    offset_k: Float[Array, " k"],
    ids_k: Int[Array, " k"],
    excluded: Int[Array, "*e x"],
    weight: Float[Array, "*e"],
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Float[Array, ""]:
    """Sum over events of weight * loss. An event of weight 0 adds exactly nothing anywhere.

    Args:
      u: What the model gives at each event. Products are taken in its type, summed in float32.
      target_score: s, the score of each event's target, or the logarithm of any sum of exponentials
        that stands in its place.
      rows_kd: e, the candidates' embeddings.
      offset_k: o; -inf for a candidate that does not count.
      ids_k: Ids of the candidates.
      excluded: X, ids that do not count as an event's candidates.
      weight: Weight of each event, >= 0; constant for the gradient.
      chunk: Events at a time; None: as many as have `CHUNK_SCORES` scores.
      mesh: Where lanes, the events' first axis, lie on several devices: each sums its own.
    """
    if mesh is None:
        return _sum_events(u, target_score, rows_kd, offset_k, ids_k, excluded, weight, chunk)

    def sum_own(*arrays: Any) -> Array:
        return _sum_events(*arrays, chunk=chunk)[None]

    sum_of_devices = jax.shard_map(
        sum_own,
        mesh=mesh,
        in_specs=(LANES, LANES, REPLICATED, REPLICATED, REPLICATED, LANES, LANES),
        out_specs=LANES,
        axis_names={DATA},
        check_vma=False,
    )
    return jnp.sum(sum_of_devices(u, target_score, rows_kd, offset_k, ids_k, excluded, weight))


def _sum_events(
    u: Array,
    target_score: Array,
    rows_kd: Array,
    offset_k: Array,
    ids_k: Array,
    excluded: Array,
    weight: Array,
    chunk: int | None,
) -> Array:
    """The sum over the events that a device has."""
    if chunk is None:
        chunk = max(CHUNK_SCORES // rows_kd.shape[0], 8)
    # As many chunks, but equal ones: what fills up the last one is computed too.
    chunk = max(-(-weight.size // max(-(-weight.size // chunk), 1)), 1)
    counts = weight > 0
    # A NaN in what does not count would reach the gradients of the rows through a product with 0.
    events = (
        _in_chunks(jnp.where(counts[..., None], u, 0), weight.ndim, chunk),
        _in_chunks(jnp.where(counts, target_score, 0), weight.ndim, chunk),
    )
    constants = (
        _in_chunks(excluded, weight.ndim, chunk),
        _in_chunks(weight, weight.ndim, chunk),
        ids_k,
    )
    return _total(events, rows_kd.astype(u.dtype), offset_k, constants)


@jax.custom_vjp
def _total(events: Any, rows_kd: Array, offset_k: Array, constants: Any) -> Array:
    """The sum, where no gradient is asked for."""
    excluded, weights, ids_k = constants

    def add(total: Array, chunk: Any) -> tuple[Array, None]:
        u_nd, score_n, excluded_nx, weight_n = chunk
        _, _, loss_n = _exponentials(u_nd, score_n, excluded_nx, rows_kd, offset_k, ids_k)
        return total + jnp.sum(weight_n * loss_n), None

    return jax.lax.scan(add, jnp.zeros(()), (*events, excluded, weights))[0]


def _exponentials(
    u_nd: Array, score_n: Array, excluded_nx: Array, rows_kd: Array, offset_k: Array, ids_k: Array
) -> tuple[Array, Array, Array]:
    """Share of each candidate and of the target in the softmax, and the loss, of a chunk."""
    scores_nk = _product("nd,kd->nk", u_nd, rows_kd) + offset_k
    scores_nk = jnp.where(is_among(ids_k, excluded_nx), -jnp.inf, scores_nk)
    highest_n = jnp.maximum(jnp.max(scores_nk, 1), score_n)
    parts_nk = jnp.exp(scores_nk - highest_n[:, None])
    own_n = jnp.exp(score_n - highest_n)
    sum_n = jnp.sum(parts_nk, 1) + own_n
    return parts_nk / sum_n[:, None], own_n / sum_n, jnp.log(sum_n) + highest_n - score_n


def is_among(ids: Int[Array, "*own k"], excluded: Int[Array, "*e x"]) -> Bool[Array, "*e k"]:
    """Whether each id is one of its event's `excluded` ones.

    Args:
      ids: [k], the same for all events, or [*e, k].
      excluded: Few: x comparisons that are one pass over the result, where a reduction over an axis
        of its own would be many short ones.
    """
    among = ids == excluded[..., :1]
    for place in range(1, excluded.shape[-1]):
        among |= ids == excluded[..., place : place + 1]
    return among


def _forward(
    events: Any, rows_kd: Array, offset_k: Array, constants: Any
) -> tuple[Array, tuple[Any, Array, Array]]:
    excluded, weights, ids_k = constants

    def add(sums: tuple[Array, Array, Array], chunk: Any) -> tuple[Any, tuple[Array, Array]]:
        total, grad_rows_dk, grad_offset_k = sums
        u_nd, score_n, excluded_nx, weight_n = chunk
        share_nk, own_n, loss_n = _exponentials(
            u_nd, score_n, excluded_nx, rows_kd, offset_k, ids_k
        )
        share_nk *= weight_n[:, None]
        low_nk = share_nk.astype(u_nd.dtype)
        grad_u_nd = _product("nk,kd->nd", low_nk, rows_kd)
        sums = (
            total + jnp.sum(weight_n * loss_n),
            # [d, k], for [k, d] is a product that CPUs are half as quick at.
            grad_rows_dk + _product("nd,nk->dk", u_nd, low_nk),
            grad_offset_k + jnp.sum(share_nk, 0),
        )
        return sums, (grad_u_nd, weight_n * (own_n - 1))

    zeros = (jnp.zeros(()), jnp.zeros(rows_kd.shape[::-1]), jnp.zeros(offset_k.shape))
    (total, grad_rows_dk, grad_offset_k), grads = jax.lax.scan(
        add, zeros, (*events, excluded, weights)
    )
    grad_u, grad_score = grads
    grad_events = (grad_u.astype(events[0].dtype), grad_score)
    return total, (grad_events, grad_rows_dk.T.astype(rows_kd.dtype), grad_offset_k)


def _backward(gradients: tuple[Any, Array, Array], cotangent: Array) -> tuple[Any, ...]:
    scaled = jax.tree.map(lambda grad: (grad * cotangent).astype(grad.dtype), gradients)
    return (*scaled, None)


_total.defvjp(_forward, _backward)


def _product(formula: str, a: Array, b: Array) -> Array:
    """float32 einsum; HIGHEST since accelerators else round float32 factors to fewer bits."""
    return jnp.einsum(
        formula, a, b, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
    )


def _in_chunks(x: Array, event_axes: int, chunk: int) -> Array:
    """[*e, ...] to [chunks, chunk, ...], filled up with 0, which for a weight is nothing.

    The lanes, the first axis, change fastest: a chunk then has events of all of them.
    """
    x = jnp.moveaxis(x, 0, event_axes - 1)
    x = x.reshape(-1, *x.shape[event_axes:])
    padding = [(0, -len(x) % chunk)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, padding).reshape(-1, chunk, *x.shape[1:])
