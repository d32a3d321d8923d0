"""The objective: each config gives the configured loss; keys depend on seed and step only."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.batch import Bucket, padding_batch
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.objective import event_loss, make_sources, stream_keys
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.scores import Queries

# Items 2, 3, 4; with u = (1, 0) scores are 1, 2, 0 + bias.
ITEMS = ItemTable(
    input_vd=jnp.array([[9.0, 9.0], [9.0, 9.0], [1.0, 0.0], [2.0, 1.0], [0.0, 3.0]]),
    output_vd=None,
    bias_v=jnp.array([9.0, 9.0, 0.0, 0.5, 0.0]),
)
SCORES = {2: 1.0, 3: 2.5, 4: 0.0}
MODEL = ModelConfig()
KEY = jax.random.key(0)
# Counts 1, 3, 4 of 8: popularity^0.5 would be irrational, so alpha is 1 below.
COUNTS = np.array([0, 0, 1, 3, 4])


def batch_of(targets, weights, negatives=None, own=None):
    """One lane: a session that continues, then one that starts, of the same user."""
    batch = padding_batch(Bucket(1, len(targets), 2))
    return batch.replace(
        item_ids_bl=np.array([targets], np.int32),
        loss_weight_bl=np.array([weights], np.float32),
        session_bl=np.array([[0] + [1] * (len(targets) - 1)], np.int32),
        negatives_k=None if negatives is None else np.array(negatives, np.int32),
        negatives_blk=None if own is None else np.array([own], np.int32),
    )


@functools.partial(jax.jit, static_argnums=(3, 4))
def jitted_loss(u_bld, batch, sources, config, model, key):
    return event_loss(Queries(u_bld), batch, ITEMS, sources, key, config, model)


def loss_of(config, batch, sources=(), model=MODEL, u=(1.0, 0.0), key=KEY):
    events = batch.item_ids_bl.shape[1]
    u_bld = jnp.tile(jnp.array(u), (1, events, 1))
    return jitted_loss(u_bld, batch, sources, config, model, key)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


UNIFORM = (("uniform", 2),)
PAIR = {
    # Target 2 (score 1) against 3 (2.5) and 4 (0).
    "nce": -np.log(sigmoid(1)) - (np.log(sigmoid(-2.5)) + np.log(sigmoid(0))) / 2,
    "bpr": -(np.log(sigmoid(1 - 2.5)) + np.log(sigmoid(1 - 0))) / 2,
    "hinge_linear": ((2.5 - 1 + 0.1) + 0) / 2,
    "hinge_sigmoid": ((sigmoid(2.5) - sigmoid(1) + 0.1) + 0) / 2,
    "hinge_logsigmoid": ((np.log(sigmoid(2.5)) - np.log(sigmoid(1)) + 0.1) + 0) / 2,
}


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", PAIR)
def test_losses_on_scores_by_hand(name, own):
    config = LossConfig(name=name, negatives=UNIFORM, own_negatives=own)
    drawn = {"own": [[3, 4]]} if own else {"negatives": [3, 4]}
    got = loss_of(config, batch_of([2], [0.5], **drawn), make_sources(config, COUNTS))
    assert got.total == pytest.approx(0.5 * PAIR[name], rel=1e-5)
    assert got.weight == 0.5


def test_the_constants_of_the_config_reach_their_losses():
    batch = batch_of([2], [1.0], negatives=[3, 4])
    hinge = LossConfig(name="hinge_linear", negatives=UNIFORM, hinge_delta=2.0)
    assert loss_of(hinge, batch, make_sources(hinge, COUNTS)).total == pytest.approx(
        ((2.5 - 1 + 2) + (0 - 1 + 2)) / 2
    )
    nce = LossConfig(name="nce", negatives=UNIFORM, nce_weight=0.0)
    assert loss_of(nce, batch, make_sources(nce, COUNTS)).total == pytest.approx(
        -np.log(sigmoid(1)), rel=1e-5
    )


def test_cross_entropy_by_hand():
    got = loss_of(LossConfig(name="cross_entropy"), batch_of([2, 3, 4], [1.0, 2.0, 0.0]))
    total = sum(np.exp(score) for score in SCORES.values())
    expected = -np.log(np.exp(1) / total) - 2 * np.log(np.exp(2.5) / total)
    assert got.total == pytest.approx(expected, rel=1e-5)
    assert got.weight == 3


def test_cross_entropy_is_never_taken_over_the_rows_of_a_batch():
    with pytest.raises(ValueError, match="item_mode=rows"):
        loss_of(
            LossConfig(name="cross_entropy"),
            batch_of([2], [1.0]),
            model=dataclasses.replace(MODEL, item_mode="rows"),
        )


def test_l2_by_hand():
    got = loss_of(LossConfig(name="l2"), batch_of([3, 4], [1.0, 0.5]))
    assert got.total == pytest.approx((2 - 1) ** 2 + 1**2 + 0.5 * (1**2 + 3**2))


def test_items_are_normalised_where_the_model_says():
    model = dataclasses.replace(MODEL, normalize="both")
    got = loss_of(LossConfig(name="cross_entropy"), batch_of([3], [1.0]), model=model)
    scores = {2: 1.0, 3: 2 / np.sqrt(5) + 0.5, 4: 0.0}
    total = sum(np.exp(score) for score in scores.values())
    assert got.total == pytest.approx(-np.log(np.exp(scores[3]) / total), rel=1e-5)


def test_sampled_softmax_divides_by_the_expected_counts_of_the_mixture():
    config = LossConfig(
        name="sampled_softmax",
        negatives=(("uniform", 3), ("popularity", 4)),
        popularity_alpha=1.0,
    )
    batch = batch_of([2], [1.0], negatives=[3, 4, 4, 3, 3, 2, 0])
    expected_count = {3: 3 / 3 + 4 * 3 / 8, 4: 3 / 3 + 4 * 4 / 8}
    # The hit on the target and the padding are no candidates.
    others = sum(np.exp(SCORES[item]) / expected_count[item] for item in (3, 4, 4, 3, 3))
    got = loss_of(config, batch, make_sources(config, COUNTS))
    assert got.total == pytest.approx(-np.log(np.exp(1) / (np.exp(1) + others)), rel=1e-5)

    plain = dataclasses.replace(config, logq=False)
    others = sum(np.exp(SCORES[item]) for item in (3, 4, 4, 3, 3))
    got = loss_of(plain, batch, make_sources(plain, COUNTS))
    assert got.total == pytest.approx(-np.log(np.exp(1) / (np.exp(1) + others)), rel=1e-5)


def test_in_batch_candidates_are_expected_by_popularity_and_the_share_of_targets():
    config = LossConfig(name="sampled_softmax", negatives=(("in_batch", 1),), popularity_alpha=0.5)
    # Two targets, an event without weight and padding: half of the slots hold a candidate.
    batch, sources = batch_of([3, 2, 4, 0], [1.0, 0.0, 1.0, 0.0]), make_sources(config, COUNTS)
    # One draw of those; q is that of popularity with alpha = 1, whatever the config says.
    expected_count = {3: 1 / 2 * 3 / 8, 4: 1 / 2 * 4 / 8}
    # Candidate 3 for the event on 4, candidate 4 for the event on 3, or none.
    outcomes = {
        "3": np.log(1 + np.exp(2.5) / expected_count[3] / np.exp(0.0)),
        "4": np.log(1 + np.exp(0.0) / expected_count[4] / np.exp(2.5)),
        "none": 0.0,
    }
    seen = set()
    for seed in range(20):
        total = loss_of(config, batch, sources, key=jax.random.key(seed)).total
        near = [name for name, value in outcomes.items() if abs(total - value) < 1e-5]
        assert len(near) == 1
        seen.update(near)
    assert seen == set(outcomes)


# Target 2 compared with 3, shown with it, and with five draws of which two count: 4 and 4.
SHOWN, DRAWN = [3, 0], [4, 3, 4, 2, 0]
MIXED = {
    "nce": -np.log(sigmoid(1)) - (np.log(sigmoid(-2.5)) + 2 * np.log(sigmoid(0))) / 3,
    "bpr": -(np.log(sigmoid(1 - 2.5)) + 2 * np.log(sigmoid(1 - 0))) / 3,
    "hinge_linear": ((2.5 - 1 + 0.1) + 0) / 3,
    "hinge_sigmoid": ((sigmoid(2.5) - sigmoid(1) + 0.1) + 0) / 3,
    "hinge_logsigmoid": ((np.log(sigmoid(2.5)) - np.log(sigmoid(1)) + 0.1) + 0) / 3,
    # E = 1 for the shown item, n q = 5 * 4 / 8 for the drawn one.
    "sampled_softmax": np.log(np.exp(1) + np.exp(2.5) + 2 * np.exp(0) / (5 * 4 / 8)) - 1,
}


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", MIXED)
def test_impressions_and_draws_are_taken_together_each_item_once(name, own):
    config = LossConfig(
        name=name,
        negatives=(("impressions", 2), ("popularity", 5)),
        own_negatives=own,
        popularity_alpha=1.0,
    )
    if own:
        given = {"own": [[*SHOWN, *DRAWN]]}
    else:
        given = {"own": [SHOWN], "negatives": DRAWN}
    sources = make_sources(config, COUNTS)
    assert [source.count for source in sources] == [5]
    got = loss_of(config, batch_of([2], [0.5], **given), sources)
    assert got.total == pytest.approx(0.5 * MIXED[name], rel=1e-5)
    if name == "sampled_softmax":
        plain = dataclasses.replace(config, logq=False)
        expected = np.log(np.exp(1) + np.exp(2.5) + 2 * np.exp(0)) - 1
        got = loss_of(plain, batch_of([2], [1.0], **given), sources)
        assert got.total == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", MIXED)
def test_events_without_impressions_have_the_other_sources_alone(name, own):
    draws = (("popularity", 5),)
    with_them = LossConfig(name=name, negatives=(("impressions", 2), *draws), own_negatives=own)
    without = dataclasses.replace(with_them, negatives=draws)
    if own:
        given = ({"own": [[0, 0, *DRAWN]]}, {"own": [DRAWN]})
    else:
        given = ({"own": [[0, 0]], "negatives": DRAWN}, {"negatives": DRAWN})
    got, expected = (
        loss_of(config, batch_of([2], [1.0], **arrays), make_sources(config, COUNTS)).total
        for config, arrays in zip((with_them, without), given, strict=True)
    )
    assert got == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("name", MIXED)
def test_impressions_alone(name):
    config = LossConfig(name=name, negatives=(("impressions", 2),))
    got = loss_of(config, batch_of([2], [1.0], own=[SHOWN]))
    expected = {
        "nce": -np.log(sigmoid(1)) - np.log(sigmoid(-2.5)),
        "bpr": -np.log(sigmoid(1 - 2.5)),
        "hinge_linear": 2.5 - 1 + 0.1,
        "hinge_sigmoid": sigmoid(2.5) - sigmoid(1) + 0.1,
        "hinge_logsigmoid": np.log(sigmoid(2.5)) - np.log(sigmoid(1)) + 0.1,
        "sampled_softmax": np.log(np.exp(1) + np.exp(2.5)) - 1,
    }
    assert got.total == pytest.approx(expected[name], rel=1e-5)


def test_a_batch_without_the_impressions_is_refused():
    config = LossConfig(negatives=(("impressions", 2),))
    for batch in (batch_of([2], [1.0]), batch_of([2], [1.0], own=[[3]])):
        with pytest.raises(ValueError, match="negatives=impressions:2: the batch has no"):
            loss_of(config, batch)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("logq", [True, False])
def test_the_mixture_is_unbiased_for_the_full_softmax(own, logq):
    """E[e^loss] = sum_i e^{s_i} / e^{s_target}, whatever was shown; without logq far from it."""
    rng = np.random.default_rng(0)
    items = ItemTable(jnp.asarray(rng.normal(size=(11, 2))), None, jnp.asarray(rng.normal(size=11)))
    counts = np.array([0, 0, 60, 20, 10, 5, 3, 1, 1, 8, 4])
    config = LossConfig(
        negatives=(("uniform", 3), ("impressions", 3), ("popularity", 4)),
        own_negatives=own,
        logq=logq,
    )
    # Item 3, which was shown, would be drawn often too; 8 hardly ever.
    batch = batch_of([2], [1.0], own=[[3, 8, 0]])
    sources, u_bld = make_sources(config, counts), jnp.array([[[1.0, -0.5]]])

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def ratio(key, batch):
        return jnp.exp(event_loss(Queries(u_bld), batch, items, sources, key, config, MODEL).total)

    ratios = ratio(jax.random.split(jax.random.key(0), 40_000), batch)
    scores = np.asarray(items.input_vd @ u_bld[0, 0] + items.bias_v, np.float64)
    exact = np.exp(scores[2:]).sum() / np.exp(scores[2])
    deviation = float(ratios.std()) / np.sqrt(len(ratios))
    assert deviation < 0.01 * exact
    assert (abs(float(ratios.mean()) - exact) < 5 * deviation) == logq


def test_sources_are_what_the_config_names():
    config = LossConfig(
        name="bpr",
        negatives=(("uniform", 2), ("popularity", 3), ("in_batch", 4)),
        popularity_alpha=0.5,
    )
    uniform, popularity, in_batch = make_sources(config, COUNTS)
    assert [uniform.count, popularity.count, in_batch.count] == [2, 3, 4]
    assert [uniform.in_batch, popularity.in_batch, in_batch.in_batch] == [False, False, True]
    roots = np.sqrt(COUNTS[2:]) / np.sum(np.sqrt(COUNTS[2:]))
    for source, q in ((uniform, [1 / 3] * 3), (popularity, roots), (in_batch, COUNTS[2:] / 8)):
        np.testing.assert_allclose(np.exp(source.proposal.log_q_v), [0, 0, *q], rtol=1e-5)


@pytest.mark.parametrize("name", ["cross_entropy", "l2"])
def test_losses_without_negatives_have_no_sources(name):
    assert make_sources(LossConfig(name=name), COUNTS) == ()


def test_per_user_every_user_counts_once():
    """A user with one event and one with two: a mean of the means."""
    config = LossConfig(name="cross_entropy", per_user=True)
    batch = batch_of([2, 3, 4], [1.0, 1.0, 1.0])
    batch = batch.replace(starts_user_bs=np.array([[False, True]]))
    total = sum(np.exp(score) for score in SCORES.values())
    loss = {item: -np.log(np.exp(score) / total) for item, score in SCORES.items()}
    got = loss_of(config, batch)
    assert got.total == pytest.approx(loss[2] + (loss[3] + loss[4]) / 2, rel=1e-5)
    assert got.weight == pytest.approx(2)


def test_negatives_are_a_function_of_the_key():
    config = LossConfig(name="bpr", negatives=(("uniform", 3),))
    batch, sources = batch_of([2, 3], [1.0, 1.0]), make_sources(config, COUNTS)
    totals = [
        float(loss_of(config, batch, sources, key=jax.random.key(seed)).total)
        for seed in (0, 0, 1, 2, 3)
    ]
    assert totals[0] == totals[1]
    assert len(set(totals)) > 1


def test_keys_of_a_step_are_a_function_of_seed_and_step_and_all_distinct():
    def words(seed, step):
        keys = stream_keys(seed, jnp.int32(step))
        return {name: tuple(jax.random.key_data(key).tolist()) for name, key in keys.items()}

    every = [words(seed, step) for seed in range(3) for step in range(4)]
    assert all(set(keys) == {"dropout", "unknown", "negatives"} for keys in every)
    assert len({key for keys in every for key in keys.values()}) == 3 * 4 * 3
    assert words(1, 2) == words(1, 2)
    traced = jax.jit(lambda step: jax.tree.map(jax.random.key_data, stream_keys(1, step)))(2)
    assert {name: tuple(data.tolist()) for name, data in traced.items()} == words(1, 2)
