"""The users of the log that an exported model was trained on."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hiertcn_jax.exported.id_table import IdTable
from hiertcn_jax.exported.layout import as_states
from hiertcn_jax.serving.user_states import Events, UserStates

_AT_ONCE = 4096


class ExportedUsers:
    """Their events, and their states after all of them.

    Attributes:
      ids: Numbers are places in the files.
      newest: Time of the log's newest event, seconds.
    """

    def __init__(
        self,
        ids: IdTable,
        newest: int,
        states: np.ndarray,
        events: np.ndarray,
        first_u: np.ndarray,
    ) -> None:
        """See `layout` for the files.

        Args:
          ids: See the class.
          newest: See the class.
          states: `users/states.npy`, perhaps mapped.
          events: `users/events.npy`, likewise.
          first_u: `users/first.npy`.
        """
        self.ids, self.newest = ids, newest
        self._states, self._events, self._first_u = states, events, first_u

    def events_of(self, user_ids: Sequence[Any]) -> list[Events | None]:
        """All events of each user, held-out ones too; None for a user that the log lacks."""
        return [self._events_of(self.ids.number_of(user)) for user in user_ids]

    def blocks(self) -> Iterator[tuple[list[Any], list[Events]]]:
        """Raw ids and all events of all users, many at a time."""
        for start in range(0, len(self.ids.ids), _AT_ONCE):
            ids = list(self.ids.ids[start : start + _AT_ONCE])
            numbers = range(start, start + len(ids))
            yield ids, [one for one in map(self._events_of, numbers) if one is not None]

    def _events_of(self, number: int | None) -> Events | None:
        if number is None:
            return None
        part = self._events[self._first_u[number] : self._first_u[number + 1]]
        return Events(*(np.ascontiguousarray(part[name]) for name in ("item", "time", "start")))

    def state_of(self, user_id: Any) -> UserStates | None:
        """The state of a user at the end of the log; None for a user that it lacks."""
        number = self.ids.number_of(user_id)
        return None if number is None else as_states(self._states[number : number + 1])
