"""Sessions of many items, such as a crawler's: counted in blocks, or kept without their pairs."""

import numpy as np
import pytest
from scipy import sparse

from hiertcn_jax.baselines import cooccurrence as cooccurrence_lib
from hiertcn_jax.baselines.cooccurrence import (
    cooccurrence,
    pairs_by_rows,
    session_items,
    sum_cooccurrence,
)
from hiertcn_jax.baselines.events import fitted_events
from hiertcn_jax.baselines.item_knn import ItemKNN, greatest_of_rows
from hiertcn_jax.baselines.item_vectors import svd_item_vectors
from hiertcn_jax.baselines.ranges import places_of
from tests.baselines.logs import ROWS, fitted, held_out, histories, random_log


def events_of(seed):
    return fitted_events(histories(fitted(random_log(seed))))


@pytest.mark.parametrize("most", [1, 7, 30, 1 << 21])
def test_blocks_contain_all_pairs_and_keep_their_limit(monkeypatch, most):
    monkeypatch.setattr(cooccurrence_lib, "_PAIRS_AT_ONCE", most)
    holds_mv = session_items(events_of(0), ROWS)
    dense_mv = holds_mv.toarray()
    expected = dense_mv.T @ dense_mv * (1 - np.eye(ROWS))
    blocks = list(pairs_by_rows(holds_mv))
    ends = [first + pairs.shape[0] for first, pairs in blocks]
    assert [first for first, _ in blocks] == [0, *ends[:-1]] and ends[-1] == ROWS
    np.testing.assert_array_equal(np.vstack([p.toarray() for _, p in blocks]), expected)
    assert all(pairs.nnz <= most or pairs.shape[0] == 1 for _, pairs in blocks)
    assert len(blocks) == 1 or most < ROWS**2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("neighbours", [1, 3, 100])
def test_item_knn_is_bit_for_bit_the_same_in_blocks(monkeypatch, seed, neighbours):
    scores = []
    for most in (1 << 21, 1, 20):
        monkeypatch.setattr(cooccurrence_lib, "_PAIRS_AT_ONCE", most)
        ranker = ItemKNN(ROWS, neighbours=neighbours, balance=0.3, session_decay=0.9)
        ranker.fit(histories(fitted(random_log(seed))))
        scores.append([ranker.score(before) for before in held_out(random_log(seed))])
    assert np.any(scores[0])
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("number", [1, 2, 5, 20])
def test_the_greatest_of_each_row_with_ties_to_lower_columns(seed, number):
    rng = np.random.default_rng(seed)
    dense = rng.integers(0, 4, (6, 12)) * (rng.random((6, 1)) < 0.9).astype(float)
    expected = np.zeros_like(dense)
    for row, values in enumerate(dense):
        order = sorted(np.flatnonzero(values), key=lambda col: (-values[col], col))
        expected[row, order[:number]] = values[order[:number]]
    found = greatest_of_rows(sparse.csr_array(dense), number)
    np.testing.assert_array_equal(found.toarray(), expected)
    assert found.nnz == np.count_nonzero(expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("most", [0, 2, 3])
def test_the_vectors_are_the_same_without_the_pairs_of_long_sessions(monkeypatch, seed, most):
    events = events_of(seed)
    whole = cooccurrence(events, ROWS)
    assert not whole.long_mv.shape[0]
    monkeypatch.setattr(cooccurrence_lib, "_MOST_PAIRED_ITEMS", most)
    counts = cooccurrence(events, ROWS)
    assert counts.long_mv.shape[0] > 2 and counts.pairs_vv.nnz < whole.pairs_vv.nnz
    np.testing.assert_array_equal(counts.sessions_v, whole.sessions_v)
    together_vv = counts.pairs_vv + counts.long_mv.T @ counts.long_mv
    off_diagonal = 1 - np.eye(ROWS)
    np.testing.assert_array_equal(
        together_vv.toarray() * off_diagonal, whole.pairs_vv.toarray() * off_diagonal
    )
    expected, found = (svd_item_vectors(c, dim=4, shrinkage=2, seed=seed) for c in (whole, counts))
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-6)


def test_long_sessions_of_blocks_are_those_of_the_whole(monkeypatch):
    monkeypatch.setattr(cooccurrence_lib, "_MOST_PAIRED_ITEMS", 2)
    log = list(histories(fitted(random_log(3))))
    whole = cooccurrence(fitted_events(log), ROWS)
    summed = sum_cooccurrence((fitted_events(part) for part in (log[:3], log[3:4], log[4:])), ROWS)
    np.testing.assert_array_equal(summed.long_mv.toarray(), whole.long_mv.toarray())
    np.testing.assert_array_equal(summed.pairs_vv.toarray(), whole.pairs_vv.toarray())


def test_places_of_stretches():
    first, size = np.array([7, 3, 0, 9]), np.array([2, 3, 0, 1])
    assert places_of(first, size).tolist() == [7, 8, 3, 4, 5, 9]
    assert places_of(first[:0], size[:0]).tolist() == []
