"""A model's outputs and item table, drawn at random: what losses are made of."""

import jax.numpy as jnp
import numpy as np

from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.scoring.scores import Additions

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


def random_lists(seed, item_ids, rows=ROWS, width=4):
    """Additions with some targets on the lists; NaN where a list has no item."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((*item_ids.shape, width), np.int32)
    for event in np.ndindex(item_ids.shape):
        items = FIRST_ITEM_ID + rng.permutation(rows - FIRST_ITEM_ID)
        target = int(item_ids[event])
        if rng.random() < 0.5:
            items = np.r_[target, items[items != target]]
        ids[event] = rng.permutation(items[:width])
        # Anywhere, not only at the end: padding, and the row of unknown items.
        ids[event][rng.random(width) < 0.3] = rng.integers(0, FIRST_ITEM_ID)
    values = np.where(ids >= FIRST_ITEM_ID, rng.normal(size=ids.shape), np.nan)
    return Additions(jnp.asarray(ids), jnp.asarray(values, jnp.float32))


def dense_scores(u, table_vd, bias_v, lists):
    """Every item's score at every event, [*e, v], with what is added; differentiable."""
    scores = jnp.einsum("...d,vd->...v", u, table_vd, precision="highest") + bias_v
    one_hot = lists.item_ids[..., None] == jnp.arange(FIRST_ITEM_ID, len(table_vd))
    added = jnp.where(one_hot, lists.values[..., None], 0).sum(-2)
    return scores.at[..., FIRST_ITEM_ID:].add(added)
