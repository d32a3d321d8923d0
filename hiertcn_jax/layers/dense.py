"""A linear layer whose gradient with respect to its weights is one matrix product.

    y = x W + b        dW = (dy^T x)^T

By default the gradient of a layer on [b, l, c] sums over two axes at once. On CPUs that takes up to
twice as long as a matrix product, and dy^T x is the fastest form of the product.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Array, Float


@jax.custom_vjp
def _product(x_nc: Array, kernel_cd: Array) -> Array:
    return x_nc @ kernel_cd


def _forward(x_nc: Array, kernel_cd: Array) -> tuple[Array, tuple[Array, Array]]:
    return x_nc @ kernel_cd, (x_nc, kernel_cd)


def _backward(kept: tuple[Array, Array], grad_nd: Array) -> tuple[Array, Array]:
    x_nc, kernel_cd = kept
    return grad_nd @ kernel_cd.T, jnp.einsum("nd,nc->dc", grad_nd, x_nc).T


_product.defvjp(_forward, _backward)


class Dense(nn.Module):
    """`nn.Dense` for inputs with any number of axes.

    Attributes:
      features: Width of the output.
      dtype: Type of the product and the output; parameters are float32.
      use_bias: Whether the layer has b.
      kernel_init: Initializer of W.
    """

    features: int
    dtype: jnp.dtype
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch d"]:
        """Applies the layer along the last axis."""
        kernel_cd = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        x_nc = x.reshape(-1, x.shape[-1]).astype(self.dtype)
        y_nd = _product(x_nc, kernel_cd.astype(self.dtype))
        if self.use_bias:
            bias_d = self.param("bias", nn.initializers.zeros, (self.features,))
            y_nd += bias_d.astype(self.dtype)
        return y_nd.reshape(*x.shape[:-1], self.features)
