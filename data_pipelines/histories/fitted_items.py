"""Histories as a model sees them that knows the fitted catalogue alone: later items are unknown."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_pipelines.histories.events import HistorySource
from data_pipelines.histories.record import History
from data_pipelines.sessions.vocabulary import Vocabulary
from hiertcn_jax.batch import UNKNOWN_ID


def as_fitted(item_ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The rows of items, with `UNKNOWN_ID` for the later ones; int32, same shape."""
    return np.where(item_ids < vocabulary.fitted_size, item_ids, UNKNOWN_ID).astype(np.int32)


class FittedItems:
    """A source of histories whose later items are unknown.

    Args:
      source: The histories as they are stored.
      vocabulary: All items of the log.
    """

    def __init__(self, source: HistorySource, vocabulary: Vocabulary) -> None:
        self._source, self._vocabulary = source, vocabulary

    def __len__(self) -> int:
        return len(self._source)

    def __getitems__(self, indices: Sequence[int], /) -> list[History]:
        """The histories of these users, in this order."""
        return [self._fitted(one) for one in self._source.__getitems__(indices)]

    def _fitted(self, history: History) -> History:
        if history.item_ids.max() < self._vocabulary.fitted_size:
            return history
        return dataclasses.replace(history, item_ids=as_fitted(history.item_ids, self._vocabulary))
