"""The TFDS dataset of histories: what a record holds, and where."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

SPLIT = "users"
"""The one split of the dataset. Train, valid and test are parts of a user's history."""


class LocalInfo(tfds.core.DatasetInfo):
    """What is known of a dataset that is made here, and nowhere else."""

    def initialize_from_bucket(self) -> None:
        """Asks no server for it, and leaves no temporary folder, as TFDS does for new datasets."""


class Histories(tfds.core.GeneratorBasedBuilder):
    """One record a user, see `record.History`. Arrays are kept as their bytes.

    `store.write_histories` fills it; there is nothing to download or generate. TFDS's own writer
    holds all records in memory, and beyond 1 GB needs TensorFlow.
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
    """A vector of any length; as bytes it is read a hundred times faster than as a list."""
    return tfds.features.Tensor(shape=(None,), dtype=dtype, encoding=tfds.features.Encoding.BYTES)
