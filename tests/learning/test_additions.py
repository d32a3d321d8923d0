"""Losses with additions to the scores of lists, compared with plain sums over all scores."""

import functools
from collections.abc import Callable
from typing import NamedTuple

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


class Case(NamedTuple):
    """A loss, and the same as a plain sum.

    Attributes:
      loss: Of (queries, keys), the library's.
      plain: Of (scores of all items, how often each counts).
      counts: How often each item counts, from the lists of additions; None: `plain` knows.
    """

    loss: Callable
    plain: Callable
    counts: Callable = lambda lists: None


def plain_softmax(scores, counts):
    """The loss of scores [*e, v] if each item counts this many times, beside the target."""
    target = jnp.take_along_axis(scores, TARGETS[..., None], -1)
    logit = jnp.where(counts > 0, scores - target + jnp.log(jnp.maximum(counts, 1e-30)), -1e30)
    terms = jax.nn.logsumexp(jnp.concatenate([jnp.zeros(target.shape), logit], -1), -1)
    return jnp.sum(WEIGHT * terms)


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
    """A loss on kept scores."""

    def loss(queries, keys):
        return candidate_loss(formula, queries, keys, TARGETS, WEIGHT, sets).total

    def plain(scores, _):
        negative = [
            jnp.take_along_axis(scores, jnp.broadcast_to(s.item_ids, s.mask_blk.shape), -1)
            for s in sets
        ]
        target = jnp.take_along_axis(scores, TARGETS[..., None], -1)[..., 0]
        mask = jnp.concatenate([s.mask_blk for s in sets], -1)
        return formula(target, jnp.concatenate(negative, -1), mask, WEIGHT).total

    return Case(loss, plain)


def full():
    def loss(queries, keys, chunk=None):
        return cross_entropy(queries, keys, TARGETS, WEIGHT, chunk).total

    everything = (np.arange(ROWS) >= FIRST_ITEM_ID) & (np.arange(ROWS) != TARGETS[..., None])
    return Case(loss, plain_softmax, lambda lists: jnp.asarray(everything, jnp.float32))


def shared(shown, logq):
    def loss(queries, keys):
        logs = LOG_EXPECTED_V[DRAWN] if logq else None
        scored = (queries, keys, TARGETS, WEIGHT)
        return shared_sampled_softmax(*scored, jnp.asarray(DRAWN), logs, shown).total

    ids = None if shown is None else shown.item_ids
    return Case(loss, plain_softmax, lambda lists: softmax_counts(lists, DRAWN, ids, logq))


def own(shown, logq):
    def loss(queries, keys):
        draws = drawn(OWN_DRAWN) if shown is None else without_own(drawn(OWN_DRAWN), shown)
        return own_sampled_softmax(queries, keys, TARGETS, WEIGHT, shown, draws, logq).total

    ids = None if shown is None else shown.item_ids
    return Case(loss, plain_softmax, lambda lists: softmax_counts(lists, OWN_DRAWN, ids, logq))


def shown_alone():
    def loss(queries, keys):
        return own_sampled_softmax(queries, keys, TARGETS, WEIGHT, SHOWN, None, True).total

    none = np.zeros(0, np.int32)
    ids = SHOWN.item_ids
    return Case(loss, plain_softmax, lambda lists: softmax_counts(lists, none, ids, True))


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


def differentiated(loss):
    """0.7 of a loss, and its gradients by u, table, bias and the values of the lists; compiled."""

    def total(u, table, bias, values, item_ids, *more):
        queries, keys = Queries(u, Additions(item_ids, values)), Keys(table, bias)
        return 0.7 * loss(queries, keys, *more)

    program = jax.jit(jax.value_and_grad(total, (0, 1, 2, 3)))
    return lambda u, table, bias, lists, *more: program(
        u, table, bias, lists.values, lists.item_ids, *more
    )


@functools.cache
def compiled(name):
    return differentiated(CASES[name].loss)


@functools.cache
def compiled_plain(name):
    def loss(queries, keys, counts):
        scores = dense_scores(queries.vectors, keys.rows, keys.bias, queries.additions)
        return CASES[name].plain(scores, counts)

    return differentiated(loss)


@all_cases
def test_value_and_gradients_equal_those_of_dense_scores(name):
    for seed in range(3):
        *parts, lists = model(seed)
        counts = CASES[name].counts(lists)
        expected, expected_grads = compiled_plain(name)(*parts, lists, counts)
        value, grads = compiled(name)(*parts, lists)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        for grad, expected_grad in zip(grads, expected_grads, strict=True):
            np.testing.assert_allclose(grad, expected_grad, rtol=1e-4, atol=2e-6)
        has_item = np.asarray(lists.item_ids) >= FIRST_ITEM_ID
        assert np.any(np.asarray(grads[3])[has_item] != 0)
        # Padding and events of weight 0 get no gradient, and nothing is NaN.
        counts = has_item & (np.asarray(WEIGHT) > 0)[..., None]
        np.testing.assert_array_equal(np.asarray(grads[3])[~counts], 0)


@pytest.mark.parametrize("chunk", mostly_thorough([1, 3, 100], 3))
def test_chunks_of_events_change_nothing(chunk):
    found = differentiated(functools.partial(CASES["cross_entropy"].loss, chunk=chunk))(*model(3))
    expected = compiled("cross_entropy")(*model(3))
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
    value, grads = compiled(name)(bad_u, table, bias, bad_lists)
    expected, expected_grads = compiled(name)(u, table, bias, lists)
    assert value == expected
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        np.testing.assert_array_equal(grad, expected_grad)
    assert np.all(np.asarray(grads[0])[off[..., 0]] == 0)


@all_cases
def test_lists_without_an_item_are_no_additions(name):
    """Without room for an item the program is the same; without an item the numbers are."""
    u, table, bias, lists = model(5)

    def total(u, table, bias, additions=None):
        return 0.7 * CASES[name].loss(Queries(u, additions), Keys(table, bias))

    def program(additions):
        return str(jax.make_jaxpr(jax.grad(functools.partial(total, additions=additions)))(
            u, table, bias))  # fmt: skip

    empty = jax.tree.map(lambda x: x[..., :0], lists)
    assert program(empty) == program(None)
    none = Additions(jnp.full_like(lists.item_ids, PADDING_ID), jnp.full_like(lists.values, np.nan))
    value, grads = compiled(name)(u, table, bias, none)
    expected, expected_grads = jax.jit(jax.value_and_grad(total, (0, 1, 2)))(u, table, bias)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for grad, expected_grad in zip(grads[:3], expected_grads, strict=True):
        np.testing.assert_allclose(grad, expected_grad, rtol=1e-5, atol=1e-6)
    if name == "cross_entropy":
        assert value == expected


def test_bfloat16_vectors_leave_the_additions_as_they_are():
    """Values too small for bfloat16 beside the scores still move the loss."""
    u, table, bias, lists = model(6)
    lists = lists._replace(values=jnp.full(lists.values.shape, 1e-3))
    low = u.astype(jnp.bfloat16)
    value, grads = compiled("cross_entropy")(low, table, bias, lists)
    rounded = low.astype(jnp.float32), table.astype(jnp.bfloat16).astype(jnp.float32)
    counts = CASES["cross_entropy"].counts(lists)
    expected, _ = compiled_plain("cross_entropy")(*rounded, bias, lists, counts)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert [grad.dtype for grad in grads] == [jnp.bfloat16, *[jnp.float32] * 3]


def test_l2_refuses_additions():
    u, table, _, lists = model(0)
    with pytest.raises(ValueError, match="loss=l2: uses no scores"):
        losses.l2(Queries(u, lists), Keys(table), TARGETS, WEIGHT)
