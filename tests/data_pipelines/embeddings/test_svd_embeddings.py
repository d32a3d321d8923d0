"""Embeddings computed by `prepare`: those of the rankers, from the train part only."""

import numpy as np
import pytest

from data_pipelines.config import PrepareConfig
from data_pipelines.embeddings import svd_embeddings
from data_pipelines.embeddings.item_embeddings import open_item_embeddings
from data_pipelines.errors import DataError
from data_pipelines.prepare import prepare
from experiments.judging.rankers import fitted_histories
from experiments.runs.data import open_data
from hiertcn_jax.baselines.cooccurrence import cooccurrence
from hiertcn_jax.baselines.events import fitted_events
from hiertcn_jax.baselines.item_vectors import svd_item_vectors
from hiertcn_jax.batch import FIRST_ITEM_ID

SYNTHETIC = {"synthetic": "planted", "synthetic_users": 30}


@pytest.mark.parametrize("block_events", [1 << 22, 100])
def test_embeddings_have_the_rankers_directions_in_the_catalogues_order(
    tmp_path, monkeypatch, block_events
):
    """However many events are in memory at a time."""
    monkeypatch.setattr(svd_embeddings, "_BLOCK_EVENTS", block_events)
    directory = tmp_path / "D"
    listed = tmp_path / "ids.txt"
    listed.write_text("new\n")
    prepare(
        PrepareConfig(
            **SYNTHETIC, output_dir=str(directory), svd_embeddings=5, catalogue=str(listed)
        )
    )
    data = open_data(directory)
    assert "item_embeddings.npy" in data.manifest["files"]
    paths = (directory / "item_embeddings.npy", directory / "vocabulary.parquet")
    embeddings = open_item_embeddings(*paths, data.vocabulary, 0)
    counts = cooccurrence(fitted_events(fitted_histories(data, "train")), data.vocabulary.size)
    vectors = svd_item_vectors(counts, 5, 50, 0)[FIRST_ITEM_ID:]
    rows = embeddings.rows(np.arange(FIRST_ITEM_ID, data.vocabulary.size))
    norms = np.linalg.norm(rows, axis=1)
    # The same directions, with the square root of the length.
    np.testing.assert_allclose(rows * norms[:, None], vectors, rtol=1e-5, atol=1e-9)
    assert data.vocabulary.item_ids[-1] == "new"
    assert norms[-1] == 0 and (norms[:-1] > 0).mean() > 0.9


def test_more_values_than_items_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"svd_embeddings=5000: must be below the number of items"):
        prepare(PrepareConfig(**SYNTHETIC, output_dir=str(tmp_path / "D"), svd_embeddings=5000))
    assert not (tmp_path / "D").exists()
    with pytest.raises(ValueError, match="svd_embeddings=-1: must be >= 0"):
        PrepareConfig(**SYNTHETIC, output_dir="D", svd_embeddings=-1)
