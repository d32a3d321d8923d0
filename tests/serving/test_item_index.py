"""An index over the items: items it finds, items memory adds, excluded items."""

import jax
import numpy as np
import pytest

from hiertcn_jax.batch import PADDING_ID
from hiertcn_jax.scoring.keys import item_keys
from hiertcn_jax.scoring.scores import Additions, Keys, Queries
from hiertcn_jax.serving.item_index import ItemIndex
from hiertcn_jax.serving.scorer import ModelScorer, Request, best_rows
from hiertcn_jax.serving.stream import Stream
from tests.models.options import ITEMS
from tests.serving.test_stream import GAP, events_of, records, source_of, trained


def keys_of(items, width=6, seed=0):
    rng = np.random.default_rng(seed)
    rows, bias = rng.normal(size=(items + 2, width)), rng.normal(size=items + 2)
    return Keys(rows.astype(np.float32), bias.astype(np.float32))


def vectors_of(users, width=6, seed=1):
    return np.random.default_rng(seed).normal(size=(users, width)).astype(np.float32)


def test_additions_and_what_is_left_out_come_before_k():
    """So few items have one cell, which is searched: the index is exact."""
    keys, vectors = keys_of(70), vectors_of(5)
    rng = np.random.default_rng(2)
    listed = np.stack([rng.permutation(np.arange(2, 72))[:9] for _ in range(5)]).astype(np.int32)
    listed[:, -2:] = PADDING_ID
    queries = Queries(vectors, Additions(listed, rng.normal(0, 9, (5, 9)).astype(np.float32)))
    out = np.stack([rng.permutation(np.arange(2, 72))[:60] for _ in range(5)]).astype(np.int32)
    index = ItemIndex(keys, vectors)
    assert (index.cells, index.recall) == (1, 1.0)
    rows, scores, has_k = index.best(queries, 8, out)
    expected_rows, expected = best_rows(queries, keys, 8, out)
    assert rows.tolist() == expected_rows.tolist()
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
    assert has_k.all()


def test_it_says_what_it_finds():
    keys, vectors = keys_of(3000), vectors_of(40)
    index = ItemIndex(keys, vectors)
    assert index.cells > 1
    assert index.recall >= 0.99
    rows, _, _ = index.best(Queries(vectors), 100, np.zeros((40, 0), np.int32))
    exact, _ = best_rows(Queries(vectors), keys, 100)
    found = np.mean([len(set(a) & set(b)) / 100 for a, b in zip(rows, exact, strict=True)])
    assert found == pytest.approx(index.recall)


def test_a_scorer_gives_k_items_whatever_is_left_out():
    model, params = trained("hiertcn")
    keys, stream = item_keys(params["items"], model.config), Stream(model, params, GAP)
    source = records(source_of())
    state = stream.observe(stream.start(len(source)), [events_of(one, 0, 99) for one in source])
    sample = stream.predict(state, state.last_time_n)
    exact, indexed = (
        ModelScorer(stream, keys),
        ModelScorer(stream, keys, (), ItemIndex(keys, sample)),
    )
    left = np.ones(ITEMS, bool)
    left[[2, 5]] = False
    for left_v in (None, left):
        seen = state.own_nm[:, :8]
        one, other = (
            scorer.best(Request(state, state.last_time_n, ITEMS - 2, None, left_v, seen))
            for scorer in (exact, indexed)
        )
        assert np.where(one[1] > -np.inf, one[0], 0).tolist() == other[0].tolist()
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), one[1], other[1])


def test_without_users():
    with pytest.raises(ValueError, match="needs users to measure its recall"):
        ItemIndex(keys_of(5), vectors_of(0))
