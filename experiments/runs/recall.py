"""The memory of a prepared log, for models with memory terms in their score."""

import functools

from data_pipelines.histories.record import Split
from data_pipelines.lanes.memory_lists import Recall, remember
from experiments.runs.data import Data
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.memory.levels import FITTED, Level


def recall_of(data: Data, model: ModelConfig, fit_on: str, level: Level = FITTED) -> Recall | None:
    """A log's memory for a model.

    Args:
      data: The log.
      model: The result is None for a model without terms of memory.
      fit_on: The part that is fitted, `train` or `train_valid`.
      level: Which events count, and how late they are known.
    """
    if not model.memory:
        return None
    return _remembered(_ByIdentity(data), last_counted(fit_on, level)).at_level(level)


def has_level(model: ModelConfig) -> bool:
    """Whether a model counts what others did: its scores then have a level. Own picks have none."""
    return bool({"world", "followers"} & set(model.memory))


def last_counted(fit_on: str, level: Level = FITTED) -> Split:
    """The last part of a log whose events count, once they have happened."""
    if level.counts_held_out:
        return Split.TEST
    return Split.TRAIN if fit_on == "train" else Split.VALID


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
    return remember(data.histories, data.vocabulary.size, last, data.cut(last))
