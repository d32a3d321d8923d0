"""The states of users: those of the store, of the export, or made again from kept events."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.server.store import Store, StoredEvent, StoredUser
from hiertcn_jax.exported.layout import as_records, as_states, state_record
from hiertcn_jax.exported.onnx_stream import OnnxStream
from hiertcn_jax.exported.reading import Export
from hiertcn_jax.serving.user_states import Events, UserStates, is_possible, joined


class Found(NamedTuple):
    """Users and their states.

    Attributes:
      states: In the order in which the users were named.
      stored: What the store has of each; None for nothing.
      known: Whether anything is known of each.
      remade: Users whose stored state was of another model, or damaged, with the state that
        replaces it.
    """

    states: UserStates
    stored: list[StoredUser | None]
    known: list[bool]
    remade: list[StoredUser]


class Users:
    """Finds users' states.

    Attributes:
      version: Of the export; states that another one's model made are not used.
    """

    def __init__(self, export: Export, stream: OnnxStream, store: Store, version: str) -> None:
        """See the class.

        Args:
          export: The model's.
          stream: The model.
          store: Has states and events.
          version: See the class.
        """
        self.version = version
        self._export, self._stream, self._store = export, stream, store
        self._first = store.first_number(version)
        self._record = state_record(export.start)

    def find(self, ids: Sequence[str]) -> Found:
        """The states of users; of those that nothing is known of, the state without events."""
        stored = self._store.users(ids)
        others = [user for user in ids if user not in stored]
        forgotten = self._store.forgotten(others) if others else set()
        parts, known, remade = [], [], []
        for user in ids:
            one = stored.get(user)
            if one is None:
                logged = None if user in forgotten else self._export.users.state_of(user)
                parts.append(self._stream.start() if logged is None else logged)
                known.append(logged is not None)
                continue
            state = self._read(one)
            if state is None:
                state = self._remake(user)
                remade.append(one._replace(version=self.version, state=self.to_bytes(state)))
            parts.append(state)
            known.append(True)
        states = joined(parts) if parts else self._stream.start(0)
        return Found(states, [stored.get(user) for user in ids], known, remade)

    def _read(self, stored: StoredUser) -> UserStates | None:
        """The state that is stored; None if another model made it, or it is damaged."""
        if stored.version != self.version or len(stored.state) != self._record.itemsize:
            return None
        state = as_states(np.frombuffer(stored.state, self._record))
        return state if is_possible(state, self._export.items.size) else None

    def to_bytes(self, state: UserStates) -> bytes:
        """The bytes of one user's state, as the store keeps them."""
        return as_records(state).tobytes()

    def _remake(self, user: str) -> UserStates:
        """From what the export knows, and the kept events that it does not."""
        logged = None if self.is_forgotten(user) else self._export.users.state_of(user)
        state = self._stream.start() if logged is None else logged
        for event in self._store.events_of(user):
            if event.number > self._first or event.time > self._export.newest:
                rows_n = self._export.items.encode([event.item])
                starts_n = np.array([event.starts])
                state = self._stream.observe(state, rows_n, [event.time], starts_n)
        return state

    def is_forgotten(self, user: str) -> bool:
        """Whether what the export says of a user is not to be used."""
        return bool(self._store.forgotten([user]))

    def in_log(self, user: str) -> Events | None:
        """All events of a user in the export's log; None if there are none to be used."""
        (events,) = self._export.users.events_of([user])
        return None if events is None or self.is_forgotten(user) else events

    def kept(self, user: str) -> list[StoredEvent]:
        """The events that the store keeps of a user."""
        return self._store.events_of(user)

    def raw_id(self, user: str) -> Any:
        """A user's id in the type of the log."""
        number = self._export.users.ids.number_of(user)
        return user if number is None else self._export.users.ids.ids[number]

    def some(self, most: int) -> list[Any]:
        """Raw ids of the log's first users, without those that were forgotten."""
        ids = list(self._export.users.ids.ids[:most])
        forgotten = self._store.forgotten([str(user) for user in ids]) if ids else set()
        return [user for user in ids if str(user) not in forgotten]

    def forget(self, user: str) -> bool:
        """Removes all of a user; whether there was anything."""
        known = self._export.users.ids.number_of(user) is not None
        return self._store.forget(user, known)
