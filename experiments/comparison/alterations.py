"""Alters histories on purpose: changes or deletes events, to see what a model notices."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from data_pipelines.histories.events import HistorySource
from data_pipelines.histories.record import NO_ITEMS, History, Split
from hiertcn_jax.batch import FIRST_ITEM_ID

_LATER_SECONDS = 3600
"""Seconds by which changed events move; the same for all, so that their order stays."""


class ListedHistories:
    """Histories in memory, as a source.

    Args:
      histories: One per user.
    """

    def __init__(self, histories: Iterable[History]) -> None:
        self._histories = list(histories)

    def __len__(self) -> int:
        return len(self._histories)

    def __getitems__(self, indices: Sequence[int], /) -> list[History]:
        """The histories of these users."""
        return [self._histories[index] for index in indices]


class AlteredHistories:
    """A source that alters histories as they are read.

    Args:
      source: The histories.
      alter: Maps a user's index and history to the altered one, always in the same way.
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
    """The history with some events changed.

    Args:
      history: A user's history.
      items_n: bool. Events that get another item of the catalogue, drawn uniformly.
      times_n: bool. Events that move an hour later.
      rows: `v`, rows of the item table.
      seed: Seed of the draws.
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
    """The history without some events, and without impressions, which no model reads.

    Sessions that lose all of their events disappear.
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
    """int64 [n]. Index of each event's session."""
    return np.repeat(np.arange(len(history.session_lengths)), history.session_lengths)


def held_out(history: History, fit_on: str, cut: int | None = None) -> np.ndarray:
    """Bool [n]. Events that a fit on `fit_on` must not read; with a cut none from then on."""
    last = Split.TRAIN if fit_on == "train" else Split.VALID
    held_n = history.session_splits[sessions_of(history)] > last
    return held_n if cut is None else held_n | (history.times >= cut)


def as_known_at(history: History, time: int, rows: int, seed: int) -> History:
    """The history as it was known at `time`, without events at that time or later.

    Sessions that begin later disappear. In sessions that continue past it, the later events are
    replaced by others, still later; that such a session is not over stays known.

    Args:
      history: A user's history.
      time: Seconds.
      rows: `v`, rows of the item table.
      seed: Seed of the other events.
    """
    later_n = history.times >= time
    altered = changed(history, later_n, later_n, rows, seed)
    start_m = history.times[np.cumsum(history.session_lengths) - history.session_lengths]
    return without(altered, (start_m >= time)[sessions_of(history)])
