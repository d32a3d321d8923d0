"""The live catalogue: an item is there once anybody has picked it.

Of a log's items the fitted ones come first, then the later ones (`Vocabulary`). A model without
given embeddings has no row of its own for a later item: it reads the unknown item instead.
"""

import dataclasses
import functools

import numpy as np

from data_pipelines.sessions.vocabulary import Vocabulary
from hiertcn_jax.batch import FIRST_ITEM_ID, UNKNOWN_ID, LaneBatch

_EARLIEST, _LATEST = np.iinfo(np.int32).min, np.iinfo(np.int32).max


@dataclasses.dataclass(frozen=True, eq=False)
class OpenCatalogue:
    """When each item is known.

    Attributes:
      known_from_v: int64 [v]. Seconds, as `Vocabulary.known_from_v`.
      model_rows: Rows of the item table that the model has; ids from there on reach it as unknown.
    """

    known_from_v: np.ndarray
    model_rows: int

    @classmethod
    def of(cls, vocabulary: Vocabulary, knows_all: bool) -> "OpenCatalogue":
        """The catalogue of a log.

        Args:
          vocabulary: All items of the log.
          knows_all: Whether the model has something for every item, such as given embeddings.
        """
        rows = vocabulary.size if knows_all else vocabulary.fitted_size
        return cls(vocabulary.known_from_v, rows)

    @functools.cached_property
    def _entries(self) -> np.ndarray:
        return np.sort(self.known_from_v[FIRST_ITEM_ID:])

    def is_known(self, item_n: np.ndarray, time_n: np.ndarray) -> np.ndarray:
        """Bool, same shape. Whether these items are known before these times, in seconds."""
        return self.known_from_v[item_n] < time_n

    def items_known(self, time_n: np.ndarray) -> np.ndarray:
        """int64 [n]. How many items are known before each time."""
        return np.searchsorted(self._entries, time_n)

    def on_device(self, seconds: np.ndarray) -> np.ndarray:
        """int32, same shape: times on a clock that starts at the first known item's."""
        first = int(self._entries[np.searchsorted(self._entries, 0)]) if self._has_times else 0
        return np.clip(seconds - first, _EARLIEST + 1, _LATEST).astype(np.int32)

    @property
    def _has_times(self) -> bool:
        return len(self._entries) > 0 and self._entries[-1] >= 0

    def open(self, element: LaneBatch) -> LaneBatch:
        """A batch of an evaluation in this catalogue: scores the targets that are known by then."""
        batch, info = element
        known_bl = self.is_known(info.item_ids_bl, info.time_bl)
        ids_bl = np.where(batch.item_ids_bl < self.model_rows, batch.item_ids_bl, UNKNOWN_ID)
        batch = batch.replace(
            item_ids_bl=ids_bl.astype(np.int32),
            scored_bl=batch.scored_bl & known_bl,
            loss_weight_bl=np.where(known_bl, batch.loss_weight_bl, 0).astype(np.float32),
        )
        return LaneBatch(batch, info)
