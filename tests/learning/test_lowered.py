"""The steps as accelerators receive them: lowered for TPU and CUDA on this machine."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export
from jax.extend.core import jaxprs_in_params

from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID, Bucket, RowItems, padding_batch
from hiertcn_jax.learning import train_step
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.objective import make_sources
from hiertcn_jax.learning.optimizer import Optimizer, OptimizerConfig
from hiertcn_jax.learning.train_state import init_train_state
from hiertcn_jax.learning.train_step import make_train_step
from hiertcn_jax.memory.lists import FEATURES
from hiertcn_jax.models import MODELS, build, model_config
from hiertcn_jax.models.eval_step import make_eval_step
from hiertcn_jax.models.queries import batch_queries
from hiertcn_jax.scoring.scores import Additions, Queries
from hiertcn_jax.scoring.steps import make_rank_step
from tests.models.options import NEEDED
from tests.volume import mostly_thorough

BUCKET, TABLE_ROWS = Bucket(lanes=8, events=16, sessions=6), 300
PLATFORMS = ("tpu", "cuda")
LOSS = LossConfig(negatives=(("uniform", 24), ("in_batch", 8)))
HOST_OPERATIONS = re.compile(r"\b(infeed|outfeed|send|recv)\b|stablehlo\.custom_call @(\S+?)\(")
DYNAMIC_SHAPE = re.compile(r"tensor<(?:\d+x)*\?|<=\d+")


class Steps:
    """The jitted steps of a model and their arguments, states as shapes."""

    def __init__(self, name, item_mode="dense", dtype="bfloat16", **config):
        self.config = model_config(
            name=name,
            item_dim=16,
            gru_dim=16,
            tcn_channels=(16, 16),
            attention_dim=16,
            attention_window=5,
            gap_decay="learned",
            dropout=0.1,
            input_dropout=0.1,
            item_mode=item_mode,
            dtype=dtype,
            **NEEDED.get(name, {}),
            **config,
        )
        self.model = build(self.config)
        is_rows = item_mode == "rows"
        optimizer = Optimizer(
            OptimizerConfig(clip_norm=1.0), optax.constant_schedule(1e-3), is_rows
        )
        counts_v = np.ones(TABLE_ROWS)
        counts_v[:FIRST_ITEM_ID] = 0
        self.sources = make_sources(LOSS, counts_v)
        self.state = jax.eval_shape(
            functools.partial(
                init_train_state,
                jax.random.key(0),
                self.model,
                self.config,
                optimizer,
                BUCKET.lanes,
                TABLE_ROWS,
            )
        )
        self.batch = padding_batch(BUCKET)
        if is_rows:
            self.batch = self.batch.replace(
                items=RowItems(np.full(256, PADDING_ID, np.int32)),
                negatives_k=np.zeros(24, np.int32),
            )
        if self.config.memory:
            self.batch = with_lists(self.batch)
        self.train_step = make_train_step(self.model, self.config, LOSS, optimizer, seed=0)

    @property
    def train_arguments(self):
        return self.state, self.batch, self.sources

    @property
    def eval_arguments(self):
        batch = padding_batch(BUCKET)
        batch = with_lists(batch) if self.config.memory else batch
        return self.state.params, batch, self.state.carry


def with_lists(batch):
    """The batch with lists of memory, of 9 items."""
    events = (BUCKET.lanes, BUCKET.events)
    return batch.replace(
        memory_ids_blk=np.zeros((*events, 9), np.int32),
        memory_counts_blkf=np.zeros((*events, 9, len(FEATURES)), np.float32),
        clock_blg=np.zeros((*events, 4), np.float32),
    )


def lowered(step, arguments):
    """The program for both platforms, as text."""
    return export.export(step, platforms=PLATFORMS)(*arguments).mlir_module()


def host_operations(program):
    """Operations of a program that call the host or foreign code."""
    return [first or second for first, second in HOST_OPERATIONS.findall(program)]


def assert_for_accelerators(program):
    assert host_operations(program) == []
    assert DYNAMIC_SHAPE.search(program) is None


# The parts of these are parts of hiertcn and hiergru.
PARTS = ("gru_session", "gru_user", "tcn_session", "tcn_user")


# The item mode changes the loss and the optimizer, not the model.
@pytest.mark.parametrize(
    ("name", "item_mode"),
    mostly_thorough(
        [(name, mode) for name in MODELS for mode in ("dense", "rows")],
        *[(name, "dense") for name in MODELS if name not in PARTS],
        ("hiertcn", "rows"),
    ),
)
def test_the_training_step_lowers_for_tpu_and_cuda(name, item_mode):
    steps = Steps(name, item_mode)
    assert_for_accelerators(lowered(steps.train_step, steps.train_arguments))


@pytest.mark.parametrize("loss", [LOSS, LossConfig("cross_entropy")])
def test_the_training_step_with_additions_lowers_for_tpu_and_cuda(loss, monkeypatch):
    def listed_queries(*arguments, **options):
        queries, carry = batch_queries(*arguments, **options)
        ids = jnp.broadcast_to(jnp.arange(9), (*queries.vectors.shape[:2], 9))
        return queries._replace(additions=Additions(ids, queries.vectors[..., :9])), carry

    monkeypatch.setattr(train_step, "batch_queries", listed_queries)
    monkeypatch.setitem(globals(), "LOSS", loss)
    steps = Steps("hiertcn")
    assert_for_accelerators(lowered(steps.train_step, steps.train_arguments))


@pytest.mark.parametrize("name", mostly_thorough(MODELS, "hiertcn", "memory", "esasrec", "hstu"))
def test_the_evaluation_step_lowers_for_tpu_and_cuda(name):
    steps = Steps(name)
    assert_for_accelerators(lowered(make_eval_step(steps.model), steps.eval_arguments))


@pytest.mark.parametrize("chunk", [64, TABLE_ROWS])
def test_the_ranking_step_lowers_for_tpu_and_cuda(chunk):
    steps, events = Steps("hiertcn"), 10
    arguments = (
        steps.state.params["items"],
        Queries(jnp.zeros((BUCKET.lanes, BUCKET.events, steps.config.item_dim))),
        *np.zeros((2, events), np.int32),
        np.zeros((events, 4), np.int32),
    )
    assert_for_accelerators(lowered(make_rank_step(steps.config, chunk), arguments))


@pytest.mark.parametrize(
    "leaves",
    [
        lambda x: jax.pure_callback(np.sin, x, x),
        lambda x: jax.experimental.io_callback(np.sin, x, x),
        lambda x: [jax.debug.print("{}", x), x][1],
    ],
)
def test_a_step_that_leaves_the_device_would_be_found(leaves):
    program = jax.jit(leaves).lower(jnp.ones(3)).as_text()
    assert host_operations(program)


def test_a_shape_that_is_not_static_would_be_found():
    shape = export.symbolic_shape("b, 3")
    program = lowered(jax.jit(jnp.sin), [jax.ShapeDtypeStruct(shape, jnp.float32)])
    assert DYNAMIC_SHAPE.search(program)


def scans(jaxpr):
    """(steps, whether backward) of every loop in a trace."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            found.append((equation.params["length"], equation.params["reverse"]))
        for inner in jaxprs_in_params(equation.params):
            found += scans(inner)
    return found


def traced_scans(name):
    steps = Steps(name)
    return scans(steps.train_step.trace(*steps.train_arguments).jaxpr.jaxpr)


def test_hiertcn_waits_for_its_sessions_alone():
    """One loop of s steps forward and one back; the softmax's loop runs over chunks of events."""
    assert BUCKET.sessions not in {steps for steps, _ in traced_scans("tcn_user")}
    with_length = [scan for scan in traced_scans("hiertcn") if scan[0] == BUCKET.sessions]
    assert sorted(with_length) == [(BUCKET.sessions, False), (BUCKET.sessions, True)]
    others = [scan for scan in traced_scans("hiertcn") if scan[0] != BUCKET.sessions]
    assert others == traced_scans("tcn_user")


@pytest.mark.parametrize("name", ["hiergru", "gru_user"])
def test_recurrent_baselines_wait_for_every_event(name):
    with_length = [scan for scan in traced_scans(name) if scan[0] == BUCKET.events]
    assert sorted(with_length) == [(BUCKET.events, False), (BUCKET.events, True)]


def test_the_compiled_step_has_the_same_loops_and_stays_on_the_device():
    steps = Steps("hiertcn", dtype="float32")
    text = steps.train_step.lower(*steps.train_arguments).compile().as_text()
    trips = re.findall(r'"known_trip_count":\{"n":"(\d+)"\}', text)
    assert trips.count(str(BUCKET.sessions)) == 2
    assert not re.search(
        r"\b(infeed|outfeed|send|recv)\(|custom_call_target=\"[^\"]*callback", text
    )
    # A dynamic shape is written with its bound.
    assert "<=" not in re.sub(r"metadata=\{[^}]*\}|direction=\w+", "", text)
