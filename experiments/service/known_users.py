"""The users of a prepared log, for recommendations that go on where the log ends."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.histories.events import HistorySource, blocks_of
from data_pipelines.histories.record import History
from data_pipelines.raw.ids import IdType, typed_ids
from hiertcn_jax.serving.user_states import Events

_LONGEST_PAUSES = 0.999
"""Share of the pauses inside sessions that are at most as long as the one that ends a session."""
_AT_ONCE = 4096


class _Facts(NamedTuple):
    """What one pass over all histories says.

    Attributes:
      newest: Time of the newest event.
      pause: Seconds that pauses inside sessions seldom last longer than.
      events: Number of events.
    """

    newest: int
    pause: float
    events: int


class LoggedUsers:
    """All histories of a log, by the id of the user.

    Nothing is held of a user but the id, and that only if users are asked for by id.
    """

    def __init__(self, source: HistorySource, id_type: IdType = "string") -> None:
        """See the class.

        Args:
          source: The histories.
          id_type: Of the users' ids in the log.
        """
        self._source, self._id_type = source, id_type

    @functools.cached_property
    def _facts(self) -> _Facts:
        newest, events, pauses = 0, 0, _Counted()
        for _, histories in blocks_of(self._source):
            time_n = np.concatenate([one.times for one in histories])
            newest = max(newest, int(time_n.max(initial=0)))
            events += len(time_n)
            starts_n = np.concatenate([session_starts(one) for one in histories])
            pauses.add(np.diff(time_n)[~starts_n[1:]])
        return _Facts(newest, pauses.quantile(_LONGEST_PAUSES), events)

    @functools.cached_property
    def _ids(self) -> pl.DataFrame:
        """Columns id, as text and sorted, and number: the index of the user's history."""
        ids = pl.Series("id", dtype=pl.String)
        for _, histories in blocks_of(self._source):
            ids.append(pl.Series([one.user_id for one in histories], dtype=pl.String))
        return ids.to_frame().with_row_index("number").sort("id")

    @property
    def newest(self) -> int:
        """Time of the log's newest event, seconds."""
        return self._facts.newest

    @property
    def pause(self) -> float:
        """Seconds that a pause inside a session seldom lasts longer than (1 of 1,000 does)."""
        return self._facts.pause

    @property
    def events(self) -> int:
        """Number of events of the log."""
        return self._facts.events

    def __len__(self) -> int:
        """Number of users."""
        return len(self._source)

    def blocks(self) -> Iterator[tuple[list[Any], list[Events]]]:
        """Raw ids and all events of all users, many at a time; parts of about one size.

        Raises:
          DataError: An id does not have the type of the log.
        """
        parts = -(-len(self) // _AT_ONCE)
        for number_n in np.array_split(np.arange(len(self)), parts) if parts else ():
            histories = self._source.__getitems__(number_n.tolist())
            ids = pl.Series([one.user_id for one in histories], dtype=pl.String)
            try:
                typed = typed_ids(ids, self._id_type).to_list()
            except pl.exceptions.PolarsError as error:
                raise DataError(
                    f"a user's id is no {self._id_type}, as manifest.json has it; prepare the log "
                    "again"
                ) from error
            yield typed, [_events(one) for one in histories]

    def events_of(self, user_ids: Sequence[Any]) -> list[Events | None]:
        """All events of each user, held-out ones too; None for a user that the log lacks."""
        ids, asked = self._ids["id"], pl.Series([str(user) for user in user_ids], dtype=pl.String)
        place = ids.search_sorted(asked).replace(len(ids), None)
        is_it = (ids.gather(place) == asked).fill_null(False)
        nobody = pl.Series([None], dtype=pl.UInt32)
        numbers = self._ids["number"].gather(place).zip_with(is_it, nobody)
        wanted = numbers.drop_nulls().unique().sort().to_list()
        found = dict(zip(wanted, self._source.__getitems__(wanted), strict=True)) if wanted else {}
        return [None if number is None else _events(found[number]) for number in numbers]


class _Counted:
    """Counts whole numbers, each value once."""

    def __init__(self) -> None:
        self._value_n = np.zeros(0, np.int64)
        self._count_n = np.zeros(0, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Adds some."""
        value_n, count_n = np.unique(values, return_counts=True)
        self._value_n, place_n = np.unique(
            np.concatenate([self._value_n, value_n]), return_inverse=True
        )
        counts_n = np.concatenate([self._count_n, count_n])
        self._count_n = np.bincount(place_n, counts_n, len(self._value_n)).astype(np.int64)

    def quantile(self, share: float) -> float:
        """As `numpy.quantile` of all values; 0 if there are none."""
        if not len(self._count_n):
            return 0.0
        end_n = np.cumsum(self._count_n)
        place = share * (end_n[-1] - 1)
        low, high = self._value_n[
            np.searchsorted(end_n, [np.floor(place), np.ceil(place)], side="right")
        ]
        return float(low + (high - low) * (place - np.floor(place)))


def session_starts(history: History) -> np.ndarray:
    """Bool [n]. Which events start a session."""
    starts_n = np.zeros(len(history.times), bool)
    starts_n[np.cumsum(history.session_lengths) - history.session_lengths] = True
    return starts_n


def _events(history: History) -> Events:
    return Events(history.item_ids, history.times, session_starts(history))
