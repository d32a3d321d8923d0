"""An index of the fitted sessions by item, which nearest-neighbour models search."""

from typing import NamedTuple

import numpy as np

from hiertcn_jax.baselines.events import FittedEvents
from hiertcn_jax.baselines.ranges import places_of


class SessionItems(NamedTuple):
    """The distinct items of some sessions, laid end to end in the order of the sessions.

    Attributes:
      owner_n: int64. Index of each entry's session among those asked for.
      item_n: int64. Its item.
      position_n: int64. The item's last position in the session, from 1.
    """

    owner_n: np.ndarray
    item_n: np.ndarray
    position_n: np.ndarray


class SessionIndex:
    """Fitted sessions, numbered by their end; equal ends in the order of fitting.

    Args:
      events: The fitted part. Sessions without a known item are not kept.
      rows: `v`, rows of the item table.

    Attributes:
      end_m: int64. Time of each session's last event, seconds, never decreasing.
      size_m: int64. Number of distinct items of each.
      sessions_v: int64. Number of sessions that contain each item.
    """

    def __init__(self, events: FittedEvents, rows: int) -> None:
        kept_m, place_n = np.unique(events.session_n, return_inverse=True)
        ends_m = events.session_end_m[kept_m]
        order_m = np.argsort(ends_m, kind="stable")
        number_n = np.argsort(order_m)[place_n]
        self.end_m = ends_m[order_m]
        position_n = 1 + np.arange(len(place_n)) - np.searchsorted(place_n, place_n)
        self._keep_last_positions(number_n, events.item_n, position_n)
        self.size_m = np.bincount(self._number_n, minlength=len(self.end_m))
        self._first_m = np.cumsum(self.size_m) - self.size_m
        by_item_n = np.argsort(self._item_n, kind="stable")
        self._holders_n = self._number_n[by_item_n]
        self.sessions_v = np.bincount(self._item_n, minlength=rows)
        self._first_v = np.cumsum(self.sessions_v) - self.sessions_v

    def _keep_last_positions(
        self, number_n: np.ndarray, item_n: np.ndarray, position_n: np.ndarray
    ) -> None:
        """Keeps one entry for each item of a session, sorted by the session's number."""
        order_n = np.lexsort((position_n, item_n, number_n))
        number_n, item_n, position_n = number_n[order_n], item_n[order_n], position_n[order_n]
        last_n = np.ones(len(order_n), bool)
        last_n[:-1] = (number_n[1:] != number_n[:-1]) | (item_n[1:] != item_n[:-1])
        self._number_n, self._item_n = number_n[last_n], item_n[last_n]
        self._position_n = position_n[last_n]

    def ended_before(self, time: int) -> int:
        """How many sessions ended before `time`; their numbers are 0, 1, .. below it."""
        return int(np.searchsorted(self.end_m, time, side="left"))

    def holders(self, item_q: np.ndarray, below: int) -> tuple[np.ndarray, np.ndarray]:
        """The sessions with a number below `below` that contain items.

        Returns:
          int64 [n], their numbers, item after item and ascending for each; int64 [n], the index of
          that item in `item_q`.
        """
        size_q = self.sessions_v[item_q]
        number_n = self._holders_n[places_of(self._first_v[item_q], size_q)]
        owner_n = np.repeat(np.arange(len(item_q)), size_q)
        below_n = number_n < below
        return number_n[below_n], owner_n[below_n]

    def items(self, number_k: np.ndarray) -> SessionItems:
        """The items of these sessions."""
        size_k = self.size_m[number_k]
        owner_n = np.repeat(np.arange(len(number_k)), size_k)
        place_n = places_of(self._first_m[number_k], size_k)
        return SessionItems(owner_n, self._item_n[place_n], self._position_n[place_n])
