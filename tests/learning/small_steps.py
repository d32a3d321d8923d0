"""A small model, its training step and the batches of a tiny log."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.lanes.distinct_items import ItemRows
from data_pipelines.lanes.loaders import train_loader
from hiertcn_jax.batch import Bucket
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.objective import make_sources
from hiertcn_jax.learning.optimizer import Optimizer, OptimizerConfig, learning_rate_schedule
from hiertcn_jax.learning.train_state import init_train_state
from hiertcn_jax.learning.train_step import make_train_step
from hiertcn_jax.models import build
from hiertcn_jax.models.hiertcn import HierTCNConfig
from tests.data_pipelines.lanes import walking

ROWS = 9  # Items 2..8, as `walking` makes them.
BUCKET = Bucket(4, 5, 3)
BUCKET_EVENTS = (4, 5)
SOURCE = walking.with_shown(walking.log(11))
COUNTS = np.bincount(np.concatenate([h.item_ids for h in SOURCE]), minlength=ROWS)
COUNTS[:2] = 0
MODEL = HierTCNConfig(
    item_dim=4, gru_dim=3, tcn_channels=(3,), kernel_size=2, dropout=0.2, unknown_rate=0.2
)
LOSS = LossConfig(name="sampled_softmax", negatives=(("popularity", 5),))
OPTIMIZER = OptimizerConfig(learning_rate=0.04, warmup_steps=4, schedule="constant")


class Run:
    """A model, its step and its batches."""

    def __init__(self, model=MODEL, loss=LOSS, optimizer=OPTIMIZER, seed=0):
        self.config, self.seed = model, seed
        self.model = build(model)
        rows = model.item_mode == "rows"
        self.optimizer = Optimizer(optimizer, learning_rate_schedule(optimizer, 50, 5), rows)
        self.step = make_train_step(self.model, model, loss, self.optimizer, seed)
        self.sources = make_sources(loss, COUNTS)
        shown = loss.impressions
        items = ItemRows(ROWS, 5, not loss.own_negatives, COUNTS.astype(float), shown)
        self.loader = train_loader(
            SOURCE,
            BUCKET,
            seed=seed,
            impressions=shown,
            item_rows=items if rows else None,
            prefetch=0,
        )

    @functools.cached_property
    def _fresh(self):
        key = jax.random.key(self.seed)
        return jax.device_get(
            init_train_state(key, self.model, self.config, self.optimizer, BUCKET.lanes, ROWS)
        )

    def fresh(self):
        """A copy, since a step consumes its state."""
        return jax.tree.map(jnp.array, self._fresh)

    def steps(self, state, batches, count):
        """The state after `count` steps, and the metrics of each."""
        every = []
        for element in itertools.islice(batches, count):
            state, metrics = self.step(state, element.batch, self.sources)
            every.append(metrics)
        return state, every


@functools.cache
def run_of(mode):
    return Run(dataclasses.replace(MODEL, item_mode=mode))


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def differs(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return any(not np.array_equal(a, b) for a, b in pairs)
