"""Files of given embeddings, for tests."""

import numpy as np
import polars as pl

from data_pipelines.embeddings.item_embeddings import open_item_embeddings
from data_pipelines.sessions.vocabulary import Vocabulary
from hiertcn_jax.batch import FIRST_ITEM_ID


def write_embeddings(directory, item_ids, width, seed=0, dtype="f4", ties=False):
    """Writes E.npy and E.txt: an item's row depends only on its id and the seed.

    With ties, every third row is the same.
    """
    rows = [np.random.default_rng([seed, *item.encode()]).normal(size=width) for item in item_ids]
    rows = [rows[3] if ties and place % 3 == 0 else row for place, row in enumerate(rows)]
    path, ids_path = directory / "E.npy", directory / "E.txt"
    np.save(path, (np.stack(rows) / np.sqrt(width)).astype(dtype))
    ids_path.write_text("".join(f"{item}\n" for item in item_ids))
    return path, ids_path


def given_embeddings(directory, rows, width, seed=0, dtype="f4", cache_bytes=1000, ties=False):
    """Embeddings of a catalogue, from a file with another order and more items."""
    items = [f"item {row}" for row in range(FIRST_ITEM_ID, rows)]
    shuffled = np.random.default_rng(seed).permutation([*items, "other 1", "other 2"]).tolist()
    paths = write_embeddings(directory, shuffled, width, seed, dtype, ties)
    counts = np.ones(len(items), np.int64)
    vocabulary = Vocabulary(pl.Series(items), counts, counts)
    return open_item_embeddings(*paths, vocabulary, cache_bytes)


def table_of(embeddings):
    """float32 [v, d]; zeros for padding and unknown."""
    table_vd = np.zeros((embeddings.table_rows, embeddings.width), np.float32)
    table_vd[FIRST_ITEM_ID:] = embeddings.rows(np.arange(FIRST_ITEM_ID, embeddings.table_rows))
    return table_vd
