"""The TFDS dataset of histories: its fields and its location."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

SPLIT = "users"
"""The dataset's only split. Train, valid and test are parts of each user's history."""


class LocalInfo(tfds.core.DatasetInfo):
    """The info of a dataset that exists only locally."""

    def initialize_from_bucket(self) -> None:
        """Asks no server and leaves no temporary folder, unlike TFDS's default for new datasets."""


class Histories(tfds.core.GeneratorBasedBuilder):
    """One record per user, see `record.History`. Arrays are stored as bytes.

    `store.write_histories` fills the dataset; there is nothing to download or generate. TFDS's own
    writer holds all records in memory, and needs TensorFlow for more than 1 GB.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Item rows, times, session lengths and splits, impressions."}  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        return LocalInfo(
            builder=self,
            description="Histories of users: sessions of events, in order of time.",
            features=tfds.features.FeaturesDict(
                {
                    "user_id": tfds.features.Text(),
                    "item_ids": _array(np.int32),
                    "times": _array(np.int64),
                    "session_lengths": _array(np.int32),
                    "session_splits": _array(np.uint8),
                    "shown_items": _array(np.int32),
                    "shown_counts": _array(np.int32),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        raise NotImplementedError("histories come from `python -m data_pipelines.prepare`")

    def _generate_examples(self) -> Iterator[Any]:
        raise NotImplementedError("histories come from `python -m data_pipelines.prepare`")


def _array(dtype: type[np.generic]) -> tfds.features.Tensor:
    """A vector of any length. Bytes are read a hundred times faster than a list."""
    return tfds.features.Tensor(shape=(None,), dtype=dtype, encoding=tfds.features.Encoding.BYTES)
