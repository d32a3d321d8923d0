"""Rankers without a neural network, behind one protocol."""

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
    """Everything of a user that comes before one event.

    Attributes:
      item_ids_n: int32. Items so far, in order.
      times_n: int64. Their times, seconds.
      session_start: Where the running session starts in them; n at a session's first event.
    """

    item_ids_n: np.ndarray
    times_n: np.ndarray
    session_start: int


@runtime_checkable
class Ranker(Protocol):
    """A ranker: learns from histories, scores the catalogue for one event at a time."""

    def fit(self, histories: Iterable[FittedHistory]) -> None:
        """Learns from the fitted part."""

    def score(self, context: Context) -> np.ndarray:
        """Float [v]: a score for every row of the item table; rows 0 and 1 are not looked at."""
