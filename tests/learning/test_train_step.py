"""The training step: compiled once, donated, resumed bit for bit, the same in both item modes."""

import dataclasses
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.lanes.distinct_items import to_local_ids
from hiertcn_jax.batch import LaneBatch, RowItems
from hiertcn_jax.learning import train_step
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.losses import LossSum
from hiertcn_jax.learning.objective import event_loss
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models import build
from hiertcn_jax.models.eval_step import make_eval_step
from hiertcn_jax.saving.checkpoint import Checkpoints
from tests.learning.small_steps import (
    BUCKET,
    BUCKET_EVENTS,
    LOSS,
    MODEL,
    ROWS,
    Run,
    assert_same,
    differs,
    run_of,
)

STEPS = 16


@pytest.fixture(scope="module", params=["dense", "rows"])
def trained(request):
    """(run, state after STEPS steps, their metrics, the loader's state): epochs of a tiny log."""
    run = run_of(request.param)
    batches = iter(run.loader)
    state, metrics = run.steps(run.fresh(), batches, STEPS)
    return run, state, metrics, batches.get_state()


def test_one_compilation_serves_all_steps_and_epochs(trained):
    run, _, _, loader_state = trained
    while "parent" in loader_state:
        loader_state = loader_state["parent"]
    assert min(loader_state["epoch"]) >= 2
    assert run.step._cache_size() == 1


def test_metrics_stay_on_the_device_and_describe_the_step(trained):
    run, _, metrics, _ = trained
    batches = [element.batch for element in itertools.islice(run.loader, STEPS)]
    for values in metrics:
        assert all(isinstance(x, jax.Array) and x.shape == () for x in values.values())
    values = jax.device_get(metrics)
    assert [v["events"] for v in values] == [(b.item_ids_bl > 0).sum() for b in batches]
    assert [v["weight"] for v in values] == [b.loss_weight_bl.sum() for b in batches]
    # A rise from 0 to 0.04 over 4 steps.
    rates = [0, 0.01, 0.02, 0.03] + [0.04] * (STEPS - 4)
    np.testing.assert_allclose([v["learning_rate"] for v in values], rates, rtol=1e-6)
    assert all(np.isfinite(v["loss_sum"]) and v["grad_norm"] > 0 for v in values)
    assert all(v["finite"] for v in values)


def test_the_program_calls_nothing_on_the_host(trained):
    run, _, _, _ = trained
    batch = next(iter(run.loader)).batch
    assert "callback" not in run.step.lower(run.fresh(), batch, run.sources).as_text()


def test_the_old_state_is_donated(trained):
    run, _, _, _ = trained
    old = run.fresh()
    new, _ = run.steps(old, run.loader, 1)
    assert all(x.is_deleted() for x in jax.tree.leaves(old))
    assert not any(x.is_deleted() for x in jax.tree.leaves(new))


def test_steps_count_and_the_padding_never_moves(trained):
    run, state, _, _ = trained
    assert state.step == STEPS
    fresh = run.fresh().params["items"]
    for before, after in zip(fresh, state.params["items"], strict=True):
        if before is not None:
            np.testing.assert_array_equal(after[0], before[0])
    # A share of inputs becomes the unknown item, which trains its row.
    assert (state.params["items"].input_vd[1] != fresh.input_vd[1]).all()


def moving(state):
    """What a skipped step must not move: parameters, and moments without their counts."""
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.dtype == jnp.float32]
    return jax.device_get((state.params, moments))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_skips_the_step_but_not_the_lanes(trained, value):
    run, _, _, _ = trained
    first, second, third = itertools.islice(run.loader, 3)
    state, _ = run.steps(run.fresh(), [first], 1)
    before = moving(state)
    good, _ = run.steps(jax.tree.map(jnp.copy, state), [second], 1)
    weight_bl = second.batch.loss_weight_bl.copy()
    weight_bl[np.nonzero(weight_bl)[0][0], np.nonzero(weight_bl)[1][0]] = value
    bad = LaneBatch(second.batch.replace(loss_weight_bl=weight_bl), second.info)

    state, (metrics,) = run.steps(state, [bad], 1)
    assert not metrics["finite"]
    assert_same(moving(state), before)
    assert state.step == 2
    # The next batch begins after the events of this one.
    assert_same(state.carry, good.carry)
    state, (metrics,) = run.steps(state, [third], 1)
    assert metrics["finite"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert differs(state.params, before[0])
    # The next step has the learning rate of its number, whatever was skipped.
    counts = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.dtype == jnp.int32]
    assert counts
    assert all(count == 3 for count in counts)


@jax.custom_vjp
def spoil(value, added, factor):
    """`value + added`, whose gradient is multiplied by `factor`."""
    del factor
    return value + added


spoil.defvjp(
    lambda value, added, factor: (value + added, (added, factor)),
    lambda rest, gradient: (gradient * rest[1], 0 * rest[0], 0 * rest[1]),
)


@pytest.mark.parametrize("mode", ["dense", "rows"])
def test_the_loss_and_the_gradient_must_both_be_finite(mode, monkeypatch):
    """Each of them is made infinite alone; the rest of the step does not change."""

    def spoiled_loss(queries, batch, *arguments):
        loss_sum, weight = event_loss(queries, batch, *arguments)
        added, factor = batch.gap_hours_bs[0, :2]  # This model does not read gaps.
        return LossSum(spoil(loss_sum, added, factor), weight)

    monkeypatch.setattr(train_step, "event_loss", spoiled_loss)
    run = Run(dataclasses.replace(MODEL, item_mode=mode))
    first, second = itertools.islice(run.loader, 2)

    def spoiled(element, added, factor):
        gap_hours_bs = element.batch.gap_hours_bs.copy()
        gap_hours_bs[0, :2] = added, factor
        return LaneBatch(element.batch.replace(gap_hours_bs=gap_hours_bs), element.info)

    old, _ = run.steps(run.fresh(), [spoiled(first, 0, 1)], 1)
    for added, factor in itertools.product((0, np.nan, np.inf), (1, np.nan, np.inf)):
        batch = spoiled(second, added, factor)
        state, (metrics,) = run.steps(jax.tree.map(jnp.copy, old), [batch], 1)
        assert np.isfinite(metrics["loss_sum"]) == (added == 0)
        assert np.isfinite(metrics["grad_norm"]) == (factor == 1)
        assert metrics["finite"] == ((added, factor) == (0, 1))
        assert differs(moving(state), moving(old)) == ((added, factor) == (0, 1))
    assert run.step._cache_size() == 1


def test_a_lane_with_a_carry_that_is_not_finite_keeps_its_old_one():
    run = Run(dataclasses.replace(MODEL, gap_decay="fixed"))
    for element in run.loader:
        starts = element.batch.starts_session_bs & ~element.batch.starts_user_bs
        if starts[:, -1].any() or starts.any():
            break
    state, _ = run.steps(run.fresh(), run.loader, 2)
    (lane, *_), (slot, *_) = np.nonzero(starts)
    gap_hours_bs = element.batch.gap_hours_bs.copy()
    gap_hours_bs[lane, slot:] = np.nan
    bad = LaneBatch(element.batch.replace(gap_hours_bs=gap_hours_bs), element.info)
    old = jax.device_get(state.carry)
    good, _ = run.steps(jax.tree.map(jnp.copy, state), [element], 1)
    state, (metrics,) = run.steps(state, [bad], 1)
    assert not metrics["finite"]
    others = np.arange(BUCKET.lanes) != lane
    for now, before, expected in zip(
        *map(jax.tree.leaves, (state.carry, old, good.carry)), strict=True
    ):
        np.testing.assert_array_equal(now[lane], before[lane])
        np.testing.assert_array_equal(now[others], expected[others])
    assert differs(
        jax.tree.map(lambda x: x[others], state.carry), jax.tree.map(lambda x: x[others], old)
    )


@pytest.mark.parametrize("mode", ["dense", "rows"])
def test_a_restored_run_resumes_bit_for_bit(mode, tmp_path):
    run = run_of(mode)
    whole, _ = run.steps(run.fresh(), run.loader, 6)

    batches = iter(run.loader)
    state, _ = run.steps(run.fresh(), batches, 3)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, state, {"batches": batches.get_state()}, {})
    checkpoints.close()

    checkpoints = Checkpoints(tmp_path)
    state = checkpoints.restore(3, jax.tree.map(jnp.zeros_like, run.fresh()))
    batches = iter(run.loader)
    batches.set_state(json.loads(json.dumps(checkpoints.read(3, "loader")["batches"])))
    checkpoints.close()
    resumed, _ = run.steps(state, batches, 3)
    assert_same(resumed, whole)


def test_the_seed_decides_everything():
    run, same, other = run_of("dense"), Run(), Run(seed=1)
    state, _ = run.steps(run.fresh(), run.loader, 2)
    assert_same(same.steps(same.fresh(), same.loader, 2)[0], state)
    # Each use of the seed separately: parameters, order of users, dropout and negatives.
    assert differs(other.fresh().params, run.fresh().params)
    assert differs(next(iter(other.loader)).batch, next(iter(run.loader)).batch)
    assert differs(other.steps(run.fresh(), run.loader, 2)[0].params, state.params)


@pytest.mark.parametrize("impressions", [0, 2])
def test_rows_mode_equals_dense_mode(impressions):
    # A large epsilon, because Adam would amplify the rounding of a gradient of 0.
    optimizer = OptimizerConfig(learning_rate=0.1, schedule="constant", adam_eps=0.1)
    plain = dataclasses.replace(MODEL, dropout=0.0, unknown_rate=0.0)
    shown = (("impressions", impressions),) if impressions else ()
    loss = dataclasses.replace(LOSS, own_negatives=True, negatives=(*LOSS.negatives, *shown))
    dense, rows = (
        Run(dataclasses.replace(plain, item_mode=mode), loss, optimizer)
        for mode in ("dense", "rows")
    )
    element = next(iter(dense.loader))
    given_blk = np.random.default_rng(0).integers(2, 7, (*BUCKET_EVENTS, 5), np.int32)
    if impressions:
        assert element.batch.negatives_blk.any()
        given_blk = np.concatenate([element.batch.negatives_blk, given_blk], -1)
    element = LaneBatch(element.batch.replace(negatives_blk=given_blk), element.info)

    fresh_carry = dense.model.init_carry(BUCKET.lanes)
    _, carry = make_eval_step(dense.model)(dense.fresh().params, element.batch, fresh_carry)
    expected, expected_metrics = dense.step(dense.fresh(), element.batch, dense.sources)
    local, distinct_u = to_local_ids(element.batch, ROWS, (16,))
    got, metrics = rows.step(rows.fresh(), local.replace(items=RowItems(distinct_u)), rows.sources)
    assert metrics["loss_sum"] == pytest.approx(float(expected_metrics["loss_sum"]), rel=1e-5)
    # The norm over the touched rows is that over all: the others have no gradient.
    assert metrics["grad_norm"] == pytest.approx(float(expected_metrics["grad_norm"]), rel=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got.params, expected.params
    )
    for lanes in (got.carry, expected.carry):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), lanes, carry)
    moved = (got.params["items"].input_vd != rows.fresh().params["items"].input_vd).any(-1)
    assert set(np.flatnonzero(moved)) <= set(distinct_u.tolist())
    assert moved.sum() > 3


def assert_learns_a_batch(run):
    batch = itertools.repeat(next(iter(run.loader)))
    state, metrics = run.steps(run.fresh(), batch, 60)
    loss_n = [float(m["loss_sum"] / m["weight"]) for m in metrics]
    assert np.mean(loss_n[-5:]) < 0.85 * np.mean(loss_n[:5])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_sampled_softmax_learns_a_batch(trained):
    assert_learns_a_batch(trained[0])


def test_cross_entropy_per_user_learns_a_batch():
    assert_learns_a_batch(Run(loss=LossConfig(name="cross_entropy", per_user=True)))


def test_the_evaluation_has_no_dropout_and_donates_its_carry():
    run = run_of("dense")
    params = run.fresh().params
    batch = next(iter(run.loader)).batch
    step = make_eval_step(run.model)
    carry = run.model.init_carry(BUCKET.lanes)
    first, _ = step(params, batch, carry)
    assert all(x.is_deleted() for x in jax.tree.leaves(carry))
    again, _ = step(params, batch, run.model.init_carry(BUCKET.lanes))
    np.testing.assert_array_equal(again.vectors, first.vectors)
    plain = build(dataclasses.replace(MODEL, dropout=0.0, unknown_rate=0.0))
    table_vd = params["items"].input_vd
    expected, _ = jax.jit(functools.partial(plain.apply, train=True))(
        {"params": params["model"]},
        batch.with_embeddings(table_vd),
        plain.init_carry(BUCKET.lanes),
    )
    np.testing.assert_allclose(first.vectors, expected, rtol=1e-5, atol=1e-6)
    assert step._cache_size() == 1
