"""The users of a prepared log, for recommendations that go on where the log ends."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.histories.events import HistorySource, blocks_of
from data_pipelines.histories.record import History
from hiertcn_jax.serving.user_states import Events

_LONGEST_PAUSES = 99.9
"""Percentile of the pauses inside sessions that a longer one is taken to end a session after."""


class _Facts(NamedTuple):
    """What one pass over all histories says.

    Attributes:
      number_of: Index of each user's history, by id.
      newest: Time of the newest event.
      pause: Seconds that pauses inside sessions seldom last longer than.
      events: Number of events.
    """

    number_of: dict[str, int]
    newest: int
    pause: float
    events: int


class LoggedUsers:
    """All histories of a log, by the id of the user."""

    def __init__(self, source: HistorySource) -> None:
        self._source = source

    @functools.cached_property
    def _facts(self) -> _Facts:
        number_of, newest, events, pauses = {}, 0, 0, []
        for start, histories in blocks_of(self._source):
            for number, history in enumerate(histories, start):
                number_of[history.user_id] = number
                newest = max(newest, int(history.times.max()))
                events += len(history.times)
                inside_n = ~session_starts(history)[1:]
                pauses.append(np.diff(history.times)[inside_n])
        pause_n = np.concatenate(pauses) if pauses else np.zeros(0)
        pause = float(np.percentile(pause_n, _LONGEST_PAUSES)) if len(pause_n) else 0.0
        return _Facts(number_of, newest, pause, events)

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

    def blocks(self) -> Iterator[tuple[list[str], list[Events]]]:
        """Ids and all events of many users at a time."""
        for _, histories in blocks_of(self._source):
            yield [one.user_id for one in histories], [_events(one) for one in histories]

    def events_of(self, user_ids: Sequence[Any]) -> list[Events | None]:
        """All events of each user, held-out ones too; None for a user that the log lacks."""
        numbers = [self._facts.number_of.get(str(user)) for user in user_ids]
        wanted = sorted({number for number in numbers if number is not None})
        found = dict(zip(wanted, self._source.__getitems__(wanted), strict=True)) if wanted else {}
        return [None if number is None else _events(found[number]) for number in numbers]


def session_starts(history: History) -> np.ndarray:
    """Bool [n]. Which events start a session."""
    starts_n = np.zeros(len(history.times), bool)
    starts_n[np.cumsum(history.session_lengths) - history.session_lengths] = True
    return starts_n


def _events(history: History) -> Events:
    return Events(history.item_ids, history.times, session_starts(history))
