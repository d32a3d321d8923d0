"""Any number of users: draws each history when it is read, and forgets it afterwards.

The numbers and lengths of sessions are Globo's (`benchmarks.users`); items follow Zipf's law with
exponent 1. A history depends only on its index and on the seed. So a log of any size can be read in
any order, again and again, and only the current events are in memory.
"""

from collections.abc import Sequence

import numpy as np

from benchmarks.users import Lengths, globo_lengths
from data_pipelines.hashing import scramble
from data_pipelines.histories.record import History, Split
from hiertcn_jax.batch import FIRST_ITEM_ID

_SECONDS_BETWEEN_EVENTS = 120
_SECONDS_BETWEEN_SESSIONS = 20 * 3600
_START_SECONDS = 1_700_000_000


class StreamedUsers:
    """A source of histories for the loaders, all sessions to be trained on.

    Args:
      events: Approximate number of events of all users together.
      items: Size of the catalogue.
      seed: The same seed gives the same histories.
    """

    def __init__(self, events: int, items: int, seed: int) -> None:
        self._sessions_of_user, self._events_of_session = globo_lengths()
        mean = self._sessions_of_user.mean() * self._events_of_session.mean()
        self._users = max(1, round(events / mean))
        self._items = items
        self._seed = np.uint64(seed)

    def __len__(self) -> int:
        """Number of users."""
        return self._users

    def __getitem__(self, index: int, /) -> History:
        """Draws the history of this user."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int], /) -> list[History]:
        """Draws the histories of these users, in this order."""
        user_n = _mix(np.asarray(indices, np.uint64) + (self._seed << np.uint64(40)))
        sessions_n = _draw(self._sessions_of_user, user_n)
        session_m = _mix(np.repeat(user_n, sessions_n) + _places(sessions_n))
        length_m = _draw(self._events_of_session, session_m)
        event_e = _mix(np.repeat(session_m, length_m) + _places(length_m))
        item_e = FIRST_ITEM_ID + self._zipf(event_e)
        events_n = np.add.reduceat(length_m, np.cumsum(sessions_n) - sessions_n)
        second_e = _seconds(length_m, events_n)
        session_ends, event_ends = np.cumsum(sessions_n)[:-1], np.cumsum(events_n)[:-1]
        parts = zip(
            indices,
            np.split(item_e.astype(np.int32), event_ends),
            np.split(second_e, event_ends),
            np.split(length_m.astype(np.int32), session_ends),
            strict=True,
        )
        return [
            History(str(index), items, times, lengths, np.full(len(lengths), Split.TRAIN, np.uint8))
            for index, items, times, lengths in parts
        ]

    def _zipf(self, bits_e: np.ndarray) -> np.ndarray:
        """Items 0..items-1, the i-th with probability log(1 + 1 / (i + 1)) / log(items + 1)."""
        return np.expm1(_uniform(bits_e) * np.log(self._items + 1)).astype(np.int64)


def _mix(bits_n: np.ndarray) -> np.ndarray:
    """The SplitMix64 generator (Steele, Lea, Flood 2014) at these counters."""
    return scramble(bits_n * np.uint64(0x9E3779B97F4A7C15))


def _uniform(bits_n: np.ndarray) -> np.ndarray:
    """Uniform numbers in [0, 1)."""
    return (bits_n >> np.uint64(11)) * 2.0**-53


def _draw(lengths: Lengths, bits_n: np.ndarray) -> np.ndarray:
    """Draws values from the distribution, int64."""
    ends = np.cumsum(lengths.share_n)
    places = np.searchsorted(ends / ends[-1], _uniform(_mix(bits_n)), side="right")
    return lengths.value_n[places]


def _places(counts_n: np.ndarray) -> np.ndarray:
    """1, 2, .. count for each of the counts, end to end, uint64."""
    starts = np.cumsum(counts_n) - counts_n
    return (np.arange(counts_n.sum()) - np.repeat(starts, counts_n) + 1).astype(np.uint64)


def _seconds(length_m: np.ndarray, events_n: np.ndarray) -> np.ndarray:
    """Seconds since the epoch of each event: equal steps in every session, and between two."""
    second_e = np.full(int(length_m.sum()), _SECONDS_BETWEEN_EVENTS)
    second_e[np.cumsum(length_m) - length_m] = _SECONDS_BETWEEN_SESSIONS
    total_e = np.cumsum(second_e)
    first_n = np.cumsum(events_n) - events_n
    return _START_SECONDS + total_e - np.repeat(total_e[first_n], events_n)
