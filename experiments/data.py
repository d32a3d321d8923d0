"""A prepared directory, opened."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.caching import CachedHistories
from data_pipelines.errors import DataError
from data_pipelines.events import HistorySource
from data_pipelines.histories.store import open_histories
from data_pipelines.manifest import load_manifest
from data_pipelines.vocabulary import Vocabulary


class Data(NamedTuple):
    """What `data_pipelines.prepare` made.

    Attributes:
      directory: Where it lies.
      histories: One history a user.
      vocabulary: The catalogue.
      manifest: See `data_pipelines.manifest.load_manifest`.
    """

    directory: Path
    histories: HistorySource
    vocabulary: Vocabulary
    manifest: dict[str, Any]

    @property
    def content_hash(self) -> str:
        """Same content, same hash."""
        return self.manifest["content_hash"]

    def user_ids(self, user_n: np.ndarray) -> list[str]:
        """The ids in the raw log of users by the index of their history."""
        users, inverse_n = np.unique(user_n, return_inverse=True)
        ids = [history.user_id for history in self.histories.__getitems__(users.tolist())]
        return [ids[place] for place in inverse_n]

    def fitted_events(self, fit_on: str) -> int:
        """Events of the parts that are fitted on."""
        splits = self.manifest["counts"]["splits"]
        return sum(splits[part]["events"]["all"] for part in fit_on.split("_"))

    def counts_v(self, fit_on: str) -> np.ndarray:
        """int64 [v]. Fitted events of each row of the item table, 0 for padding and unknown."""
        counts_v = self.vocabulary.counts_v
        return counts_v if fit_on == "train" else counts_v + self.vocabulary.valid_counts_v


def open_data(directory: str | Path) -> Data:
    """Opens a prepared directory.

    Raises:
      DataError: It is missing, incomplete, or of another schema version.
    """
    directory = Path(directory)
    manifest = load_manifest(directory)
    vocabulary = Vocabulary.load(directory)
    histories = CachedHistories(open_histories(directory))
    users = manifest["counts"]["users"]
    if len(histories) != users:
        raise DataError(
            f"{directory}: {len(histories)} histories, but manifest.json counts {users} users; "
            "prepare it again"
        )
    return Data(directory, histories, vocabulary, manifest)
