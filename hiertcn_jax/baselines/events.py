"""The known events of the fitted part, laid end to end, and those of a context."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from hiertcn_jax.baselines import Context, FittedHistory
from hiertcn_jax.batch import FIRST_ITEM_ID


class FittedEvents(NamedTuple):
    """Events of all users, user after user, without items outside the vocabulary.

    Attributes:
      item_n: int64. Rows of the item table.
      time_n: int64. Seconds.
      session_n: int64. Index of the event's session over all users, never decreasing.
      session_end_m: int64. Time of each session's last event, known or not.
    """

    item_n: np.ndarray
    time_n: np.ndarray
    session_n: np.ndarray
    session_end_m: np.ndarray


def fitted_events(histories: Iterable[FittedHistory]) -> FittedEvents:
    """Lays histories end to end."""
    parts = [(h.item_ids_n, h.times_n, h.session_lengths_m) for h in histories]
    if not parts:
        return FittedEvents(*(np.zeros(0, np.int64) for _ in FittedEvents._fields))
    item_n, time_n, length_m = (np.concatenate(column) for column in zip(*parts, strict=True))
    session_n = np.repeat(np.arange(len(length_m)), length_m)
    # The events of a session are in order of time.
    session_end_m = time_n[np.cumsum(length_m) - 1]
    known_n = item_n >= FIRST_ITEM_ID
    return FittedEvents(
        item_n[known_n].astype(np.int64), time_n[known_n], session_n[known_n], session_end_m
    )


def known_items(context: Context, start: int = 0, end: int | None = None) -> np.ndarray:
    """The items of the context from index `start` up to `end` that are in the vocabulary."""
    item_n = context.item_ids_n[start:end]
    return item_n[item_n >= FIRST_ITEM_ID]


def query_items(context: Context) -> np.ndarray:
    """Items to find neighbours with: of the current session, or else of the previous one.

    Session models in the literature predict from a session's second event on. At its first event,
    and as long as it has no known item, the user's previous session is used; in a user's first
    session the result is empty.
    """
    running = known_items(context, context.session_start)
    if len(running):
        return running
    return known_items(context, context.previous_start, context.session_start)
