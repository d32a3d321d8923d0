"""Dense: flax's own layer, values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.layers.dense import Dense


@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 7), (0, 4, 7)])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_equals_flax(shape, use_bias, dtype):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    ours = Dense(3, jnp.dtype(dtype), use_bias=use_bias)
    flax = nn.Dense(3, use_bias=use_bias, dtype=dtype)
    params = ours.init(jax.random.key(0), x)["params"]
    theirs = flax.init(jax.random.key(0), x)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, theirs)
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)

    def of(layer):
        def total(params, x):
            y = layer.apply({"params": params}, x)
            return jnp.sum(jnp.sin(y.astype(jnp.float32))), y

        return jax.value_and_grad(total, (0, 1), has_aux=True)(params, x)

    tolerance = 1e-5 if dtype == "float32" else 0.05
    for one, other in zip(jax.tree.leaves(of(ours)), jax.tree.leaves(of(flax)), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(
            np.asarray(one, np.float32), np.asarray(other, np.float32), tolerance, tolerance
        )
