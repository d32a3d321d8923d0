"""Proposals, the candidates drawn from them, and how often each is expected."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.learning import negatives

COUNTS_V = np.array([0, 0, 5, 0, 1, 100, 30, 0])
DRAWS = 200_000


def powers(counts_v, alpha):
    """Plain popularity^alpha of the items with events."""
    weight_v = np.where(counts_v > 0, np.maximum(counts_v, 1.0) ** alpha, 0)
    return weight_v / weight_v.sum()


def frequencies(item_ids, rows):
    counts = np.bincount(np.asarray(item_ids).reshape(-1), minlength=rows)
    assert len(counts) == rows
    return counts / counts.sum()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_draws_come_as_often_as_the_proposal_says(alpha):
    proposal = negatives.popularity_proposal(COUNTS_V, alpha)
    expected_v = powers(COUNTS_V, alpha)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(proposal.log_q_v, np.log(expected_v), rtol=1e-6)
    drawn_v = frequencies(proposal.sample(jax.random.key(1), (DRAWS,)), len(COUNTS_V))
    # Five standard deviations of a binomial share; exactly 0 if the probability is 0.
    tolerance_v = 5 * np.sqrt(expected_v * (1 - expected_v) / DRAWS)
    assert np.all(np.abs(drawn_v - expected_v) <= tolerance_v)


def test_uniform_covers_the_catalogue_and_nothing_else():
    proposal = negatives.uniform_proposal(12)
    np.testing.assert_allclose(proposal.log_q_v[FIRST_ITEM_ID:], np.log(0.1), rtol=1e-6)
    np.testing.assert_array_equal(proposal.log_q_v[:FIRST_ITEM_ID], -np.inf)
    drawn_v = frequencies(proposal.sample(jax.random.key(2), (DRAWS,)), 12)
    assert np.all(drawn_v[:FIRST_ITEM_ID] == 0)
    assert np.all(np.abs(drawn_v[FIRST_ITEM_ID:] - 0.1) < 5 * np.sqrt(0.09 / DRAWS))


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 10**12), min_size=1, max_size=40).filter(any),
    alpha=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)
def test_every_word_has_an_owner_of_positive_probability(counts, alpha):
    counts_v = np.array([0, 0, *counts])
    proposal = negatives.popularity_proposal(counts_v, alpha)
    owners = np.asarray(proposal.item_ids_p)
    firsts = np.asarray(proposal.first_draw_p, np.int64)
    # A row can be drawn exactly if it has events, however rare, and its share is its log q.
    np.testing.assert_array_equal(owners, np.flatnonzero(counts_v))
    shares = np.diff(firsts, append=2**32)
    assert firsts[0] == 0
    assert np.all(shares >= 1)
    np.testing.assert_allclose(
        proposal.log_q_v[jnp.asarray(owners)], np.log(shares / 2**32), rtol=1e-6
    )


def test_the_first_and_the_last_word_find_their_owners(monkeypatch):
    proposal = negatives.popularity_proposal(COUNTS_V, 1.0)
    words = jnp.array([0, 2**32 - 1], jnp.uint32)
    monkeypatch.setattr(jax.random, "bits", lambda *_: words)
    np.testing.assert_array_equal(proposal.sample(jax.random.key(0), (2,)), [2, 6])


def test_rare_items_of_a_large_catalogue_are_drawn_at_their_rate():
    # 1,000 rare items own 2^-20 of the draws together. A float32 CDF has steps of 2^-24 near 1: 16
    # for all of them, so it would omit 98 in 100.
    counts_v = np.zeros(1_003)
    counts_v[FIRST_ITEM_ID] = 1_000 * (2**20 - 1)
    counts_v[FIRST_ITEM_ID + 1 :] = 1
    proposal = negatives.popularity_proposal(counts_v, 1.0)
    shares = np.diff(np.asarray(proposal.first_draw_p, np.int64), append=2**32)
    # 2^12 words over 1,000 items.
    assert set(shares[1:].tolist()) == {4, 5}


@pytest.mark.parametrize(
    ("counts", "alpha", "message"),
    [
        ([0, 0, 0], 1.0, "no item"),
        ([0, 0], 1.0, "no item"),
        ([1, 0, 3], 1.0, "rows 0..1"),
        ([0, 0, -1], 1.0, ">= 0"),
        ([0, 0, np.nan], 1.0, "finite"),
        ([0, 0, 1], -0.5, "alpha=-0.5"),
    ],
)
def test_bad_proposals_are_refused(counts, alpha, message):
    with pytest.raises(ValueError, match=message):
        negatives.popularity_proposal(np.array(counts), alpha)


def test_uniform_without_catalogue_is_refused():
    with pytest.raises(ValueError, match="no item"):
        negatives.uniform_proposal(FIRST_ITEM_ID)


def test_expected_count_of_a_mixture():
    uniform = negatives.uniform_proposal(len(COUNTS_V))
    popular = negatives.popularity_proposal(COUNTS_V, 0.5)
    ids = jnp.arange(len(COUNTS_V))
    logs = negatives.log_expected_count([10, 3.5], [uniform.log_q_v, popular.log_q_v], ids)
    expected = 3.5 * powers(COUNTS_V, 0.5)
    expected[FIRST_ITEM_ID:] += 10 / 6
    np.testing.assert_allclose(np.exp(logs), expected, rtol=1e-5)


sample = jax.jit(negatives.sample_candidates, static_argnames="shared")
ITEM_IDS_BL = jnp.array([[2, 4, 5], [5, 6, PADDING_ID]])
WEIGHT_BL = jnp.array([[1.0, 0.0, 0.5], [1.0, 1.0, 0.0]])


def mixture():
    popular = negatives.popularity_proposal(COUNTS_V, 1.0)
    return [
        negatives.Source(popular, 40, in_batch=True),
        negatives.Source(negatives.uniform_proposal(len(COUNTS_V)), 30),
        negatives.Source(negatives.popularity_proposal(COUNTS_V, 0.5), 10),
    ]


@pytest.mark.parametrize("shared", [True, False])
def test_candidates_are_masked_where_they_are_no_negatives(shared):
    found = sample(jax.random.key(3), mixture(), ITEM_IDS_BL, WEIGHT_BL, shared=shared)
    assert found.item_ids.shape == ((80,) if shared else (2, 3, 80))
    assert found.mask_blk.shape == (2, 3, 80)
    ids_blk = np.broadcast_to(found.item_ids, (2, 3, 80))
    for lane in range(2):
        for event in range(3):
            ids = ids_blk[lane, event]
            expected = (ids != PADDING_ID) & (ids != int(ITEM_IDS_BL[lane, event]))
            np.testing.assert_array_equal(found.mask_blk[lane, event], expected)
    # The in-batch candidates come last. Four of six slots are valid; only their items occur.
    in_batch = ids_blk[..., 40:]
    assert set(np.unique(in_batch)) <= {PADDING_ID, 2, 5, 6}
    assert abs((in_batch != PADDING_ID).mean() - 4 / 6) < 0.3
    assert not np.any(np.isin(ids_blk[..., :40], [PADDING_ID, 1]))


def test_expected_counts_of_drawn_candidates():
    found = sample(jax.random.key(4), mixture(), ITEM_IDS_BL, WEIGHT_BL, shared=True)
    expected_v = 40 * (4 / 6) * powers(COUNTS_V, 1) + 10 * powers(COUNTS_V, 0.5)
    expected_v[FIRST_ITEM_ID:] += 30 / 6
    ids = np.asarray(found.item_ids)
    real = ids != PADDING_ID
    np.testing.assert_allclose(
        np.exp(found.log_expected_count)[real], expected_v[ids[real]], rtol=1e-5
    )


def test_expected_counts_are_the_mean_over_keys():
    # All targets occur as often as their popularity, so in-batch is exact too.
    item_ids_bl = jnp.array([[2, 4, 4, 4, 0]])
    weight_bl = jnp.array([[1.0, 1.0, 1.0, 1.0, 0.0]])
    counts_v = np.array([0, 0, 1, 0, 3])
    sources = [
        negatives.Source(negatives.popularity_proposal(counts_v, 1.0), 6, in_batch=True),
        negatives.Source(negatives.uniform_proposal(5), 4),
    ]

    def count_v(key):
        found = negatives.sample_candidates(key, sources, item_ids_bl, weight_bl, shared=True)
        return jnp.bincount(found.item_ids, length=5)

    keys = jax.random.split(jax.random.key(5), 1_000)
    mean_v = jax.lax.map(count_v, keys, batch_size=100).mean(0)
    logs_v = negatives.log_expected_count(
        [6 * 4 / 5, 4], [source.proposal.log_q_v for source in sources], jnp.arange(5)
    )
    # 1,000 sets of 10 draws: a standard deviation is at most sqrt(10 / 4) / sqrt(1,000) = 0.05.
    np.testing.assert_allclose(mean_v[2:], np.exp(logs_v)[2:], atol=0.25)


def test_same_key_same_candidates():
    def draw(seed, shared):
        key = jax.random.key(seed)
        return sample(key, mixture(), ITEM_IDS_BL, WEIGHT_BL, shared=shared).item_ids

    for shared in (True, False):
        np.testing.assert_array_equal(draw(0, shared), draw(0, shared))
        assert np.any(np.asarray(draw(0, shared)) != np.asarray(draw(1, shared)))


def test_sources_do_not_share_their_draws():
    uniform = negatives.uniform_proposal(1_000)
    sources = [negatives.Source(uniform, 50), negatives.Source(uniform, 50)]
    ids = sample(jax.random.key(0), sources, ITEM_IDS_BL, WEIGHT_BL, shared=True).item_ids
    assert np.any(np.asarray(ids[:50]) != np.asarray(ids[50:]))


@pytest.mark.parametrize("shared", [True, False])
def test_rows_mode_is_dense_mode_with_local_ids(shared):
    # The batch touches the rows 0, 1, 6, 5, 4, 2; its tail is filled with padding.
    distinct_u = jnp.array([0, 1, 6, 5, 4, 2, 0, 0])
    local_of = {int(row): place for place, row in reversed(list(enumerate(distinct_u)))}
    to_local = np.vectorize(lambda row: local_of[int(row)])
    drawn = jnp.array([5, 2, 6, PADDING_ID])
    if not shared:
        drawn = jnp.broadcast_to(drawn, (2, 3, 4))
    popular = negatives.popularity_proposal(COUNTS_V, 1.0)
    half = negatives.popularity_proposal(COUNTS_V, 0.5)
    key = jax.random.key(6)

    def sources(at):
        return [negatives.Source(at(half), 4), negatives.Source(at(popular), 7, in_batch=True)]

    dense = sample(key, sources(lambda p: p), ITEM_IDS_BL, WEIGHT_BL, shared=shared, drawn=drawn)
    rows = sample(
        key,
        sources(lambda p: p.at_rows(distinct_u)),
        jnp.asarray(to_local(ITEM_IDS_BL)),
        WEIGHT_BL,
        shared=shared,
        drawn=jnp.asarray(to_local(drawn)),
    )
    np.testing.assert_array_equal(distinct_u[rows.item_ids], dense.item_ids)
    np.testing.assert_array_equal(rows.mask_blk, dense.mask_blk)
    np.testing.assert_array_equal(rows.log_expected_count, dense.log_expected_count)


def test_drawn_candidates_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected shape \(40,\), got \(5,\)"):
        negatives.sample_candidates(
            jax.random.key(0), mixture(), ITEM_IDS_BL, WEIGHT_BL, True, jnp.zeros(5, jnp.int32)
        )


def test_rows_of_a_batch_cannot_be_sampled_from():
    rows = negatives.uniform_proposal(5).at_rows(jnp.array([0, 1, 3]))
    with pytest.raises(ValueError, match="cannot be sampled"):
        rows.sample(jax.random.key(0), (2,))


def test_given_candidates_are_certain():
    found = negatives.given_candidates(jnp.array([[[3, 4, PADDING_ID]]]), jnp.array([[4]]))
    np.testing.assert_array_equal(found.mask_blk, [[[True, False, False]]])
    np.testing.assert_array_equal(found.log_expected_count, 0)
