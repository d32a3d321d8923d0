"""The states of users: those of the store, of the export, or made again from kept events."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.server.batches import taken, with_states
from experiments.server.requests import Record
from experiments.server.store import Store, StoredEvent, StoredUser
from hiertcn_jax.exported.layout import as_records, as_states, state_record
from hiertcn_jax.exported.onnx_stream import OnnxStream
from hiertcn_jax.exported.reading import Export
from hiertcn_jax.item_ids import FIRST_ITEM_ID
from hiertcn_jax.serving.user_states import Events, UserStates, joined, possible

ACTIVE_MOST = 10_000
"""Users whose states are made again in the background when the model changes."""


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


class Kept(NamedTuple):
    """Events of users, in the order in which they came, and which of the users were forgotten."""

    events: dict[str, list[StoredEvent]]
    forgotten: set[str]


class Users:
    """Finds users' states.

    Attributes:
      version: Of the export; states that another one's model made are not used.
      active: The users that were asked for last, the newest last.
      first: The newest event's number when the export was first served from the store.
      prepared: The number of a user's last event, and the state after it.
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
        self.first = store.first_number(version)
        self._record = state_record(export.start)
        self.active: dict[str, None] = {}
        self.prepared: dict[str, tuple[int, UserStates]] = {}

    def find(self, ids: Sequence[str]) -> Found:
        """The states of users, each named once; of those that nothing is known of, the state
        without events.
        """
        self._note_active(ids)
        stored = self._store.users(ids)
        others = [user for user in ids if user not in stored]
        forgotten = self._store.forgotten(others) if others else set()
        read, place_of = self._read(stored)
        made = self._made(self.kept_of([user for user in stored if user not in place_of]))
        parts, remade = [read], []
        known = dict.fromkeys(stored, True)
        for user in ids:
            if user in place_of:
                continue
            if user in stored:
                state = made[user]
                new = stored[user]._replace(version=self.version, state=self.to_bytes(state))
                remade.append(new)
            else:
                logged = None if user in forgotten else self._export.users.state_of(user)
                state = self._stream.start() if logged is None else logged
                known[user] = logged is not None
            place_of[user] = read.users + len(parts) - 1
            parts.append(state)
        states = joined(parts) if len(parts) > 1 else read
        place_n = np.array([place_of[user] for user in ids], np.int64)
        return Found(
            taken(states, place_n),
            [stored.get(user) for user in ids],
            [known[user] for user in ids],
            remade,
        )

    def _read(self, stored: Mapping[str, StoredUser]) -> tuple[UserStates, dict[str, int]]:
        """States that are stored, and where among them those of users are. Left out are users whose
        state another model made, or whose state is damaged.
        """
        size = self._record.itemsize
        users = [
            user
            for user, one in stored.items()
            if one.version == self.version and len(one.state) == size
        ]
        data = b"".join([stored[user].state for user in users])
        states = as_states(np.frombuffer(data, self._record))
        good = possible(states, self._export.items.size).tolist()
        return states, {user: place for place, user in enumerate(users) if good[place]}

    def to_bytes(self, state: UserStates) -> bytes:
        """The bytes of one user's state, as the store keeps them."""
        return as_records(state).tobytes()

    def kept_of(self, users: Sequence[str]) -> Kept:
        """The kept events of users that the export does not know."""
        events = {
            user: [
                event
                for event in self._store.events_of(user)
                if event.number > self.first or event.time > self._export.newest
            ]
            for user in users
        }
        return Kept(events, self._store.forgotten(users) if users else set())

    def prepare(self, kept: Kept) -> None:
        """Makes states before they are asked for; any thread may call it before the first `find`.

        Args:
          kept: From `kept_of`.
        """
        for user, state in self._made(kept).items():
            if kept.events[user]:
                self.prepared[user] = kept.events[user][-1].number, state

    def _made(self, kept: Kept) -> dict[str, UserStates]:
        """States from what the export knows, and the kept events that it does not."""
        bases, left = [], []
        for user, events in kept.events.items():
            number, base = self.prepared.pop(user, (0, None))
            # Events of a user who was forgotten in between are other ones.
            if base is None or all(event.number != number for event in events):
                number = 0
                base = None if user in kept.forgotten else self._export.users.state_of(user)
            bases.append(self._stream.start() if base is None else base)
            left.append([event for event in events if event.number > number])
        if not bases:
            return {}
        states = joined(bases)
        for turn in range(max(map(len, left))):
            part_m = np.array([place for place, one in enumerate(left) if len(one) > turn])
            now = [left[place][turn] for place in part_m]
            after = self._stream.observe(
                states.take(part_m),
                self._export.items.encode(one.item for one in now),
                [one.time for one in now],
                np.array([one.starts for one in now]),
            )
            states = with_states(states, part_m, after)
        return {user: states.take(np.array([n])) for n, user in enumerate(kept.events)}

    def _note_active(self, ids: Sequence[str]) -> None:
        for user in ids:
            self.active.pop(user, None)
            self.active[user] = None
        while len(self.active) > ACTIVE_MOST:
            del self.active[next(iter(self.active))]

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

    def record(self, user: str) -> Record | None:
        """What is known of a user; None for nothing."""
        logged, kept = self.in_log(user), self.kept(user)
        if logged is None and not kept:
            return None
        ids, events = self._export.items.ids, []
        if logged is not None:
            assert logged.starts is not None
            arrays = (logged.item_rows, logged.times, logged.starts)
            events = [
                (ids[row - FIRST_ITEM_ID] if row >= FIRST_ITEM_ID else None, when, starts)
                for row, when, starts in zip(*(array.tolist() for array in arrays), strict=True)
            ]
        items = self._export.items
        numbers = [items.number_of(one.item) for one in kept]
        return Record(
            self._export,
            self.raw_id(user),
            events,
            [
                (one.item if number is None else ids[number - FIRST_ITEM_ID], one.time, one.starts)
                for one, number in zip(kept, numbers, strict=True)
            ],
        )

    def some(self, most: int) -> list[Any]:
        """Raw ids of the log's first users, without those that were forgotten."""
        ids = list(self._export.users.ids.ids[:most])
        forgotten = self._store.forgotten([str(user) for user in ids]) if ids else set()
        return [user for user in ids if str(user) not in forgotten]

    def forget(self, user: str) -> bool:
        """Removes all of a user; whether there was anything."""
        known = self._export.users.ids.number_of(user) is not None
        return self._store.forget(user, known)
