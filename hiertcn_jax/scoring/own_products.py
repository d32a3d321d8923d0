"""Inner products of each event's vector with rows of its own choice, without storing the rows.

With k rows per event these are n*k*d numbers, more than anything else in a step. So they are
gathered for a few events at a time, and gathered again for the gradient. On CPUs this is also up to
10 times as fast, because a chunk of rows stays in the caches.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from hiertcn_jax.devices.mesh import DATA, LANES, REPLICATED

CHUNK_NUMBERS = 1 << 20
"""Numbers in the rows gathered at a time: 4 MB."""
CHUNK_NUMBERS_CPU = 1 << 17
"""The same on CPUs: 512 kB, which fits the caches of one core."""


def product(formula: str, a: Array, b: Array) -> Array:
    """float32 einsum; HIGHEST, because accelerators otherwise round float32 factors."""
    return jnp.einsum(
        formula, a, b, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
    )


def own_products(
    vectors: Float[Array, "*e d"],
    rows_vd: Float[Array, "v d"],
    ids: Int[Array, "*e k"],
    mesh: Mesh | None = None,
) -> Float[Array, "*e k"]:
    """`<vectors[e], rows[ids[e, j]]>` in float32; products use the type of the vectors.

    Args:
      vectors: One per event.
      rows_vd: A table of rows.
      ids: Rows of it, k for each event.
      mesh: The devices, if lanes (the events' first axis) are on several; each computes its own.
    """
    if mesh is None:
        return _products_of_device(vectors, rows_vd, ids)
    products_of_devices = jax.shard_map(
        _products_of_device,
        mesh=mesh,
        in_specs=(LANES, REPLICATED, LANES),
        out_specs=LANES,
        axis_names={DATA},
        check_vma=False,
    )
    return products_of_devices(vectors, rows_vd, ids)


def _products_of_device(vectors: Array, rows_vd: Array, ids: Array) -> Array:
    """The products of the events on one device."""
    events, (k, d) = ids.size // max(ids.shape[-1], 1), (ids.shape[-1], vectors.shape[-1])
    numbers = CHUNK_NUMBERS_CPU if jax.default_backend() == "cpu" else CHUNK_NUMBERS
    most = max(numbers // max(k * d, 1), 4)
    # The same number of chunks, of equal size: padding of the last one is computed too.
    chunk = max(-(-events // max(-(-events // most), 1)), 1)
    room = [(0, -events % chunk), (0, 0)]
    vectors_cnd = jnp.pad(vectors.reshape(events, d), room).reshape(-1, chunk, d)
    ids_cnk = jnp.pad(ids.reshape(events, k), room).reshape(-1, chunk, k)
    return _products(vectors_cnd, rows_vd, ids_cnk).reshape(-1, k)[:events].reshape(ids.shape)


@jax.custom_vjp
def _products(vectors_cnd: Array, rows_vd: Array, ids_cnk: Array) -> Array:
    def multiply(chunk: tuple[Array, Array]) -> Array:
        vectors_nd, ids_nk = chunk
        return product("nd,nkd->nk", vectors_nd, rows_vd[ids_nk].astype(vectors_nd.dtype))

    return jax.lax.map(multiply, (vectors_cnd, ids_cnk))


def _forward(vectors_cnd: Array, rows_vd: Array, ids_cnk: Array) -> tuple[Array, Any]:
    return _products(vectors_cnd, rows_vd, ids_cnk), (vectors_cnd, rows_vd, ids_cnk)


def _backward(kept: tuple[Array, Array, Array], cotangent_cnk: Array) -> tuple[Array, Array, None]:
    vectors_cnd, rows_vd, ids_cnk = kept

    def multiply(grad_rows_vd: Array, chunk: Any) -> tuple[Array, Array]:
        vectors_nd, ids_nk, cotangent_nk = chunk
        rows_nkd = rows_vd[ids_nk].astype(vectors_nd.dtype)
        low_nk = cotangent_nk.astype(vectors_nd.dtype)
        grad_nd = product("nk,nkd->nd", low_nk, rows_nkd)
        of_rows_nkd = cotangent_nk[..., None] * vectors_nd[:, None].astype(jnp.float32)
        return grad_rows_vd.at[ids_nk].add(of_rows_nkd), grad_nd.astype(vectors_nd.dtype)

    grad_rows_vd, grad_cnd = jax.lax.scan(
        multiply, jnp.zeros(rows_vd.shape, jnp.float32), (vectors_cnd, ids_cnk, cotangent_cnk)
    )
    return grad_cnd, grad_rows_vd.astype(rows_vd.dtype), None


_products.defvjp(_forward, _backward)
