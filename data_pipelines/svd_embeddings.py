"""Item embeddings for a log without: from which items are picked in the same sessions of train."""

from pathlib import Path

import numpy as np

from data_pipelines.dataset import Dataset
from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from hiertcn_jax.baselines.cooccurrence import cooccurrence
from hiertcn_jax.baselines.events import FittedEvents
from hiertcn_jax.baselines.item_vectors import svd_item_vectors
from hiertcn_jax.batch import FIRST_ITEM_ID

FILE_NAME = "item_embeddings.npy"

_SHRINKAGE_SESSIONS = 50.0
"""As of the rankers that use such vectors."""


def write_svd_embeddings(directory: Path, dataset: Dataset, width: int) -> None:
    """Writes `item_embeddings.npy`: float32, a row for each item of `vocabulary.parquet`.

    Items without an event in train get zeros.

    Args:
      directory: Where to.
      dataset: The log; its train part is looked at.
      width: `d`, values in a row.

    Raises:
      DataError: There are not more items in train than that.
    """
    counts = cooccurrence(_train_events(dataset), dataset.vocabulary.size)
    items = np.count_nonzero(counts.sessions_v)
    if width >= items:
        raise DataError(f"svd_embeddings={width}: must be below the number of items, {items}")
    vectors_vd = svd_item_vectors(counts, width, _SHRINKAGE_SESSIONS, seed=0)
    np.save(directory / FILE_NAME, vectors_vd[FIRST_ITEM_ID:])


def _train_events(dataset: Dataset) -> FittedEvents:
    """The known events of the train part."""
    session_n = np.repeat(np.arange(len(dataset.session_lengths)), dataset.session_lengths)
    is_train_n = dataset.session_splits[session_n] == Split.TRAIN
    taken_n = is_train_n & (dataset.item_ids >= FIRST_ITEM_ID)
    return FittedEvents(
        dataset.item_ids[taken_n].astype(np.int64),
        dataset.times[taken_n],
        session_n[taken_n],
        dataset.times[np.cumsum(dataset.session_lengths) - 1],
    )
