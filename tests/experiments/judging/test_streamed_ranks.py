"""Ranks over a catalogue in a file equal those over a table, with ties and seen items."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.judging.config import EvalConfig
from experiments.judging.streamed_ranks import StreamedRanks
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.scoring import ranks as ranking
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.keys import item_keys
from hiertcn_jax.scoring.metrics import TOP
from hiertcn_jax.scoring.scores import Additions, Queries, row_scores
from tests.given_files import given_embeddings, table_of

ROWS, WIDTH, EVENTS = 60, 5, 23


def streamed(
    embeddings, u_nd, item_n, seen_nk=None, normalize="none", devices=1, additions=None, **sizes
):
    config, devices = EvalConfig(**sizes), jax.devices()[:devices]
    ranks = StreamedRanks(embeddings, ModelConfig(normalize=normalize), config, devices)
    parts = ranks(Queries(u_nd, additions), item_n, seen_nk)
    found = [np.concatenate([ranking.ranks_of(part.counts) for part in parts])]
    found.append(embeddings.items_at(np.concatenate([part.listed_nk for part in parts])))
    return tuple(x[: len(item_n)] for x in found)


@pytest.mark.parametrize(
    "rank_chunk, rank_events, devices",
    [(7, 1, 1), (29, 4, 1), (57, 64, 1), (1 << 20, 5, 1), (7, 2, 3)],
)
@pytest.mark.parametrize("normalize", ["none", "both"])
def test_ranks_are_those_of_the_table(tmp_path, rank_chunk, rank_events, devices, normalize):
    embeddings = given_embeddings(tmp_path, ROWS, WIDTH, dtype="f2", ties=True)
    generator = np.random.default_rng(0)
    u_nd = generator.normal(size=(EVENTS, WIDTH)).astype(np.float32)
    item_n = generator.integers(FIRST_ITEM_ID, ROWS, EVENTS)
    seen_nk = generator.integers(0, ROWS, (EVENTS, 4)).astype(np.int32)
    items = ItemTable(jnp.asarray(table_of(embeddings)), None, None)
    keys = item_keys(items, ModelConfig(normalize=normalize))
    for seen in (None, seen_nk):
        counts, listed_nk = ranking.rank(
            Queries(jnp.asarray(u_nd)), keys, jnp.asarray(item_n), ROWS,
            None if seen is None else jnp.asarray(seen), k=TOP,
        )  # fmt: skip
        assert np.any(counts.equal_n), "no ties"
        expected = ranking.ranks_of(counts)
        sizes = {"rank_chunk": rank_chunk, "rank_events": rank_events, "devices": devices}
        found, listed = streamed(embeddings, u_nd, item_n, seen, normalize, **sizes)
        np.testing.assert_array_equal(found, expected)
        assert_equal_lists(listed, listed_nk, embeddings, u_nd, keys)


def assert_equal_lists(found_nk, expected_nk, embeddings, u_nd, keys):
    """The same scores; of equal ones the first in the file comes first."""
    scores_nv = np.asarray(row_scores(Queries(jnp.asarray(u_nd)), keys))
    scores_nk = np.take_along_axis(scores_nv, found_nk, 1)
    np.testing.assert_array_equal(scores_nk, np.take_along_axis(scores_nv, expected_nk, 1))
    places_nk = embeddings.file_indices(found_nk)
    ties_nk = scores_nk[:, 1:] == scores_nk[:, :-1]
    assert np.all((places_nk[:, 1:] > places_nk[:, :-1])[ties_nk]) and ties_nk.any()


@pytest.mark.parametrize(
    "rank_chunk, rank_events, devices", [(7, 4, 1), (1 << 20, 64, 1), (7, 2, 3)]
)
def test_ranks_with_additions_are_those_of_the_table(tmp_path, rank_chunk, rank_events, devices):
    embeddings = given_embeddings(tmp_path, ROWS, WIDTH, dtype="f2", ties=True)
    generator = np.random.default_rng(1)
    u_nd = generator.normal(size=(EVENTS, WIDTH)).astype(np.float32)
    item_n = generator.integers(FIRST_ITEM_ID, ROWS, EVENTS)
    ids_nm = np.stack([generator.permutation(ROWS)[:9] for _ in range(EVENTS)]).astype(np.int32)
    ids_nm[::2, 0] = item_n[::2]
    ids_nm[::2, 1:] *= ids_nm[::2, 1:] != ids_nm[::2, :1]
    additions = Additions(ids_nm, generator.choice(np.float32([-1, 0, 1]), ids_nm.shape))
    keys = item_keys(ItemTable(jnp.asarray(table_of(embeddings)), None, None), ModelConfig())
    queries = jax.tree.map(jnp.asarray, Queries(u_nd, additions))
    counts, _ = ranking.rank(queries, keys, jnp.asarray(item_n), ROWS)
    without, _ = ranking.rank(Queries(queries.vectors), keys, jnp.asarray(item_n), ROWS)
    assert np.any(counts.greater_n != without.greater_n)
    sizes = {"rank_chunk": rank_chunk, "rank_events": rank_events, "devices": devices}
    found, _ = streamed(embeddings, u_nd, item_n, additions=additions, **sizes)
    np.testing.assert_array_equal(found, ranking.ranks_of(counts))


def test_each_chunk_is_read_once_and_those_with_a_target_twice(tmp_path, monkeypatch):
    embeddings = given_embeddings(tmp_path, ROWS, WIDTH)
    reads = []
    real = type(embeddings).read_file_indices

    def read_file_indices(self, start, size):
        reads.append((start, size))
        return real(self, start, size)

    monkeypatch.setattr(type(embeddings), "read_file_indices", read_file_indices)
    file_indices = embeddings.file_indices(np.arange(ROWS))
    item_n = np.flatnonzero((file_indices >= 12) & (file_indices < 17))
    streamed(embeddings, np.ones((5, WIDTH), np.float32), item_n, rank_chunk=10, rank_events=2)
    # 58 items from 2 on; the last chunk starts early enough to be full.
    assert reads == [(12, 10), (2, 10), (12, 10), (22, 10), (32, 10), (42, 10), (50, 10)]


def test_without_events_there_are_no_ranks(tmp_path):
    embeddings = given_embeddings(tmp_path, ROWS, WIDTH)
    ranks = StreamedRanks(embeddings, ModelConfig(), EvalConfig(), jax.devices()[:2])
    assert ranks(Queries(np.zeros((0, WIDTH), np.float32)), np.zeros(0, np.int32), None) == []
