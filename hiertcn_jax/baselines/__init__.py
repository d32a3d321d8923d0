"""Rankers without a neural network, with one protocol; `registry.RANKERS` lists them by name.

Each is fitted on the fitted part of all users' histories, and then scores the catalogue for one
event at a time. Items outside the vocabulary are ignored everywhere, as if nobody had picked them:
they are not counted, not scored, and take no position in a session.

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
    """Everything known of a user when an event is to be predicted.

    Attributes:
      item_ids_n: int32. Items so far, in order; UNKNOWN_ID for items outside the vocabulary.
      times_n: int64. Their times, seconds.
      previous_start: Index in them where the previous session starts; equals `session_start` in a
        user's first session.
      session_start: Index in them where the current session starts; n at a session's first event.
      time: Time of the event itself, seconds.
    """

    item_ids_n: np.ndarray
    times_n: np.ndarray
    previous_start: int
    session_start: int
    time: int


@runtime_checkable
class Ranker(Protocol):
    """A ranker learns from histories, and scores the catalogue for one event at a time."""

    @property
    def causal(self) -> bool:
        """Whether scores use other users' events only from before the event's time."""

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Learns from the fitted part, and forgets everything from earlier calls."""

    def score(self, context: Context) -> np.ndarray:
        """Float [v]: a score for every row of the item table; rows 0 and 1 are ignored."""
