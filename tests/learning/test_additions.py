"""Losses with additions to the scores of lists, compared with plain sums over all scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.learning import losses
from hiertcn_jax.learning.candidate_losses import candidate_loss, own_sampled_softmax
from hiertcn_jax.learning.negatives import Candidates, given_candidates, without_own
from hiertcn_jax.learning.softmax_losses import cross_entropy, shared_sampled_softmax
from hiertcn_jax.scoring.scores import Additions, Keys, Queries
from tests.random_model import dense_scores, random_lists, random_model
from tests.volume import mostly_thorough

ROWS, WIDTH = 14, 5
_, _, _, TARGETS, WEIGHT = random_model(0, ROWS)
# Few draws, some twice, one empty; shown items: some drawn too, some listed, one empty.
DRAWN = np.array([2, 5, PADDING_ID, 5, 7, 8, 12, 5, 7], np.int32)
LOG_EXPECTED_V = jnp.asarray(np.random.default_rng(3).normal(size=ROWS), jnp.float32)


def own_ids(seed, count):
    """Ids of each event's own, at most once, some of them none."""
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.permutation(ROWS)[:count] for _ in range(TARGETS.size)])
    ids[ids < FIRST_ITEM_ID] = PADDING_ID
    return jnp.asarray(ids.reshape(*TARGETS.shape, count), jnp.int32)


SHOWN, OWN_DRAWN = given_candidates(own_ids(4, 3), TARGETS), own_ids(5, 6)


def drawn(ids):
    """Draws, shared or own, as `negatives` makes them."""
    mask = (ids != PADDING_ID) & (ids != TARGETS[..., None])
    return Candidates(jnp.asarray(ids), jnp.asarray(mask), LOG_EXPECTED_V[ids])


def plain_softmax(counts):
    """The loss of scores [*e, v] if each item counts this many times, beside the target."""

    def loss(scores):
        target = jnp.take_along_axis(scores, TARGETS[..., None], -1)
        logit = jnp.where(counts > 0, scores - target + jnp.log(jnp.maximum(counts, 1e-30)), -1e30)
        terms = jax.nn.logsumexp(jnp.concatenate([jnp.zeros(target.shape), logit], -1), -1)
        return jnp.sum(WEIGHT * terms)

    return loss


def softmax_counts(lists, draws, shown, logq):
    """How often each item counts at each event: certain ones once, draws as often as drawn."""
    counts = np.zeros((*TARGETS.shape, ROWS))
    for event in np.ndindex(TARGETS.shape):
        certain = {int(i) for i in np.asarray(lists.item_ids[event])}
        certain |= {int(i) for i in np.asarray(shown[event])} if shown is not None else set()
        of_event = np.asarray(draws if draws.ndim == 1 else draws[event])
        for item in of_event:
            if int(item) not in certain:
                counts[event][item] += np.exp(-float(LOG_EXPECTED_V[item])) if logq else 1
        counts[event][list(certain)] = 1
        counts[event][int(TARGETS[event])] = 0
        counts[event][:FIRST_ITEM_ID] = 0
    return jnp.asarray(counts, jnp.float32)


def kept(formula, sets):
    """A loss on kept scores: the library's, and that of dense scores."""

    def loss(queries, keys):
        return candidate_loss(formula, queries, keys, TARGETS, WEIGHT, sets).total

    def plain(lists):
        def of_scores(scores):
            negative = [
                jnp.take_along_axis(scores, jnp.broadcast_to(s.item_ids, s.mask_blk.shape), -1)
                for s in sets
            ]
            target = jnp.take_along_axis(scores, TARGETS[..., None], -1)[..., 0]
            mask = jnp.concatenate([s.mask_blk for s in sets], -1)
            return formula(target, jnp.concatenate(negative, -1), mask, WEIGHT).total

        return of_scores

    return loss, plain


def full():
    def loss(queries, keys, chunk=None):
        return cross_entropy(queries, keys, TARGETS, WEIGHT, chunk).total

    everything = (np.arange(ROWS) >= FIRST_ITEM_ID) & (np.arange(ROWS) != TARGETS[..., None])
    return loss, lambda lists: plain_softmax(jnp.asarray(everything, jnp.float32))


def shared(shown, logq):
    def loss(queries, keys):
        logs = LOG_EXPECTED_V[DRAWN] if logq else None
        scored = (queries, keys, TARGETS, WEIGHT)
        return shared_sampled_softmax(*scored, jnp.asarray(DRAWN), logs, shown).total

    ids = None if shown is None else shown.item_ids
    return loss, lambda lists: plain_softmax(softmax_counts(lists, DRAWN, ids, logq))


def own(shown, logq):
    def loss(queries, keys):
        draws = drawn(OWN_DRAWN) if shown is None else without_own(drawn(OWN_DRAWN), shown)
        return own_sampled_softmax(queries, keys, TARGETS, WEIGHT, shown, draws, logq).total

    ids = None if shown is None else shown.item_ids
    return loss, lambda lists: plain_softmax(softmax_counts(lists, OWN_DRAWN, ids, logq))


def shown_alone():
    def loss(queries, keys):
        return own_sampled_softmax(queries, keys, TARGETS, WEIGHT, SHOWN, None, True).total

    none = np.zeros(0, np.int32)
    return loss, lambda lists: plain_softmax(softmax_counts(lists, none, SHOWN.item_ids, True))


FORMULAS = {
    "nce": functools.partial(losses.nce, nce_weight=0.5),
    "bpr": losses.bpr,
    "hinge_linear": losses.hinge_linear,
    "hinge_sigmoid": losses.hinge_sigmoid,
    "hinge_logsigmoid": losses.hinge_logsigmoid,
}
CASES = {
    "cross_entropy": full(),
    **{
        f"{which.__name__} sampled_softmax, {name}, logq={logq}": which(shown, logq)
        for which in (shared, own)
        for name, shown in (("draws", None), ("draws and shown", SHOWN))
        for logq in (True, False)
    },
    "sampled_softmax, shown": shown_alone(),
    **{f"{name}, own": kept(f, [drawn(OWN_DRAWN)]) for name, f in FORMULAS.items()},
    "bpr, shared and shown": kept(losses.bpr, [SHOWN, drawn(DRAWN)]),
}
all_cases = pytest.mark.parametrize(
    "name",
    mostly_thorough(
        CASES,
        "cross_entropy",
        "shared sampled_softmax, draws, logq=True",
        "own sampled_softmax, draws and shown, logq=True",
        "bpr, shared and shown",
    ),
)


def model(seed):
    u, table, bias, _, _ = random_model(seed, ROWS)
    return u, table, bias, random_lists(seed, TARGETS, ROWS, WIDTH)


def value_and_gradients(loss, u, table, bias, lists):
    """Gradients of a loss by u, table, bias, and the values of the lists."""

    def total(u, table, bias, values):
        return 0.7 * loss(Queries(u, lists._replace(values=values)), Keys(table, bias))

    return jax.jit(jax.value_and_grad(total, (0, 1, 2, 3)))(u, table, bias, lists.values)


@all_cases
def test_value_and_gradients_equal_those_of_dense_scores(name):
    loss, plain_of = CASES[name]
    for seed in range(3):
        u, table, bias, lists = model(seed)
        plain = plain_of(lists)

        def of_dense(queries, keys, plain=plain):
            return plain(dense_scores(queries.vectors, keys.rows, keys.bias, queries.additions))

        expected, expected_grads = value_and_gradients(of_dense, u, table, bias, lists)
        value, grads = value_and_gradients(loss, u, table, bias, lists)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        for grad, expected_grad in zip(grads, expected_grads, strict=True):
            np.testing.assert_allclose(grad, expected_grad, rtol=1e-4, atol=2e-6)
        has_item = np.asarray(lists.item_ids) >= FIRST_ITEM_ID
        assert np.any(np.asarray(grads[3])[has_item] != 0)
        # Padding and events of weight 0 get no gradient, and nothing is NaN.
        counts = has_item & (np.asarray(WEIGHT) > 0)[..., None]
        np.testing.assert_array_equal(np.asarray(grads[3])[~counts], 0)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunks_of_events_change_nothing(chunk):
    loss = functools.partial(CASES["cross_entropy"][0], chunk=chunk)
    u, table, bias, lists = model(3)
    found = value_and_gradients(loss, u, table, bias, lists)
    expected = value_and_gradients(CASES["cross_entropy"][0], u, table, bias, lists)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected
    )


@all_cases
def test_events_of_weight_0_add_nothing_even_where_all_is_nan(name):
    u, table, bias, lists = model(4)
    off = np.asarray(WEIGHT)[..., None] == 0
    assert off.any()
    bad_u, bad_values = (jnp.where(off, jnp.nan, x) for x in (u, lists.values))
    bad_lists = lists._replace(values=bad_values)
    value, grads = value_and_gradients(CASES[name][0], bad_u, table, bias, bad_lists)
    expected, expected_grads = value_and_gradients(CASES[name][0], u, table, bias, lists)
    assert value == expected
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        np.testing.assert_array_equal(grad, expected_grad)
    assert np.all(np.asarray(grads[0])[off[..., 0]] == 0)


@all_cases
def test_lists_without_an_item_are_no_additions(name):
    """Without room for an item the program is the same; without an item the numbers are."""
    u, table, bias, _ = model(5)

    def total(queries):
        return CASES[name][0](queries, Keys(table, bias))

    def program(queries):
        return str(jax.make_jaxpr(jax.grad(lambda u: total(queries._replace(vectors=u))))(u))

    def lists(width):
        shape = (*TARGETS.shape, width)
        return Additions(jnp.full(shape, PADDING_ID, jnp.int32), jnp.full(shape, jnp.nan))

    assert program(Queries(u, lists(0))) == program(Queries(u))
    found, expected = (jax.value_and_grad(lambda q: total(q), allow_int=True)(q)
                       for q in (Queries(u, lists(3)), Queries(u)))  # fmt: skip
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1].vectors, expected[1].vectors, rtol=1e-5, atol=1e-6)
    if name == "cross_entropy":
        assert found[0] == expected[0]


def test_bfloat16_vectors_leave_the_additions_as_they_are():
    """Values too small for bfloat16 beside the scores still move the loss."""
    u, table, bias, lists = model(6)
    lists = lists._replace(values=jnp.full(lists.values.shape, 1e-3))
    low = u.astype(jnp.bfloat16)
    plain = CASES["cross_entropy"][1](lists)
    value, grads = value_and_gradients(CASES["cross_entropy"][0], low, table, bias, lists)
    rounded = low.astype(jnp.float32), table.astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_allclose(value, 0.7 * plain(dense_scores(*rounded, bias, lists)), rtol=1e-5)
    assert [grad.dtype for grad in grads] == [jnp.bfloat16, *[jnp.float32] * 3]


def test_l2_refuses_additions():
    u, table, _, lists = model(0)
    with pytest.raises(ValueError, match="loss=l2: uses no scores"):
        losses.l2(Queries(u, lists), Keys(table), TARGETS, WEIGHT)
