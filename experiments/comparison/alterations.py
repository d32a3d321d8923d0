"""Histories altered on purpose: events changed or deleted, to see what a model notices."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from data_pipelines.histories.events import HistorySource
from data_pipelines.histories.record import NO_ITEMS, History, Split
from hiertcn_jax.batch import FIRST_ITEM_ID

_LATER_SECONDS = 3600
"""By how much the times of changed events move; all by the same, so that order is kept."""


class ListedHistories:
    """Histories at hand, as a source.

    Args:
      histories: One a user.
    """

    def __init__(self, histories: Iterable[History]) -> None:
        self._histories = list(histories)

    def __len__(self) -> int:
        return len(self._histories)

    def __getitems__(self, indices: Sequence[int], /) -> list[History]:
        """The histories of these users."""
        return [self._histories[index] for index in indices]


class AlteredHistories:
    """A source whose histories are altered as they are read.

    Args:
      source: The histories.
      alter: From a user's index and history to the altered one; always the same for the same user.
    """

    def __init__(self, source: HistorySource, alter: Callable[[int, History], History]) -> None:
        self._source, self._alter = source, alter

    def __len__(self) -> int:
        return len(self._source)

    def __getitems__(self, indices: Sequence[int], /) -> list[History]:
        """The altered histories of these users."""
        histories = self._source.__getitems__(indices)
        return [self._alter(user, h) for user, h in zip(indices, histories, strict=True)]


def changed(
    history: History, items_n: np.ndarray, times_n: np.ndarray, rows: int, seed: int
) -> History:
    """The history with other events in the same places.

    Args:
      history: A user's.
      items_n: bool. Events that get another item of the catalogue, drawn uniformly.
      times_n: bool. Events that come an hour later.
      rows: `v`, rows of the item table.
      seed: Of the draws.
    """
    catalogue = rows - FIRST_ITEM_ID
    steps_n = np.random.default_rng(seed).integers(1, max(catalogue, 2), len(items_n))
    other_n = FIRST_ITEM_ID + (history.item_ids - FIRST_ITEM_ID + steps_n) % catalogue
    return dataclasses.replace(
        history,
        item_ids=np.where(items_n, other_n, history.item_ids).astype(np.int32),
        times=history.times + np.where(times_n, _LATER_SECONDS, 0),
    )


def without(history: History, dropped_n: np.ndarray) -> History:
    """The history without some events, and without impressions, which no model sees.

    Sessions that lose all of their events are gone.
    """
    kept_n = ~dropped_n
    length_m = np.bincount(
        sessions_of(history), kept_n, minlength=len(history.session_lengths)
    ).astype(np.int32)
    return dataclasses.replace(
        history,
        item_ids=history.item_ids[kept_n],
        times=history.times[kept_n],
        session_lengths=length_m[length_m > 0],
        session_splits=history.session_splits[length_m > 0],
        shown_items=NO_ITEMS,
        shown_counts=NO_ITEMS,
    )


def sessions_of(history: History) -> np.ndarray:
    """int64 [n]. Index of the session of each event."""
    return np.repeat(np.arange(len(history.session_lengths)), history.session_lengths)


def held_out(history: History, fit_on: str) -> np.ndarray:
    """Bool [n]. Events that a fit on `fit_on` must not read."""
    last = Split.TRAIN if fit_on == "train" else Split.VALID
    return history.session_splits[sessions_of(history)] > last


def as_known_at(history: History, time: int, rows: int, seed: int) -> History:
    """The history with nothing of what happened at `time` or later.

    Sessions that begin then are gone. Of those that run on past it, the later events are others,
    and still later; that such a session is not over yet stays known.

    Args:
      history: A user's.
      time: Seconds.
      rows: `v`, rows of the item table.
      seed: Of the other events.
    """
    later_n = history.times >= time
    altered = changed(history, later_n, later_n, rows, seed)
    start_m = history.times[np.cumsum(history.session_lengths) - history.session_lengths]
    return without(altered, (start_m >= time)[sessions_of(history)])
