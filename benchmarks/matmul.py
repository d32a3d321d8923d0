"""Measures the machine's peak: a float32 product of square matrices, on all cores."""

import time

import jax
import jax.numpy as jnp


class MatmulPeak:
    """The compiled product.

    Args:
      size: Rows and columns.
    """

    def __init__(self, size: int = 2048) -> None:
        self._matrix = jnp.full((size, size), 1 / size, jnp.float32)
        self._product = jax.jit(jnp.matmul)
        self._flops = 2 * size**3
        self.run(1)

    def run(self, times: int = 5) -> float:
        """FLOPs a second."""
        clock = time.perf_counter()
        for _ in range(times):
            self._product(self._matrix, self._matrix).block_until_ready()
        return times * self._flops / (time.perf_counter() - clock)
