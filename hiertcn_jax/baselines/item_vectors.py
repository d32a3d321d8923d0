"""Item embeddings without a neural network: a truncated SVD of the co-occurrence in sessions."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds

from hiertcn_jax.baselines.cooccurrence import Cooccurrence


def svd_item_vectors(counts: Cooccurrence, dim: int, shrinkage: float, seed: int) -> np.ndarray:
    """Vectors whose inner products approximate how often two items share a session.

    The shrunk cosine n_ij / sqrt((n_i + shrinkage) (n_j + shrinkage)), where n_ij counts the
    sessions that contain both and n_i those that contain i, is positive semidefinite over all i and
    j, including i = j. Its best approximation of rank `dim` is U S U^T, from its truncated SVD; the
    vectors are U S^(1/2). Without shrinkage, pairs of rare items would dominate it.

    Args:
      counts: Sessions of items and of pairs.
      dim: `d`, below the number of items in `counts`.
      shrinkage: Sessions.
      seed: Seed of the iteration's start.

    Returns:
      float32 [v, d]; 0 for items without a session, and everywhere if there are none.

    Raises:
      ValueError: `dim` is too large.
    """
    vectors_vd = np.zeros((len(counts.sessions_v), dim), np.float32)
    items = np.flatnonzero(counts.sessions_v)
    if not len(items):
        return vectors_vd
    if dim >= len(items):
        raise ValueError(f"dim={dim}: must be below the number of items, {len(items)}")
    sessions_i = counts.sessions_v[items]
    scale_ii = sparse.diags_array(1 / np.sqrt(sessions_i + shrinkage))
    long_mi = counts.long_mv[:, items]
    short_ii = counts.pairs_vv[items][:, items] + sparse.diags_array(
        sessions_i - long_mi.sum(axis=0)
    )
    cosine_ii = _with_long_sessions(
        sparse.csr_array(scale_ii @ short_ii @ scale_ii), sparse.csr_array(long_mi @ scale_ii)
    )
    start_i = np.random.default_rng(seed).uniform(-1, 1, len(items))
    u_id, singular_d, _ = svds(cosine_ii, dim, v0=start_i)
    vectors_vd[items] = u_id * np.sqrt(singular_d)
    return vectors_vd


def _with_long_sessions(
    short_ii: sparse.csr_array, long_mi: sparse.csr_array
) -> sparse.csr_array | LinearOperator:
    """short_ii + long_mi^T long_mi; the second is only multiplied, never computed."""
    if not long_mi.shape[0]:
        return short_ii

    def times(x: np.ndarray) -> np.ndarray:
        return short_ii @ x + long_mi.T @ (long_mi @ x)

    return LinearOperator(
        short_ii.shape, matvec=times, rmatvec=times, matmat=times, rmatmat=times, dtype=np.float64
    )
