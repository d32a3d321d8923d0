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
        histories = list(self._source.__getitems__(indices))
        if not histories:
            return histories
        # All at once: numpy's calls for each user would take longer than the work.
        item_n = np.concatenate([one.item_ids for one in histories])
        if item_n.max() < self._vocabulary.fitted_size:
            return histories
        fitted_n = as_fitted(item_n, self._vocabulary)
        ends = np.cumsum([len(one.item_ids) for one in histories])
        has_later = np.maximum.reduceat(item_n, [0, *ends[:-1]]) >= self._vocabulary.fitted_size
        for index in np.flatnonzero(has_later).tolist():
            end = ends[index]
            item_ids = fitted_n[end - len(histories[index].item_ids) : end]
            histories[index] = dataclasses.replace(histories[index], item_ids=item_ids)
        return histories
