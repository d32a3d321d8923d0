"""Given embeddings in the training step: the same step as with a table, but without a table."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.lanes.distinct_items import ItemRows
from data_pipelines.lanes.loaders import train_loader
from hiertcn_jax.batch import FIRST_ITEM_ID, Bucket, TableItems
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.objective import make_sources
from hiertcn_jax.learning.optimizer import Optimizer, OptimizerConfig
from hiertcn_jax.learning.train_state import init_train_state
from hiertcn_jax.learning.train_step import make_train_step
from hiertcn_jax.models import build
from hiertcn_jax.models.eval_step import make_eval_step
from hiertcn_jax.models.hiertcn import HierTCNConfig
from tests.data_pipelines.lanes import walking
from tests.given_files import given_embeddings, table_of

ROWS = 500  # `walking` uses items 1..8; the others are negatives.
BUCKET = Bucket(4, 5, 3)
COUNTS = np.where(np.arange(ROWS) < FIRST_ITEM_ID, 0, 1 + np.arange(ROWS) % 7)
MODEL = HierTCNConfig(
    item_dim=4, projection_dim=6, gru_dim=3, tcn_channels=(3,), kernel_size=2, dropout=0.2,
    unknown_rate=0.3, item_bias=False,
)  # fmt: skip
LOSS = LossConfig(negatives=(("popularity", 7), ("in_batch", 3)), popularity_alpha=1.0)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return given_embeddings(tmp_path_factory.mktemp("given"), ROWS, MODEL.item_dim, dtype="f2")


def elements(given=None, count=3):
    log_q_v = np.log(COUNTS / COUNTS.sum(), where=COUNTS > 0, out=np.full(ROWS, -np.inf))
    rows = ItemRows(ROWS, LOSS.negatives[0][1], weight_v=COUNTS.astype(float))
    if given is not None:
        log_q_mv = (log_q_v.astype(np.float32),) * len(LOSS.negatives)
        rows = dataclasses.replace(rows, given=given, log_q_mv=log_q_mv)
    loader = train_loader(walking.log(11), BUCKET, seed=0, item_rows=rows, prefetch=0)
    return list(itertools.islice(loader, count))


def batches(given=None, count=3):
    return [element.batch for element in elements(given, count)]


class Run:
    """A model in one mode, and its states before and after some steps."""

    def __init__(self, mode, loss, steps, table=None):
        self.config = dataclasses.replace(MODEL, item_mode=mode)
        optimizer = Optimizer(OptimizerConfig(), lambda _: 0.01, rows=mode == "rows")
        self.model = build(self.config)
        key, lanes = jax.random.key(0), BUCKET.lanes
        state = init_train_state(key, self.model, self.config, optimizer, lanes, ROWS)
        if table is not None:
            items = state.params["items"]._replace(input_vd=jnp.asarray(table))
            params = {**state.params, "items": items}
            state = state._replace(params=params)
        self.step = make_train_step(self.model, self.config, loss, optimizer, seed=0)
        self.sources = make_sources(loss, None if mode == "given" else COUNTS)
        self.states, self.losses = [jax.device_get(state)], []
        for batch in steps:
            state, metrics = self.step(state, batch, self.sources)
            self.states.append(jax.device_get(state))
            self.losses.append(float(metrics["loss_sum"]))


@pytest.fixture(scope="module")
def run(given):
    return Run("given", LOSS, batches(given))


def test_the_first_step_is_that_of_a_table_with_the_same_rows(given, run):
    """After it, the table's own rows have changed."""
    learned = run.states[0].params["items"].input_vd
    table = np.concatenate([learned, table_of(given)[FIRST_ITEM_ID:]])
    whole = Run("rows", LOSS, batches(count=1), table)
    jax.tree.map(
        np.testing.assert_array_equal,
        run.states[0].params["model"],
        whole.states[0].params["model"],
    )
    np.testing.assert_allclose(run.losses[0], whole.losses[0], rtol=2e-6)
    one, other = run.states[1], whole.states[1]
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5),
        (one.params["model"], one.carry, one.params["items"].input_vd),
        (other.params["model"], other.carry, other.params["items"].input_vd[:FIRST_ITEM_ID]),
    )


def test_the_row_of_unknown_items_is_learned_and_that_of_padding_is_not(run):
    before, after = (run.states[i].params["items"].input_vd for i in (0, -1))
    assert before.shape == (FIRST_ITEM_ID, MODEL.item_dim)
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[1] != after[1]).all()


def test_nothing_of_the_size_of_the_catalogue_is_on_the_device(given, run):
    batch = batches(given, 1)[0]
    on_device = (run.states[-1], batch, run.sources)
    assert max(max(leaf.shape, default=0) for leaf in jax.tree.leaves(on_device)) < ROWS // 2
    program = run.step.lower(run.states[-1], batch, run.sources).as_text()
    assert f"<{ROWS}x" not in program
    assert run.step._cache_size() == 1


@pytest.mark.parametrize("name", ["f2", "f4"])
def test_evaluation_reads_the_same_rows(tmp_path, name):
    given = given_embeddings(tmp_path, ROWS, MODEL.item_dim, dtype=name)
    run = Run("given", LOSS, [])
    state = run.states[0]
    ((batch, info),) = elements(given, 1)
    step = make_eval_step(run.model)
    u_bld, _ = step(state.params, batch, run.model.init_carry(BUCKET.lanes))
    table = table_of(given)
    table[:FIRST_ITEM_ID] = state.params["items"].input_vd
    plain = batch.replace(item_ids_bl=info.item_ids_bl, items=TableItems())
    items = state.params["items"]._replace(input_vd=jnp.asarray(table))
    params = {**state.params, "items": items}
    expected, _ = step(params, plain, run.model.init_carry(BUCKET.lanes))
    np.testing.assert_allclose(u_bld.vectors, expected.vectors, atol=1e-6)
