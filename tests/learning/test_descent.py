"""Every loss, with every source of negatives, falls along its gradient."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.learning.loss_config import LossConfig, LossName
from hiertcn_jax.learning.objective import event_loss, make_sources
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.scores import Queries
from tests.learning.small_steps import BUCKET_EVENTS, COUNTS, MODEL, ROWS, run_of
from tests.volume import mostly_thorough


def combinations():
    """Every loss with every source of negatives, and weighted per user."""
    for name in get_args(LossName):
        if not LossConfig(name=name).needs_negatives:
            yield LossConfig(name=name)
            yield LossConfig(name=name, per_user=True)
            continue
        for own in (False, True):
            sources = (("uniform", 3), ("in_batch", 4)) if own else (("popularity", 6),)
            sources = (("impressions", 2), *sources)
            yield LossConfig(name=name, negatives=sources, own_negatives=own, per_user=own)
    yield LossConfig(negatives=(("popularity", 6),), logq=False)
    yield LossConfig(negatives=(("in_batch", 6),), own_negatives=True, logq=False)


COMBINATIONS = list(combinations())


@pytest.mark.parametrize(
    "loss", mostly_thorough(COMBINATIONS, *COMBINATIONS[::2]), ids=lambda loss: loss.name
)
def test_every_loss_goes_down_its_gradient(loss):
    batch = next(iter(run_of("dense").loader)).batch
    shown_blk = np.random.default_rng(1).integers(0, ROWS, (*BUCKET_EVENTS, loss.impressions))
    shown_blk[shown_blk == 1] = 0
    batch = batch.replace(negatives_blk=shown_blk.astype(np.int32) if loss.impressions else None)
    sources = make_sources(loss, COUNTS)
    rng = np.random.default_rng(0)
    u_bld = jnp.asarray(rng.normal(size=(*BUCKET_EVENTS, 4)), jnp.float32)
    table_vd = jnp.asarray(rng.normal(size=(ROWS, 4)), jnp.float32)

    @jax.jit
    @jax.value_and_grad
    def objective(learned, batch, sources):
        u_bld, items = learned
        arguments = (batch, items, sources, jax.random.key(0), loss, MODEL)
        return event_loss(Queries(u_bld), *arguments).mean()

    learned = (u_bld, ItemTable(table_vd, None, jnp.zeros(ROWS)))
    values = []
    for _ in range(4):
        value, gradient = objective(learned, batch, sources)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
        learned = jax.tree.map(lambda x, g: x - 0.05 * g, learned, gradient)
        values.append(float(value))
    # The candidates are the same each time, so every step goes down the same slope.
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] < values[0]
