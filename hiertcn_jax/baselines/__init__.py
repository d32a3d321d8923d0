"""Rankers without a neural network, behind one protocol; `registry.RANKERS` has them by name.

Each is fitted on the fitted part of all users' histories, and then scores the catalogue for one
event at a time. Items outside the vocabulary are left out everywhere, as if they had not been
picked: they are neither counted, nor scored, nor a place in a session.

Imports: batch, settings.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np


class FittedHistory(NamedTuple):
    """The part of one user's history that a ranker may learn from.

    Attributes:
      item_ids_n: int32. Rows of the item table; UNKNOWN_ID for items outside the vocabulary.
      times_n: int64. Seconds.
      session_lengths_m: int32. Events of each session.
    """

    item_ids_n: np.ndarray
    times_n: np.ndarray
    session_lengths_m: np.ndarray


class Context(NamedTuple):
    """Everything that is known of a user when one event is to be predicted.

    Attributes:
      item_ids_n: int32. Items so far, in order; UNKNOWN_ID for items outside the vocabulary.
      times_n: int64. Their times, seconds.
      previous_start: Where the session before the running one starts in them; `session_start` in
        a user's first session.
      session_start: Where the running session starts in them; n at a session's first event.
      time: Of the event itself, seconds.
    """

    item_ids_n: np.ndarray
    times_n: np.ndarray
    previous_start: int
    session_start: int
    time: int


@runtime_checkable
class Ranker(Protocol):
    """A ranker: learns from histories, scores the catalogue for one event at a time."""

    @property
    def causal(self) -> bool:
        """Whether all that a score takes from other users lies before the event's time."""

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Learns from the fitted part, and from nothing that was fitted before."""

    def score(self, context: Context) -> np.ndarray:
        """Float [v]: a score for every row of the item table; rows 0 and 1 are not looked at."""
