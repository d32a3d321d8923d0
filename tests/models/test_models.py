"""The neural baselines: plain NumPy loops, chunks, causality, resets, padding, training."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.batch import Bucket, padding_batch
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.models import MODELS, build, fields_of_models, model_config, models_with
from hiertcn_jax.models.sasrec import SASRecConfig
from hiertcn_jax.settings import fields_of
from tests.models import plain_hiertcn, plain_models
from tests.models.options import ITEMS, NEEDED, SMALL
from tests.packing import pack, seconds_of
from tests.volume import mostly_thorough

CHUNK = Bucket(3, 5, 3)

BASELINES = {
    "gru_session": {},
    "gru_user": {},
    "tcn_user": {},
    "hiergru": {},
    "sasrec": {},
    "esasrec": {},
    "hstu": {},
}
OPTIONS = {
    "gru_layers": {"name": "gru_user", "gru_layers": 2, "normalize": "prediction"},
    "gru_projection": {"name": "gru_session", "projection_dim": 7, "temperature": 0.5},
    "hiergru_fixed": {"name": "hiergru", "gap_decay": "fixed", "gap_decay_hours": 3.0},
    "hiergru_learned": {"name": "hiergru", "gap_decay": "learned", "hiergru_feed": "all"},
    "hiergru_all": {"name": "hiergru", "hiergru_feed": "all", "gru_layers": 2},
    # Reaches 2 events back in one block; with rows of 5 events, in blocks of 2.
    "sasrec_narrow": {"name": "sasrec", "attention_window": 3, "attention_blocks": 1},
    "sasrec_itself": {"name": "sasrec", "attention_window": 1, "attention_heads": 1},
    "esasrec_narrow": {"name": "esasrec", "attention_window": 3, "feed_forward_factor": 1},
    "hstu_narrow": {"name": "hstu", "attention_window": 3, "attention_blocks": 1},
}


def config_of(option):
    own = OPTIONS.get(option, NEEDED.get(option, {}))
    return model_config(**{**SMALL, "name": option, **own})


def random_users(rng, users):
    """Users as lists of (gap_hours, item ids); items 1 (unknown) .. ITEMS - 1."""
    return [
        [
            (
                float(np.float32(rng.uniform(0, 9))) if number else 0.0,
                rng.integers(1, ITEMS, rng.integers(1, 6)).tolist(),
            )
            for number in range(rng.integers(1, 5))
        ]
        for _ in range(users)
    ]


@functools.cache
def setup(config):
    """The model with random parameters, all away from their initial zeros, and an item table."""
    model, rng = build(config), np.random.default_rng(0)
    table_vd = rng.normal(size=(ITEMS, config.item_dim)).astype(np.float32)
    batch = padding_batch(CHUNK).with_embeddings(table_vd)
    shapes = jax.eval_shape(
        lambda key: model.init(key, batch, model.init_carry(3)), jax.random.key(0)
    )
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(leaf.dtype), shapes["params"]
    )
    return model, params, table_vd


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, batch, carry):
    return model.apply({"params": params}, batch, carry)


def run(config, lanes, bucket, padding_rows=0):
    """For each lane the predictions at its events in order, and the carry after the last row."""
    model, params, table_vd = setup(config)
    batches, places = pack(lanes, bucket)
    carry, outputs = jax.tree.map(np.asarray, model.init_carry(bucket.lanes)), []
    for batch in [*batches, *[padding_batch(bucket)] * padding_rows]:
        u_bld, carry = apply(model, params, batch.with_embeddings(table_vd), carry)
        outputs.append(np.asarray(u_bld))
    assert np.isfinite(outputs).all()
    return [np.array([outputs[i][lane, j] for i, j in ws]) for lane, ws in enumerate(places)], carry


def plain(config, user):
    """The same for one user, by the plain loops."""
    _, params, table_vd = setup(config)
    sessions = [items for _, items in user]
    whole = [item for items in sessions for item in items]
    if config.name == "gru_session":
        parts = [plain_models.flat_gru(params, config, table_vd, items) for items in sessions]
        return [u for part in parts for u in part]
    if config.name == "gru_user":
        return plain_models.flat_gru(params, config, table_vd, whole)
    if config.name == "tcn_user":
        return plain_hiertcn.predictions(params, config, table_vd, [whole], [0.0], long_term=False)
    if config.name == "hiergru":
        return plain_models.hiergru(params, config, table_vd, user)
    if config.name == "hstu":
        return plain_models.hstu(params, config, table_vd, whole, seconds_of(user))
    return getattr(plain_models, config.name)(params, config, table_vd, whole)


def lanes_of_users():
    users = random_users(np.random.default_rng(1), 6)
    return [users[:2], users[2:3], users[3:]]


@pytest.mark.parametrize("option", [*BASELINES, *OPTIONS])
def test_rows_equal_a_plain_loop_over_events(option):
    """Lanes of several users, of unequal length, so padded; rows that cut sessions."""
    config, lanes = config_of(option), lanes_of_users()
    got, _ = run(config, lanes, CHUNK)
    for lane, users in enumerate(lanes):
        expected = np.concatenate([plain(config, user) for user in users])
        np.testing.assert_allclose(got[lane], expected, rtol=1e-4, atol=1e-5)


BUCKETS = {"events": Bucket(3, 1, 1), "whole": Bucket(3, 40, 20)}


# test_predict_observe.py compares events one by one with the whole for every model.
@pytest.mark.parametrize("bucket", mostly_thorough(BUCKETS, "whole"))
@pytest.mark.parametrize("option", BASELINES)
def test_rows_of_any_length_give_the_same(option, bucket):
    config, lanes = config_of(option), lanes_of_users()
    got, _ = run(config, lanes, BUCKETS[bucket])
    expected, _ = run(config, lanes, CHUNK)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("option", [*BASELINES, *OPTIONS])
def test_later_events_change_no_earlier_bit(option):
    config = config_of(option)
    user = [(0.0, [2, 3, 1, 4]), (1.0, [5, 2]), (1.0, [7, 8, 9]), (1.0, [3])]
    before = run(config, [[user], [], []], CHUNK)[0][0]
    event, seen_later = 0, 0
    for m, (_, items) in enumerate(user):
        for t in range(len(items)):
            changed = [(gap, list(ids)) for gap, ids in user]
            changed[m][1][t] = 10
            after = run(config, [[changed], [], []], CHUNK)[0][0]
            # The event itself is predicted from earlier events.
            np.testing.assert_array_equal(after[: event + 1], before[: event + 1])
            seen_later += not np.array_equal(after[event + 1 :], before[event + 1 :])
            event += 1
    # In a model of single sessions, the last events of sessions reach nothing.
    assert seen_later == (event - len(user) if config.name == "gru_session" else event - 1)


@pytest.mark.parametrize("option", BASELINES)
def test_the_order_of_lanes_changes_nothing(option):
    config, lanes = config_of(option), lanes_of_users()
    expected, _ = run(config, lanes, CHUNK)
    got, _ = run(config, [lanes[2], lanes[0], lanes[1]], CHUNK)
    for one, other in zip([got[1], got[2], got[0]], expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("option", [*BASELINES, *OPTIONS])
def test_rows_of_padding_leave_the_carry_as_it_is(option):
    config, lanes = config_of(option), lanes_of_users()
    _, carry = run(config, lanes, CHUNK)
    _, padded = run(config, lanes, CHUNK, padding_rows=1)
    jax.tree.map(np.testing.assert_array_equal, carry, padded)


@pytest.mark.parametrize("option", BASELINES)
def test_bfloat16_is_near_float32_and_returns_float32(option):
    config, lanes = config_of(option), lanes_of_users()
    exact, _ = run(config, lanes, CHUNK)
    rough, _ = run(dataclasses.replace(config, dtype="bfloat16"), lanes, CHUNK)
    assert rough[2].dtype == np.float32
    assert np.corrcoef(exact[2].ravel(), rough[2].ravel())[0, 1] > 0.99


@functools.partial(jax.jit, static_argnums=0)
def gradients(model, params, table_vd, batch, seed):
    """Gradients in training, with respect to parameters and item table."""
    rngs = {"dropout": jax.random.key(seed), "unknown": jax.random.key(seed + 1)}

    def total(params, table_vd):
        u_bld, _ = model.apply(
            {"params": params},
            batch.with_embeddings(table_vd),
            model.init_carry(CHUNK.lanes),
            train=True,
            rngs=rngs,
        )
        return jnp.sum(u_bld**2 * batch.loss_weight_bl[..., None])

    return jax.grad(total, argnums=(0, 1))(params, table_vd)


@pytest.mark.parametrize("option", BASELINES)
def test_training_reaches_every_parameter_and_no_padding(option):
    config = dataclasses.replace(config_of(option), unknown_rate=0.3, dropout=0.2)
    model, params, table_vd = setup(config)
    batch = pack([[[(0.0, [2, 3]), (0.0, [4, 5, 6])]], [[(0.0, [7, 8])]], []], CHUNK)[0][0]
    grads, table_grad_vd = gradients(model, params, table_vd, batch, 0)
    for path, leaf in jax.tree.leaves_with_path(grads):
        assert np.isfinite(leaf).all() and np.any(leaf != 0), path
    np.testing.assert_array_equal(table_grad_vd[0], 0)
    assert np.any(table_grad_vd[2:] != 0)

    again, _ = gradients(model, params, table_vd, batch, 0)
    jax.tree.map(np.testing.assert_array_equal, grads, again)
    seeds = [gradients(model, params, table_vd, batch, seed)[1][1] for seed in range(1, 9)]
    assert any(np.any(row != 0) for row in seeds), "the unknown item stands in for others"


def test_tcn_session_knows_no_other_session():
    config = config_of("tcn_session")
    one = run(config, [[[(0.0, [2, 3, 4]), (1.0, [5, 6])]], [], []], CHUNK)[0][0]
    other = run(config, [[[(0.0, [7, 8, 9]), (1.0, [5, 6])]], [], []], CHUNK)[0][0]
    np.testing.assert_array_equal(one[3:], other[3:])


def test_memory_alone_predicts_nothing_and_needs_memories():
    config = config_of("memory")
    got, _ = run(config, lanes_of_users(), CHUNK)
    assert not np.any(got[0])
    # Weights learn from the moment, which is 8 numbers wide, and from no prediction.
    _, params, _ = setup(config)
    assert params["terms"]["by_moment"]["kernel"].shape[0] == 8
    with pytest.raises(ValueError, match=r"memory=: the model memory needs one or more of world"):
        model, batch = build(model_config("memory")), padding_batch(CHUNK)
        table_vd = np.zeros((2, 128))
        model.apply({"params": params}, batch.with_embeddings(table_vd), model.init_carry(3))


def test_sasrec_sees_as_far_as_its_blocks_reach():
    """2 blocks of 4: the newest item and 2 * 3 before it."""
    config = config_of("sasrec")
    items = [2 + i % 9 for i in range(12)]
    before = run(config, [[[(0.0, items)]], [], []], CHUNK)[0][0]
    after = run(config, [[[(0.0, [11, *items[1:]])]], [], []], CHUNK)[0][0]
    changed = np.any(after != before, axis=-1)
    np.testing.assert_array_equal(np.flatnonzero(changed), np.arange(1, 8))


def test_models_have_the_names_of_their_flags():
    for name in MODELS:
        config = config_of(name)
        assert config.name == name and bool(config.widths) == (name != "memory")
        assert type(build(config)) is MODELS[name].module
    with pytest.raises(ValueError, match="model=nothing: must be one of hiertcn, "):
        build(ModelConfig(name="nothing"))
    with pytest.raises(ValueError, match="model=nothing: must be one of hiertcn, "):
        model_config("nothing")


def test_a_setting_that_several_models_have_is_the_same_for_all():
    """So one flag serves all of them."""
    for field in fields_of_models():
        for name in models_with(field.name):
            own = next(f for f in fields_of(MODELS[name].config) if f.name == field.name)
            if field.name != "name":
                assert (own.default, own.choices, own.setting, own.owner) == (
                    field.default, field.choices, field.setting, field.owner,
                )  # fmt: skip


def test_a_model_has_its_own_settings_alone():
    assert models_with("pooling") == ("hiertcn",)
    assert models_with("attention_dim") == ("sasrec", "esasrec", "hstu")
    assert models_with("kernel_size") == ("hiertcn", "tcn_session", "tcn_user")
    assert models_with("dropout") == tuple(MODELS)
    assert models_with("gru_colour") == ()
    assert model_config("sasrec", attention_dim=8, gru_dim=3) == SASRecConfig(attention_dim=8)
    with pytest.raises(ValueError, match="gru_colour=blue: is no setting of a model"):
        model_config("sasrec", gru_colour="blue")
    with pytest.raises(TypeError):
        SASRecConfig(gru_dim=3)


@pytest.mark.parametrize("name", MODELS)
def test_a_carry_can_be_donated(name):
    carry = build(config_of(name)).init_carry(2)
    donated = jax.jit(lambda carry: jax.tree.map(lambda x: x + 1, carry), donate_argnums=0)(carry)
    assert all(np.all(leaf == 1) for leaf in jax.tree.leaves(donated))


@pytest.mark.parametrize("name", MODELS)
def test_no_operation_of_a_model_reads_the_negatives(name):
    """Impressions are no input: an item may have been shown because of the event."""
    model, params, table_vd = setup(config_of(name))
    params = jax.tree.map(jnp.asarray, params)
    batch = padding_batch(CHUNK).with_embeddings(table_vd)
    batch = batch.replace(
        negatives_k=np.zeros(3, np.int32),
        negatives_blk=np.zeros((3, 5, 2), np.int32),
    )
    program = jax.make_jaxpr(lambda b: model.apply({"params": params}, b, model.init_carry(3)))
    jaxpr = program(batch).jaxpr
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(batch)]
    variables = dict(zip(paths, jaxpr.invars, strict=True))
    read = {id(variable) for operation in jaxpr.eqns for variable in operation.invars}
    assert id(variables[".item_ids_bl"]) in read
    assert id(variables[".negatives_blk"]) not in read
    assert id(variables[".negatives_k"]) not in read


def test_a_model_needs_its_items():
    config = config_of("gru_user")
    model, params, _ = setup(config)
    with pytest.raises(ValueError, match="EmbeddedItems, got TableItems"):
        model.apply({"params": params}, padding_batch(CHUNK), model.init_carry(3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hiergru_feed": "both"}, "hiergru_feed=both: must be one of init, all"),
        ({"attention_window": 0}, "attention_window=0: must be >= 1"),
        ({"attention_heads": 3}, "attention_heads=3: must divide attention_dim=128"),
    ],
)
def test_settings_out_of_range_name_their_field(changes, message):
    with pytest.raises(ValueError, match=message):
        model_config(models_with(next(iter(changes)))[0], **changes)
