"""Follows users and answers, one batch at a time; one thread uses it.

An event is first written to the store. Only then does it change counts and get its answer, so what
was accepted survives a crash, and a crash never leaves counts of events that the store lacks.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.server.batches import rounds, session_starts, with_states
from experiments.server.counts import Counts
from experiments.server.explaining import Explaining
from experiments.server.recommending import Recommending
from experiments.server.requests import Answer, Ask, Event, Outcome, Record
from experiments.server.snapshots import Snapshots
from experiments.server.starting import version_of
from experiments.server.store import (
    ConflictError,
    Key,
    NewEvent,
    Part,
    Store,
    StoredUser,
    StoreError,
    WorldEvent,
)
from experiments.server.users import Found, Users
from hiertcn_jax.exported.onnx_stream import OnnxStream
from hiertcn_jax.exported.reading import Export
from hiertcn_jax.item_ids import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.memory.config import SIZES

AHEAD_SECONDS = 300
"""How far an event's time may be ahead of this clock."""

_TRIES = 20
"""How often events are written again, if other servers have changed their users."""


class Loaded(NamedTuple):
    """What an engine needs of an export: the model, the users, and counts of the whole stream."""

    stream: OnnxStream
    users: Users
    counts: Counts


class Engine:
    """A model, its store and the counts.

    Attributes:
      export: The model's.
      counts: What everybody did so far.
      explain: Says what scores are the sum of.
      snapshots: Those of the counts.
      version: Tells the export from all others: of its manifest, which has the hash of every file.
    """

    def __init__(
        self,
        export: Export,
        store: Store,
        clock: Callable[[], float] = time.time,
        loaded: "Loaded | None" = None,
    ) -> None:
        """Loads the model, and counts what the store has.

        Args:
          export: The model's.
          store: See `Store`.
          clock: Gives the time, in seconds.
          loaded: What was loaded already, and counts all that the store has.

        Raises:
          ExportError: onnxruntime cannot run the model.
          StoreError: The store cannot be read.
        """
        self.export, self._store, self._clock = export, store, clock
        self._stream = OnnxStream(export) if loaded is None else loaded.stream
        self.explain = Explaining(export)
        self.version = version_of(export)
        self.users = loaded.users if loaded else self.users_of(export, self._stream)
        self._recommending = Recommending(export, self._stream, self.users, self.explain)
        self.snapshots = Snapshots(export, store, self.version)
        if loaded is not None:
            self.counts = loaded.counts
            self.snapshots.adopt(self.counts, self.users.first)
            return
        self.counts = self.snapshots.restore()
        # What is compiled or loaded at the first use is then ready.
        self.recommend([Ask(None, (("", None),))])
        self.counts.warm_up()

    def successor(self, export: Export, loaded: "Loaded") -> "Engine":
        """An engine of another model, over the same store, that knows who is active."""
        new = Engine(export, self._store, self._clock, loaded)
        new.users.active.update(self.users.active)
        return new

    def stream_part(self, first: int, newest: int, after: int) -> Part | None:
        """The next part of the stream; None at its end. See `Store.world`."""
        return next(self._store.world(first, newest, after), None)

    def users_of(self, export: Export, stream: OnnxStream) -> Users:
        """The users of the store for another model."""
        return Users(export, stream, self._store, version_of(export))

    def refresh(self, ids: Sequence[str]) -> Found:
        """Users and their states; those that another model made are made again, and stored.

        Raises:
          StoreError: The store cannot be read or written.
        """
        found = self.users.find(ids)
        if found.remade:
            with contextlib.suppress(ConflictError):
                self._store.write(found.remade)
        return found

    def observe(self, events: Sequence[Event]) -> list[Outcome]:
        """Takes in events, in order of their times; each is counted once.

        Raises:
          StoreError: They could not be written; then nothing has changed.
        """
        now = int(self._clock())
        events = [one if one.time is not None else one._replace(time=now) for one in events]
        for _ in range(_TRIES):
            # Another server may change the same users at the same time: then look again.
            with contextlib.suppress(ConflictError):
                return self._take_in(events, now)
        raise StoreError("other servers change the same users all the time")

    def _take_in(self, events: list[Event], now: int) -> list[Outcome]:
        times = [now if one.time is None else one.time for one in events]
        order = sorted(range(len(events)), key=times.__getitem__)
        ids = list(dict.fromkeys(one.user for one in events))
        found = self.users.find(ids)
        stored = dict(zip(ids, found.stored, strict=True))
        keys = [(one.user, one.item, when) for one, when in zip(events, times, strict=True)]
        done = self._store.held(key for key in keys if stored[key[0]] is not None)
        outcomes = [Outcome("accepted")] * len(events)
        chosen: list[int] = []
        for number in order:
            one, when = events[number], times[number]
            outcomes[number] = self._check(one, when, now, stored[one.user], done)
            if outcomes[number].status == "accepted":
                chosen.append(number)
                done.add(keys[number])
        if chosen:
            self._apply([events[n] for n in chosen], [times[n] for n in chosen], now, ids, found)
        return outcomes

    def _check(
        self,
        event: Event,
        when: int,
        now: int,
        stored: StoredUser | None,
        done: set[Key],
    ) -> Outcome:
        if when > now + AHEAD_SECONDS:
            return Outcome("refused", f"time: {when - now} s ahead of the server's clock")
        if (event.user, event.item, when) in done:
            return Outcome("duplicate")
        if stored is not None and when <= stored.dropped:
            return Outcome("refused", "time: before the oldest event that is kept of this user")
        if when <= self.export.newest:
            logged = self.users.in_log(event.user)
            if logged is not None:
                same_n = logged.item_rows == self.export.items.encode([event.item])
                if np.any(same_n & (logged.times == when)):
                    return Outcome("duplicate")
        return Outcome("accepted")

    def _apply(
        self,
        events: list[Event],
        times: list[int],
        now: int,
        ids: list[str],
        found: Found,
    ) -> None:
        """Writes and counts events that were checked, in order of their times."""
        user_index_of = {user: user_index for user_index, user in enumerate(ids)}
        sessions = [None if one is None else one.session for one in found.stored]
        item_n = self.export.items.encode(one.item for one in events)
        user_index_n = np.array([user_index_of[one.user] for one in events])
        states = found.states
        new: list[NewEvent | None] = [None] * len(events)
        for number_m in rounds(user_index_n):
            part_m = user_index_n[number_m]
            before = states.take(part_m)
            time_m = np.array([times[number] for number in number_m], np.int64)
            starts_m = session_starts(
                before,
                time_m,
                [events[n].session for n in number_m],
                [sessions[p] for p in part_m],
                self._stream.gap_seconds,
            )
            after = self._stream.observe(before, item_n[number_m], time_m, starts_m)
            states = with_states(states, part_m, after)
            for index, number in enumerate(number_m.tolist()):
                one = events[number]
                sessions[part_m[index]] = one.session
                new[number] = NewEvent(
                    one.user,
                    bool(starts_m[index]),
                    WorldEvent(
                        one.item,
                        times[number],
                        min(int(after.last_time_n[index]), now),
                        int(after.position_n[index]) - 1,
                        self._before(before.own_nm[index]),
                    ),
                )
        written = [one for one in new if one is not None]
        changed = sorted(set(user_index_n.tolist()))
        last = self._store.write(
            [
                (found.stored[user_index] or StoredUser(ids[user_index], "", b""))._replace(
                    version=self.version,
                    state=self.users.to_bytes(states.take(np.array([user_index]))),
                    session=sessions[user_index],
                )
                for user_index in changed
            ],
            written,
        )
        if last - len(written) == self.counts.number:
            self.counts.add([one.world for one in written], last)
            self.snapshots.write_if_due(self.counts)
        else:
            # Others' events came between. These here are written, whatever happens now.
            with contextlib.suppress(StoreError):
                self._catch_up()

    @property
    def is_shared(self) -> bool:
        """Whether other servers write to the store too."""
        return self._store.shared

    def follow(self) -> None:
        """Counts the events that other servers wrote.

        Raises:
          StoreError: The store cannot be read.
        """
        if self._store.shared:
            self._catch_up()

    def _catch_up(self) -> None:
        for number, events in self._store.world(self.counts.number):
            self.counts.add(events, number)
        self.snapshots.write_if_due(self.counts)

    def _before(self, own_m: np.ndarray) -> tuple[str | None, ...]:
        rows = own_m[: SIZES.distance].tolist()
        ids = self.export.items.ids
        return tuple(
            str(ids[row - FIRST_ITEM_ID]) if row >= FIRST_ITEM_ID else None
            for row in rows
            if row != PADDING_ID
        )

    def recommend(self, asks: Sequence[Ask]) -> list[Answer]:
        """The best items for each; all that was observed before counts. A time before
        `counts.known_from` stands for that one.

        Raises:
          StoreError: The store cannot be read.
        """
        self.follow()
        now = int(self._clock())
        ids = list(dict.fromkeys(one.user for one in asks if one.user is not None))
        return self._recommending(asks, ids, self.refresh(ids), self.counts, now)

    def record(self, user: str) -> Record | None:
        """What is known of a user; None for nothing."""
        return self.users.record(user)

    def forget(self, user: str) -> bool:
        """Removes all that is stored of a user; whether there was anything. Counts stay."""
        return self.users.forget(user)

    def close(self) -> None:
        """Writes a snapshot of the counts, and closes the store."""
        self.snapshots.close(self.counts)
        self._store.close()
