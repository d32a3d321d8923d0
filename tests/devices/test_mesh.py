"""Eight simulated devices: the same numbers as on one device, and no table is transferred."""

import dataclasses
import functools
import itertools
import re
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.lanes.distinct_items import ItemRows
from data_pipelines.lanes.loaders import train_loader
from hiertcn_jax.batch import (
    PADDING_ID,
    UNKNOWN_ID,
    Bucket,
    GivenItems,
    ListedItems,
    TableItems,
    padding_batch,
)
from hiertcn_jax.devices.mesh import (
    Layout,
    MeshError,
    lane_shardings,
    make_mesh,
    own_part,
    place,
    place_batch,
    replicated,
)
from hiertcn_jax.learning import train_step
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.objective import make_sources
from hiertcn_jax.learning.optimizer import Optimizer, OptimizerConfig, learning_rate_schedule
from hiertcn_jax.learning.train_state import init_train_state
from hiertcn_jax.learning.train_step import make_train_step
from hiertcn_jax.models import build
from hiertcn_jax.models.eval_step import make_eval_step
from hiertcn_jax.models.hiertcn import HierTCNConfig
from hiertcn_jax.models.queries import batch_queries as plain_queries
from hiertcn_jax.scoring.chunk_ranks import RankCounts
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.metrics import TOP
from hiertcn_jax.scoring.ranks import rank, ranks_of
from hiertcn_jax.scoring.scores import Additions, Keys, Queries
from hiertcn_jax.scoring.steps import make_rank_step
from tests.data_pipelines.lanes import walking
from tests.given_files import given_embeddings
from tests.volume import mostly_thorough

ROWS = 5003  # Larger than any other size, and not even, so that padding fills the table up.
BUCKET = Bucket(8, 5, 3)
SOURCE = walking.with_shown(walking.log(11))  # Of items 2..8.
COUNTS = np.ones(ROWS)
COUNTS[:2] = 0
COUNTS[2:9] = 50
MODEL = HierTCNConfig(
    item_dim=4, gru_dim=3, tcn_channels=(3,), kernel_size=2, dropout=0.2, unknown_rate=0.2
)
OPTIMIZER = OptimizerConfig(learning_rate=0.04, schedule="constant", clip_norm=1.0)
STEPS = 4
CASES = {
    "softmax of shown and drawn": (
        "dense",
        LossConfig(negatives=(("impressions", 2), ("popularity", 5), ("in_batch", 3))),
    ),
    "softmax of all": ("dense", LossConfig("cross_entropy")),
    "rows": ("rows", LossConfig(negatives=(("popularity", 5),))),
    "rows, own negatives": (
        "rows",
        LossConfig("bpr", (("impressions", 2), ("uniform", 3)), own_negatives=True),
    ),
    "given": (
        "given",
        LossConfig(negatives=(("impressions", 2), ("popularity", 5), ("in_batch", 3))),
    ),
    "given, own negatives": (
        "given",
        LossConfig("bpr", (("impressions", 2), ("uniform", 3)), own_negatives=True),
    ),
}
LOG_Q = np.log(COUNTS / COUNTS.sum(), where=COUNTS > 0, out=np.full(ROWS, -np.inf))


@functools.cache
def given():
    """Embeddings of the catalogue, float16."""
    with tempfile.TemporaryDirectory() as directory:
        return given_embeddings(Path(directory), ROWS, MODEL.item_dim, dtype="f2")


class Run:
    """A model and its step, on the devices of a mesh or on one."""

    def __init__(self, case, data=1, model=1):
        item_mode, loss = CASES[case]
        self.config = dataclasses.replace(MODEL, item_mode=item_mode)
        if item_mode == "given":
            self.config = dataclasses.replace(self.config, item_bias=False, projection_dim=6)
        mesh = make_mesh(data, model)
        self.layout = None if mesh is None else Layout(mesh, ROWS)
        self.model = build(self.config)
        schedule = learning_rate_schedule(OPTIMIZER, 50, 5)
        self.optimizer = Optimizer(OPTIMIZER, schedule, item_mode == "rows")
        self.step = make_train_step(
            self.model, self.config, loss, self.optimizer, seed=0, layout=self.layout
        )
        self.program = None
        self.sources = make_sources(loss, None if item_mode == "given" else COUNTS)
        if self.layout is not None:
            shardings = jax.tree.map(lambda _: replicated(mesh), self.sources)
            self.sources = place(self.sources, shardings)
        drawn = dict(loss.negatives).get("popularity") or dict(loss.negatives).get("uniform", 0)
        self.impressions = loss.impressions
        self.items = ItemRows(ROWS, drawn, not loss.own_negatives, COUNTS, loss.impressions)
        if item_mode == "given":
            log_q_mv = (LOG_Q.astype(np.float32),) * len(loss.drawn_negatives)
            self.items = dataclasses.replace(self.items, given=given(), log_q_mv=log_q_mv)

    def fresh(self):
        return init_train_state(
            jax.random.key(0), self.model, self.config, self.optimizer, BUCKET.lanes, ROWS,
            self.layout,
        )  # fmt: skip

    def placed(self, batch):
        return place_batch(batch, self.layout)

    def batches(self, **shard):
        item_rows = None if self.config.item_mode == "dense" else self.items
        return train_loader(
            SOURCE,
            BUCKET,
            seed=0,
            impressions=self.impressions,
            item_rows=item_rows,
            prefetch=0,
            **shard,
        )

    def steps(self, batches):
        """State and metrics after some steps, on the host; tables without their padding."""
        state, every = self.fresh(), []
        for batch in map(self.placed, batches):
            if self.program is None:
                self.program = self.step.lower(state, batch, self.sources).compile()
            # It takes no other shapes and shardings: one compilation serves all steps.
            state, metrics = self.program(state, batch, self.sources)
            every.append(metrics)

        def cut(part):
            return jax.tree.map(lambda x: x[:ROWS], part) if isinstance(part, ItemTable) else part

        is_table = lambda part: isinstance(part, ItemTable)  # noqa: E731
        return jax.tree.map(cut, jax.device_get(state), is_leaf=is_table), jax.device_get(every)


def of_one_process(run):
    return [element.batch for element in itertools.islice(run.batches(), STEPS)]


def of_two_processes(run):
    """Each process draws its part of the batch, and does not know the other's items."""
    loaders = [run.batches(process_index=index, process_count=2) for index in range(2)]
    batches = []
    for parts in itertools.islice(zip(*loaders, strict=True), STEPS):
        first, second = (element.batch for element in parts)
        assert isinstance(first.items, TableItems | ListedItems)
        if first.negatives_k is not None:
            np.testing.assert_array_equal(first.negatives_k, second.negatives_k)
        batches.append(jax.tree_util.tree_map_with_path(side_by_side, first, second))
    return batches


def side_by_side(path, one, other):
    """Concatenates along the axis of lanes or distinct items; other arrays are equal in both."""
    axes = path[-1].name.rpartition("_")[2]
    shared = [axis for axis, name in enumerate(axes) if name in "bu"]
    return np.concatenate([one, other], shared[0]) if shared else one


MOVED = re.compile(r"= \(?([^=]*?)\)? (?:all-gather|all-to-all|collective-permute)(?:-start)?\(")
SHAPE = re.compile(r"\w+\[([\d,]*)\]")


def largest_moved(program):
    """Size of the largest array that devices exchange, except for sums."""
    sizes = [
        np.prod([int(n) for n in shape.split(",") if n])
        for moved in MOVED.findall(program)
        for shape in SHAPE.findall(moved)
    ]
    return max(sizes, default=0)


PROCESSES = {case: of_one_process if "softmax" in case else of_two_processes for case in CASES}


@pytest.mark.parametrize(
    "case, batches_of",
    mostly_thorough(
        PROCESSES.items(),
        ("softmax of shown and drawn", of_one_process),
        ("given", of_two_processes),
    ),
)
def test_training_is_that_of_one_device_and_gathers_no_table(case, batches_of):
    mesh = {"data": 8} if case.startswith("given") else {"data": 4, "model": 2}
    run, one = Run(case, **mesh), Run(case)
    batches = batches_of(run)
    trained, alone = run.steps(batches), one.steps(of_one_process(one))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), trained, alone
    )
    program = run.program.as_text()
    assert "all-reduce" in program
    assert largest_moved(program) < ROWS


def test_a_state_is_sharded_and_equals_that_of_one_device():
    run = Run("softmax of shown and drawn", data=4, model=2)
    state, one = run.fresh(), Run("softmax of shown and drawn").fresh()
    table = state.params["items"].input_vd
    assert table.shape == (ROWS + 1, 4)
    np.testing.assert_array_equal(table[:ROWS], one.params["items"].input_vd)
    assert not table[ROWS:].any()
    assert {shard.data.shape for shard in table.addressable_shards} == {((ROWS + 1) // 2, 4)}
    moments = state.opt_state["adam"].mu["items"].input_vd
    assert {shard.data.shape for shard in moments.addressable_shards} == {((ROWS + 1) // 2, 4)}
    for leaf in jax.tree.leaves(state.carry):
        assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {2}
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state.params["model"]))


def test_rows_that_devices_do_not_share_evenly_are_filled_up():
    layout = Layout(make_mesh(3, 1), ROWS)
    rows, log_q = np.arange(8.0).reshape(4, 2), np.arange(4.0)[None]
    batch = padding_batch(Bucket(3, 2, 2)).replace(items=GivenItems(rows, log_q))
    placed = place_batch(batch, layout)
    np.testing.assert_array_equal(placed.items.table_ud, np.pad(rows, [(0, 2), (0, 0)]))
    np.testing.assert_array_equal(placed.items.log_q_mu, np.pad(log_q, [(0, 0), (0, 2)]))
    for values in (placed.items.table_ud, placed.items.log_q_mu, placed.item_ids_bl):
        assert len({str(shard.index) for shard in values.addressable_shards}) == 3


def whole_additions(rows, events=16):
    """Additions of whole numbers to five items of each event, some of them empty."""
    random = np.random.default_rng(1)
    ids = np.stack([random.permutation(rows)[:5] for _ in range(events)])
    values = random.integers(-2, 3, ids.shape)
    return Additions(jnp.asarray(ids, jnp.int32), jnp.asarray(values, jnp.float32))


def listed_queries(model, params, batch, carry, **options):
    """The queries of a model, with learned additions to the next items."""
    queries, carry = plain_queries(model, params, batch, carry, **options)
    ids = batch.item_ids_bl
    ids_blm = jnp.stack([ids, jnp.roll(ids, 1, 1), jnp.roll(ids, 2, 1), jnp.roll(ids, 3, 0)], -1)
    # Each item at most once per event.
    again = jnp.tril(ids_blm[..., None] == ids_blm[..., None, :], -1).any(-1)
    ids_blm = jnp.where(again | (ids_blm == UNKNOWN_ID), PADDING_ID, ids_blm)
    return queries._replace(additions=Additions(ids_blm, 3 * queries.vectors[..., :4])), carry


@pytest.mark.parametrize(
    "case, batches_of",
    mostly_thorough(
        [(case, PROCESSES[case]) for case in CASES if case not in ("rows", "given, own negatives")],
        ("rows, own negatives", of_two_processes),
    ),
)
def test_training_with_additions_is_that_of_one_device_too(case, batches_of, monkeypatch):
    monkeypatch.setattr(train_step, "batch_queries", listed_queries)
    test_training_is_that_of_one_device_and_gathers_no_table(case, batches_of)


def scored(rows, seed=0, events=16):
    """Vectors on a coarse grid, so that many scores are equal; targets, biases, seen items."""
    random = np.random.default_rng(seed)
    table = random.integers(-2, 3, (rows, 3)).astype(np.float32)
    u = random.integers(-2, 3, (events, 3)).astype(np.float32)
    target = random.integers(2, rows, events).astype(np.int32)
    seen = random.integers(0, rows, (events, 4)).astype(np.int32)
    return u, target, table, random.integers(-1, 2, rows).astype(np.float32), seen


RANKINGS = list(itertools.product([3, 1000], [False, True], [False, True]))


@pytest.mark.parametrize(
    "chunk, masked, listed",
    mostly_thorough(RANKINGS, (3, True, True), (1000, False, False)),
)
def test_ranks_over_a_shared_table_are_those_over_the_whole(chunk, masked, listed):
    rows = 41
    u, target, table, bias, seen = scored(rows)
    seen, additions = seen if masked else None, whole_additions(rows) if listed else None
    one = [None if x is None else jnp.asarray(x) for x in (u, target, table, bias, seen)]
    keys = Keys(one[2], one[3])
    counts, whole_lists = jax.jit(rank, static_argnames=("chunk", "k"))(
        Queries(one[0], additions), keys, one[1], chunk, one[4], k=TOP
    )
    whole = ranks_of(counts)
    assert (whole % 1 == 0.5).any()
    layout = Layout(make_mesh(2, 4), rows)
    filled = [(0, layout.table_rows - rows)]
    items = place(
        ItemTable(np.pad(table, [*filled, (0, 0)]), None, np.pad(bias, filled)),
        ItemTable(*[jax.NamedSharding(layout.mesh, jax.P("model"))] * 3)._replace(output_vd=None),
    )
    # Sixteen lanes of one event: each device of `data` has eight of them, by their index here.
    lanes = place([u[:, None], np.arange(16, dtype=np.int32) % 8, target],
                  lane_shardings([0, 0, 0], layout.mesh))  # fmt: skip
    if masked:
        seen = place(seen, lane_shardings(0, layout.mesh))
    if listed:
        additions = jax.tree.map(lambda x: np.asarray(x)[:, None], additions)
        additions = place(additions, lane_shardings(additions, layout.mesh))
    step = make_rank_step(MODEL, chunk, layout)
    counts, lists = step(items, Queries(lanes[0], additions), lanes[1], lanes[2], seen)
    shared = ranks_of(RankCounts(*map(own_part, counts)))
    np.testing.assert_array_equal(shared, whole)
    np.testing.assert_array_equal(own_part(lists), whole_lists)


def test_evaluation_is_that_of_one_device_and_gathers_no_table():
    run, one = Run("softmax of shown and drawn", data=4, model=2), Run("softmax of shown and drawn")
    batch = of_one_process(run)[1]
    found = []
    for which in (run, one):
        state = which.fresh()
        step = make_eval_step(which.model, which.layout)
        found.append(step(state.params, which.placed(batch), which.fresh().carry))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), *jax.device_get(found)
    )
    state = run.fresh()
    step = make_eval_step(run.model, run.layout)
    program = step.lower(state.params, run.placed(batch), state.carry).compile().as_text()
    assert "all-reduce" in program and largest_moved(program) < ROWS
    arrays = [found[0][0], *place([np.zeros(8, np.int32), np.full(8, 2, np.int32)],
                                  lane_shardings([0, 0], run.layout.mesh))]  # fmt: skip
    rank = make_rank_step(run.config, 1000, run.layout)
    program = rank.lower(state.params["items"], *arrays, None).compile().as_text()
    assert "all-reduce" in program and largest_moved(program) < ROWS


def test_the_measure_sees_a_table_that_is_gathered():
    layout = Layout(make_mesh(4, 2), ROWS)
    table = place(
        np.zeros((layout.table_rows, 4), np.float32),
        jax.NamedSharding(layout.mesh, jax.P("model")),
    )
    program = jax.jit(lambda x: x * 2, out_shardings=replicated(layout.mesh)).lower(table).compile()
    assert largest_moved(program.as_text()) == layout.table_rows * 4


def test_missing_devices_are_reported():
    assert make_mesh(1, 1) is None
    with pytest.raises(MeshError, match=r"data_parallelism=5, model_parallelism=2: a mesh of 10 d"):
        make_mesh(5, 2)
