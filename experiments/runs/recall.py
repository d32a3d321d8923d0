"""The memory of a prepared log, for models with memory terms in their score."""

import functools

from data_pipelines.histories.record import Split
from data_pipelines.lanes.memory_lists import Recall, remember
from experiments.runs.data import Data
from hiertcn_jax.config import ModelConfig


def recall_of(data: Data, model: ModelConfig, fit_on: str) -> Recall | None:
    """A log's memory for a model: the events of the fitted part count.

    Args:
      data: The log.
      model: None for a model without terms of memory.
      fit_on: The part that is fitted, `train` or `train_valid`.
    """
    if not model.memory:
        return None
    last = Split.TRAIN if fit_on == "train" else Split.VALID
    return _remembered(_ByIdentity(data), last)


class _ByIdentity:
    """Wraps data as a cache key: the same object is the same log."""

    def __init__(self, data: Data) -> None:
        self.data = data

    def __hash__(self) -> int:
        return id(self.data.histories)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and other.data.histories is self.data.histories


@functools.lru_cache(maxsize=2)
def _remembered(key: _ByIdentity, last: Split) -> Recall:
    """Cached, because a run needs it in training, in validation and at the end."""
    data = key.data
    return remember(data.histories, data.vocabulary.size, last)
