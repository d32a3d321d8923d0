"""A model's outputs and item table, drawn at random: what losses are made of."""

import jax.numpy as jnp
import numpy as np

from hiertcn_jax.batch import FIRST_ITEM_ID

LANES, EVENTS, WIDTH, ROWS = 2, 5, 3, 9


def random_model(seed, rows=ROWS, dtype=jnp.float32):
    """u_bld, table_vd, bias_v, item_ids_bl, weight_bl."""
    rng = np.random.default_rng(seed)
    return (
        jnp.asarray(rng.normal(size=(LANES, EVENTS, WIDTH)), dtype),
        jnp.asarray(rng.normal(size=(rows, WIDTH)), jnp.float32),
        jnp.asarray(rng.normal(size=rows), jnp.float32),
        jnp.asarray(rng.integers(FIRST_ITEM_ID, rows, (LANES, EVENTS)), jnp.int32),
        jnp.asarray(rng.choice([0, 0.5, 1], (LANES, EVENTS)), jnp.float32),
    )
