"""Ranks and best items against plain loops over the catalogue: ties, chunks, seen items."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.scoring import ranks as ranking
from hiertcn_jax.scoring import top_k as best
from hiertcn_jax.scoring.scores import Additions, Keys, Queries

rank = jax.jit(ranking.rank, static_argnames=("chunk", "k"))


def rank_counts(queries, keys, target, chunk, seen_nk=None):
    return rank(queries, keys, target, chunk=chunk, seen_nk=seen_nk).counts


top_k = jax.jit(best.top_k, static_argnames=("k", "chunk"))


def ranks(u, target, table, bias, chunk, seen=None):
    seen = None if seen is None else jnp.asarray(seen)
    counts = rank_counts(*model(u, table, bias), jnp.asarray(target), chunk=chunk, seen_nk=seen)
    return ranking.ranks_of(counts)


def model(u, table, bias=None):
    bias = None if bias is None else jnp.asarray(bias, jnp.float32)
    return Queries(jnp.asarray(u, jnp.float32)), Keys(jnp.asarray(table, jnp.float32), bias)


def plain_ranks(scores_nv, target_n, seen_nk):
    result = []
    for scores, target, seen in zip(scores_nv, target_n, seen_nk, strict=True):
        rank = 1.0
        for item in range(FIRST_ITEM_ID, len(scores)):
            if item != target and item not in seen:
                rank += 1.0 * (scores[item] > scores[target])
                rank += 0.5 * (scores[item] == scores[target])
        result.append(rank)
    return result


def plain_top_k(scores_nv, k, seen_nk):
    result = []
    for scores, seen in zip(scores_nv, seen_nk, strict=True):
        items = [item for item in range(FIRST_ITEM_ID, len(scores)) if item not in seen]
        items.sort(key=lambda item: (-scores[item], item))
        result.append((items + [PADDING_ID] * k)[:k])
    return np.array(result)


def small_integers(seed, events=4, rows=7, width=3):
    """A model whose scores are small whole numbers: exact in any order of summation, often tied."""
    rng = np.random.default_rng(seed)
    u = rng.integers(-2, 3, (events, width))
    table = rng.integers(-1, 2, (rows, width))
    bias = rng.integers(-1, 2, rows)
    target = rng.integers(FIRST_ITEM_ID, rows, events)
    # Repeated, padded with PADDING_ID, and some the target itself.
    seen = rng.integers(0, rows, (events, 4))
    seen[0, 0] = target[0]
    seen[-1] = PADDING_ID
    return u, table, bias, target, seen


@pytest.mark.parametrize("chunk", [1, 2, 3, 6, 7, 10])
def test_ranks_and_best_items_equal_a_loop_whatever_the_chunk(chunk):
    for seed in range(8):
        u, table, bias, target, seen = small_integers(seed)
        scores = u @ table.T + bias
        queries, keys = model(u, table, bias)
        counts, listed = rank(queries, keys, jnp.asarray(target), chunk, jnp.asarray(seen), k=5)
        np.testing.assert_array_equal(ranking.ranks_of(counts), plain_ranks(scores, target, seen))
        ids, values = top_k(queries, keys, k=5, chunk=chunk, seen_nk=jnp.asarray(seen))
        expected = plain_top_k(scores, 5, seen)
        np.testing.assert_array_equal(listed, expected)
        np.testing.assert_array_equal(ids, expected)
        found = expected != PADDING_ID
        expected_values = np.where(found, np.take_along_axis(scores, expected, 1), -np.inf)
        np.testing.assert_array_equal(values, expected_values)


def whole_additions(seed, rows=7, events=4, width=3):
    """Lists of small whole numbers, with places that hold no item; and the matrix of them."""
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.permutation(rows)[:width] for _ in range(events)]).astype(np.int32)
    values = np.where(ids >= FIRST_ITEM_ID, rng.integers(-3, 4, ids.shape), np.nan)
    added = np.zeros((events, rows), int)
    for event, place in np.argwhere(ids >= FIRST_ITEM_ID):
        added[event, ids[event, place]] = values[event, place]
    return Additions(jnp.asarray(ids), jnp.asarray(values, jnp.float32)), added


@pytest.mark.parametrize("chunk", [1, 2, 3, 6, 7, 10])
def test_ranks_and_best_items_with_additions_equal_a_loop_whatever_the_chunk(chunk):
    ties = 0
    for seed in range(8):
        u, table, bias, target, seen = small_integers(seed)
        lists, added = whole_additions(seed)
        scores = u @ table.T + bias + added
        queries, keys = model(u, table, bias)
        queries = queries._replace(additions=lists)
        counts = rank_counts(
            queries, keys, jnp.asarray(target), chunk=chunk, seen_nk=jnp.asarray(seen)
        )
        np.testing.assert_array_equal(ranking.ranks_of(counts), plain_ranks(scores, target, seen))
        ties += counts.equal_n.sum()
        ids, values = top_k(queries, keys, k=5, chunk=chunk, seen_nk=jnp.asarray(seen))
        expected = plain_top_k(scores, 5, seen)
        np.testing.assert_array_equal(ids, expected)
        found = expected != PADDING_ID
        expected_values = np.where(found, np.take_along_axis(scores, expected, 1), -np.inf)
        np.testing.assert_array_equal(values, expected_values)
    assert ties


def test_one_event_is_ranked_with_its_additions():
    u, table, bias, target, _ = small_integers(5, events=1)
    lists, added = whole_additions(5, events=1)
    queries, keys = model(u, table, bias)
    counts = rank_counts(queries._replace(additions=lists), keys, jnp.asarray(target), chunk=3)
    expected = plain_ranks(u @ table.T + bias + added, target, [[]])
    np.testing.assert_array_equal(ranking.ranks_of(counts), expected)


def test_an_addition_that_is_nan_is_an_error():
    u, table, bias, target, _ = small_integers(0)
    queries, keys = model(u, table, bias)
    values = jnp.zeros((4, 1)).at[2].set(jnp.nan)
    queries = queries._replace(additions=Additions(jnp.full((4, 1), 3), values))
    counts = rank_counts(queries, keys, jnp.asarray(target), chunk=3)
    with pytest.raises(ValueError, match="NaN at 1 of 4 events, the first is event 2"):
        ranking.ranks_of(counts)


@pytest.mark.parametrize(
    ("events", "rows", "chunk", "k"), [(1, 3, 2, 1), (1, 17, 5, 6), (5, 4, 2, 6), (5, 17, 100, 6)]
)
def test_shapes_of_all_kinds(events, rows, chunk, k):
    for seed in range(10):
        u, table, _, target, _ = small_integers(seed, events, rows)
        scores, no_seen = u @ table.T, [[]] * events
        np.testing.assert_array_equal(
            ranks(u, target, table, None, chunk), plain_ranks(scores, target, no_seen)
        )
        ids, _ = top_k(*model(u, table), k=k, chunk=chunk)
        np.testing.assert_array_equal(ids, plain_top_k(scores, k, no_seen))


@pytest.mark.parametrize("events", [1, 33])
@pytest.mark.parametrize("chunk", [31, 50, 200])
def test_copies_of_the_target_tie_exactly(events, chunk):
    """With scores that do round: every copy ties, in whatever place and chunk it lies."""
    rng = np.random.default_rng(chunk)
    table = rng.normal(size=(150, 100))
    copies = rng.choice(np.arange(FIRST_ITEM_ID, 150), 20, replace=False)
    table[copies] = rng.normal(size=100)
    bias = np.zeros(150)
    bias[copies] = 0.1
    u = rng.normal(size=(events, 100))
    target = rng.choice(copies, events)
    counts = rank_counts(*model(u, table, bias), jnp.asarray(target), chunk=chunk)
    np.testing.assert_array_equal(counts.equal_n, 19)
    scores = u @ table.T + bias
    greater = scores[:, FIRST_ITEM_ID:] > np.take_along_axis(scores, target[:, None], 1) + 1e-4
    np.testing.assert_array_equal(counts.greater_n, greater.sum(1))


@pytest.mark.parametrize("chunk", [7, 1_000])
def test_constant_scores_rank_in_the_middle(chunk):
    rng = np.random.default_rng(0)
    table = np.tile(rng.normal(size=(1, 64)), (103, 1))
    target = rng.integers(FIRST_ITEM_ID, 103, 6)
    catalogue = 103 - FIRST_ITEM_ID
    found = ranks(rng.normal(size=(6, 64)), target, table, None, chunk)
    np.testing.assert_array_equal(found, (catalogue + 1) / 2)
    np.testing.assert_array_equal(ranks(np.zeros((6, 64)), target, table, None, chunk), found)


def test_a_catalogue_of_one_item():
    table, u = np.ones((3, 2)), -np.ones((2, 2))
    np.testing.assert_array_equal(ranks(u, [2, 2], table, None, 8), 1)
    ids, values = top_k(*model(u, table), k=3, chunk=8)
    np.testing.assert_array_equal(ids, [[2, PADDING_ID, PADDING_ID]] * 2)
    np.testing.assert_array_equal(values, [[-2, -np.inf, -np.inf]] * 2)


def test_padding_and_unknown_do_not_compete():
    table = np.array([[100.0], [100.0], [1.0], [2.0]])
    np.testing.assert_array_equal(ranks([[1.0]], [3], table, None, 3), [1])
    ids, _ = top_k(*model(np.ones((1, 1)), table), k=2, chunk=3)
    np.testing.assert_array_equal(ids, [[3, 2]])


@pytest.mark.parametrize("chunk", [2, 5, 100])
def test_infinite_scores_have_an_order(chunk):
    bias = np.array([0, 0, np.inf, -np.inf, 0, np.inf, 5])
    table = np.zeros((7, 2))
    found = ranks(np.ones((5, 2)), [2, 3, 4, 5, 6], table, bias, chunk)
    np.testing.assert_array_equal(found, [1.5, 5, 4, 1.5, 3])


@pytest.mark.parametrize("chunk", [2, 100])
@pytest.mark.parametrize("spoil", ["u", "item", "target"])
def test_nan_and_unknown_targets_are_errors_that_name_the_event(spoil, chunk):
    u, table, bias, target, _ = small_integers(0)
    u, table, target = u.astype(float), table.astype(float), target.copy()
    events = 1
    if spoil == "u":
        u[2] = np.nan
    elif spoil == "item":
        table[6], events = np.nan, 4
    else:
        target[2] = len(table)
    first = 0 if spoil == "item" else 2
    with pytest.raises(
        ValueError, match=f"NaN at {events} of 4 events, the first is event {first}"
    ):
        ranks(u, target, table, bias, chunk)


def test_nan_where_nobody_competes_is_none():
    u, table, bias, target, _ = small_integers(1)
    spoiled = table.astype(float)
    spoiled[:FIRST_ITEM_ID] = np.nan
    np.testing.assert_array_equal(
        ranks(u, target, spoiled, bias, 4), ranks(u, target, table, bias, 4)
    )


def test_half_precision_tables_are_scored_in_float32():
    u, table, bias, target, _ = small_integers(2)
    counts = rank_counts(
        Queries(jnp.asarray(u, jnp.bfloat16)),
        Keys(jnp.asarray(table, jnp.bfloat16), jnp.asarray(bias, jnp.float32)),
        jnp.asarray(target),
        chunk=4,
    )
    np.testing.assert_array_equal(ranking.ranks_of(counts), ranks(u, target, table, bias, 4))


def test_order_of_items_does_not_move_a_rank():
    u, table, bias, target, _ = small_integers(3)
    order = np.r_[0, 1, FIRST_ITEM_ID + np.random.default_rng(0).permutation(len(table) - 2)]
    new_place = np.argsort(order)
    np.testing.assert_array_equal(
        ranks(u, target, table, bias, 3),
        ranks(u, new_place[target], table[order], bias[order], 3),
    )


def test_memory_is_bounded_by_the_chunk():
    u, table, target = jnp.ones((64, 8)), jnp.ones((20_000, 8)), jnp.full(64, 2)
    function = functools.partial(ranking.rank, chunk=500, k=20)
    stats = jax.jit(function).lower(Queries(u), Keys(table), target).compile().memory_analysis()
    if stats is None:
        pytest.skip("this backend tells no memory sizes")
    # 64 x 20,000 scores are 5,120,000 bytes, the table 640,000; a chunk of scores is 128,000.
    assert stats.temp_size_in_bytes < 600_000


@pytest.mark.parametrize(("k", "chunk", "message"), [(0, 1, "k=0"), (1, 0, "chunk=0")])
def test_sizes_below_one_are_refused(k, chunk, message):
    with pytest.raises(ValueError, match=message):
        best.top_k(*model(np.ones((2, 2)), np.ones((4, 2))), k, chunk)


def ids_where(present_nk):
    """Ids of the items of lists, from FIRST_ITEM_ID on."""
    return np.where(present_nk, FIRST_ITEM_ID + np.arange(present_nk.shape[1]), PADDING_ID)


@pytest.mark.parametrize("with_bias", [True, False])
def test_ranks_within_lists_equal_a_loop(with_bias):
    rng = np.random.default_rng(0)
    u = rng.normal(size=(6, 17)).astype(np.float32)
    # Equal rows at several places of a list: their scores are to be equal in the last bit.
    rows = rng.normal(size=(3, 17)).astype(np.float32)[rng.integers(0, 3, (6, 9))]
    bias = rng.integers(0, 2, (6, 9)).astype(np.float32) if with_bias else None
    present = np.arange(9) < np.array([1, 2, 5, 8, 9, 9])[:, None]
    spoiled = np.where(present[..., None], rows, np.nan)
    counts = jax.jit(ranking.list_counts)(Queries(u), Keys(spoiled, bias), ids_where(present))
    scores = np.einsum("nd,nkd->nk", u.astype(float), rows) + (0 if bias is None else bias)
    scores = np.where(present, np.round(scores, 4), -np.inf)
    above = (scores[:, 1:] > scores[:, :1]).sum(1)
    equal = (scores[:, 1:] == scores[:, :1]).sum(1)
    assert equal.any() and above.any()
    np.testing.assert_array_equal(ranking.ranks_of(counts), 1 + above + equal / 2)


def test_ranks_within_lists_take_the_additions():
    rng = np.random.default_rng(1)
    u, table, bias, _, _ = small_integers(1, events=6, rows=9)
    lists, added = whole_additions(1, rows=9, events=6)
    ids = np.stack([FIRST_ITEM_ID + rng.permutation(7)[:5] for _ in range(6)])
    ids[2, 3:] = PADDING_ID
    queries, keys = model(u, table, bias)
    keys = Keys(keys.rows[ids], keys.bias[ids])
    counts = jax.jit(ranking.list_counts)(queries._replace(additions=lists), keys, ids)
    scores = np.take_along_axis(u @ table.T + bias + added, ids, 1).astype(float)
    scores[ids == PADDING_ID] = -np.inf
    above = (scores[:, 1:] > scores[:, :1]).sum(1)
    equal = (scores[:, 1:] == scores[:, :1]).sum(1)
    assert equal.any() and above.any()
    np.testing.assert_array_equal(ranking.ranks_of(counts), 1 + above + equal / 2)


def test_a_score_that_is_nan_in_a_list_is_an_error():
    present = np.ones((2, 3), bool)
    for place in (0, 2):
        rows = np.zeros((2, 3, 4), np.float32)
        rows[1, place] = np.nan
        counts = jax.jit(ranking.list_counts)(
            Queries(jnp.ones((2, 4))), Keys(rows), ids_where(present)
        )
        with pytest.raises(ValueError, match="NaN at 1 of 2 events, the first is event 1"):
            ranking.ranks_of(counts)
