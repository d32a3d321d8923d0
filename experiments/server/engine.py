"""Follows users and answers, one batch at a time; one thread uses it.

An event is first written to the store. Only then does it change counts and get its answer, so what
was accepted survives a crash, and a crash never leaves counts of events that the store lacks.
"""

import hashlib
import time
from collections.abc import Callable, Sequence

import numpy as np

from experiments.server.counts import Counts
from experiments.server.explaining import Explaining
from experiments.server.requests import Answer, Ask, Event, Outcome, Record
from experiments.server.store import NewEvent, Store, StoredUser, WorldEvent
from experiments.server.users import Found, Users
from hiertcn_jax.exported.layout import MANIFEST
from hiertcn_jax.exported.onnx_stream import OnnxStream
from hiertcn_jax.exported.reading import Export
from hiertcn_jax.item_ids import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.serving.user_states import UserStates, joined

AHEAD_SECONDS = 300
"""How far an event's time may be ahead of this clock."""

_USERS_MOST = 64
"""Users whose items are scored at a time."""


class Engine:
    """A model, its store and the counts.

    Attributes:
      export: The model's.
      counts: What everybody did so far.
      version: Tells the export from all others: of its manifest, which has the hash of every file.
    """

    def __init__(
        self, export: Export, store: Store, clock: Callable[[], float] = time.time
    ) -> None:
        """Loads the model, and counts what the store has.

        Args:
          export: The model's.
          store: See `Store`.
          clock: Gives the time, in seconds.

        Raises:
          ExportError: onnxruntime cannot run the model.
          StoreError: The store cannot be read.
        """
        self.export, self._store, self._clock = export, store, clock
        self._stream, self._explain = OnnxStream(export), Explaining(export)
        manifest = (export.directory / MANIFEST).read_bytes()
        self.version = hashlib.sha256(manifest).hexdigest()[:16]
        self.users = Users(export, self._stream, store, self.version)
        self.counts = Counts(export)
        self.counts.replay(store, store.first_number(self.version), export.newest)
        # What is compiled or loaded at the first use is then ready.
        self.recommend([Ask(None, (("", None),))])
        self.counts.warm_up()

    def observe(self, events: Sequence[Event]) -> list[Outcome]:
        """Takes in events, in order of their times; each is counted once.

        Raises:
          StoreError: They could not be written; then nothing has changed.
        """
        now = int(self._clock())
        events = [one if one.time is not None else one._replace(time=now) for one in events]
        times = [now if one.time is None else one.time for one in events]
        order = sorted(range(len(events)), key=times.__getitem__)
        ids = list(dict.fromkeys(one.user for one in events))
        found = self.users.find(ids)
        stored = dict(zip(ids, found.stored, strict=True))
        outcomes = [Outcome("accepted")] * len(events)
        chosen: list[int] = []
        done: set[tuple[str, str, int]] = set()
        for number in order:
            one, when = events[number], times[number]
            outcomes[number] = self._check(one, when, now, stored[one.user], done)
            if outcomes[number].status == "accepted":
                chosen.append(number)
                done.add((one.user, one.item, when))
        if chosen:
            self._apply([events[n] for n in chosen], [times[n] for n in chosen], now, ids, found)
        return outcomes

    def _check(
        self,
        event: Event,
        when: int,
        now: int,
        stored: StoredUser | None,
        done: set[tuple[str, str, int]],
    ) -> Outcome:
        key = (event.user, event.item, when)
        if when > now + AHEAD_SECONDS:
            return Outcome("refused", f"time: {when - now} s ahead of the server's clock")
        if key in done or (stored is not None and self._store.has(*key)):
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
        for number_m in _rounds(user_index_n):
            part_m = user_index_n[number_m]
            before = states.take(part_m)
            time_m = np.array([times[number] for number in number_m], np.int64)
            starts_m = self._starts(
                before, time_m, [events[n].session for n in number_m], [sessions[p] for p in part_m]
            )
            after = self._stream.observe(before, item_n[number_m], time_m, starts_m)
            states = _with(states, part_m, after)
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
        self._store.write(
            [
                StoredUser(
                    ids[user_index],
                    self.version,
                    self.users.to_bytes(states.take(np.array([user_index]))),
                    sessions[user_index],
                )
                for user_index in changed
            ],
            written,
        )
        self.counts.add([one.world for one in written])

    def _starts(
        self,
        states: UserStates,
        time_n: np.ndarray,
        sessions: list[str | None],
        running: list[str | None],
    ) -> np.ndarray:
        """Whether events start sessions: by ids where both have one, otherwise by the pause."""
        by_pause_n = time_n - states.last_time_n > self._stream.gap_seconds
        starts_n = np.array(
            [
                paused if one is None or last is None else one != last
                for one, last, paused in zip(sessions, running, by_pause_n, strict=True)
            ],
            bool,
        )
        return starts_n | (states.events_n == 0)

    def _before(self, own_m: np.ndarray) -> tuple[str | None, ...]:
        rows = own_m[: SIZES.distance].tolist()
        ids = self.export.items.ids
        return tuple(
            str(ids[row - FIRST_ITEM_ID]) if row >= FIRST_ITEM_ID else None
            for row in rows
            if row != PADDING_ID
        )

    def recommend(self, asks: Sequence[Ask]) -> list[Answer]:
        """The best items for each; all that was observed before counts.

        Raises:
          StoreError: The store cannot be read.
        """
        now = int(self._clock())
        ids = list(dict.fromkeys(one.user for one in asks if one.user is not None))
        found = self.users.find(ids)
        if found.remade:
            self._store.write(found.remade)
        user_index_of = {user: user_index for user_index, user in enumerate(ids)}
        states = self._all_states(asks, found.states, user_index_of, now)
        latest = max(now, self.counts.newest + 1)
        at_n = np.array([latest if one.at is None else one.at for one in asks], np.int64)
        excluded = [self._excluded(one) for one in asks]
        answers: list[Answer | None] = [None] * len(asks)
        for number_m in _by_candidates(asks):
            best = self._stream.recommend(
                states.take(number_m),
                at_n[number_m],
                max(asks[number].n for number in number_m),
                self.counts.memory,
                _filled([excluded[number] for number in number_m]),
                self._allowed(asks[number_m[0]].candidates),
            )
            for number, rows_k, scores_k, vector_d in zip(number_m.tolist(), *best, strict=True):
                one = asks[number]
                rows_k = rows_k[: one.n]
                rows_k = rows_k[rows_k >= FIRST_ITEM_ID]
                items = list(zip(self.export.items.decode(rows_k), scores_k.tolist(), strict=False))
                known = (
                    bool(one.picks) if one.user is None else found.known[user_index_of[one.user]]
                )
                user = None if one.user is None else self.users.raw_id(one.user)
                parts = None
                if one.explain:
                    state = states.take(np.array([number]))
                    at, memory = at_n[number], self.counts.memory
                    parts = self._explain(state, at, memory, rows_k, vector_d)
                answers[number] = Answer(user, known, items, parts)
        return [one for one in answers if one is not None]

    def _all_states(
        self, asks: Sequence[Ask], states: UserStates, user_index_of: dict[str, int], now: int
    ) -> UserStates:
        """The state of each: of a user as found, of a visitor after the events given."""
        parts, visitors = [], [one for one in asks if one.user is None]
        followed = self._follow(visitors, now)
        visitor = 0
        for one in asks:
            if one.user is None:
                parts.append(followed.take(np.array([visitor])))
                visitor += 1
            else:
                parts.append(states.take(np.array([user_index_of[one.user]])))
        return joined(parts)

    def _follow(self, visitors: list[Ask], now: int) -> UserStates:
        states = self._stream.start(len(visitors))
        for turn in range(max((len(one.picks) for one in visitors), default=0)):
            part_m = np.array([n for n, one in enumerate(visitors) if len(one.picks) > turn])
            picks = [visitors[number].picks[turn] for number in part_m]
            after = self._stream.observe(
                states.take(part_m),
                self.export.items.encode(item for item, _ in picks),
                [now if when is None else when for _, when in picks],
            )
            states = _with(states, part_m, after)
        return states

    def _excluded(self, ask: Ask) -> np.ndarray:
        """Rows that an ask leaves out."""
        parts = [np.array(sorted(ask.exclude), np.int32)]
        if ask.exclude_seen:
            parts.append(self.export.items.encode(item for item, _ in ask.picks))
            if ask.user is not None:
                kept = self.users.kept(ask.user)
                parts.append(self.export.items.encode(one.item for one in kept))
                logged = self.users.in_log(ask.user)
                if logged is not None:
                    parts.append(logged.item_rows)
        return np.unique(np.concatenate(parts))

    def _allowed(self, candidates: frozenset[int] | None) -> np.ndarray | None:
        if candidates is None:
            return None
        allowed_v = np.zeros(self.export.items.size, bool)
        allowed_v[sorted(candidates)] = True
        return allowed_v

    def record(self, user: str) -> Record | None:
        """What is known of a user; None for nothing."""
        logged, kept = self.users.in_log(user), self.users.kept(user)
        if logged is None and not kept:
            return None
        ids, events = self.export.items.ids, []
        if logged is not None:
            assert logged.starts is not None
            arrays = (logged.item_rows, logged.times, logged.starts)
            events = [
                (ids[row - FIRST_ITEM_ID] if row >= FIRST_ITEM_ID else None, when, starts)
                for row, when, starts in zip(*(array.tolist() for array in arrays), strict=True)
            ]
        items = self.export.items
        numbers = [items.number_of(one.item) for one in kept]
        return Record(
            self.users.raw_id(user),
            events,
            [
                (one.item if number is None else ids[number - FIRST_ITEM_ID], one.time, one.starts)
                for one, number in zip(kept, numbers, strict=True)
            ],
        )

    def forget(self, user: str) -> bool:
        """Removes all that is stored of a user; whether there was anything. Counts stay."""
        return self.users.forget(user)

    def close(self) -> None:
        """Closes the store."""
        self._store.close()


def _rounds(user_index_n: np.ndarray) -> list[np.ndarray]:
    """Indices of events in rounds, in each at most one of a user, in order."""
    turn_of: dict[int, int] = {}
    rounds: list[list[int]] = []
    for number, user_index in enumerate(user_index_n.tolist()):
        turn = turn_of.get(user_index, 0)
        turn_of[user_index] = turn + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(number)
    return [np.array(one) for one in rounds]


def _with(states: UserStates, part_m: np.ndarray, new: UserStates) -> UserStates:
    """The states with some of them replaced."""
    arrays = []
    for array, values in zip(states.arrays, new.arrays, strict=True):
        array = array.copy()
        array[part_m] = values
        arrays.append(array)
    return states.with_arrays(arrays)


def _by_candidates(asks: Sequence[Ask]) -> list[np.ndarray]:
    """Indices of asks that choose from the same items, as many as are scored at a time."""
    groups: dict[frozenset[int] | None, list[int]] = {}
    for number, one in enumerate(asks):
        groups.setdefault(one.candidates, []).append(number)
    return [
        np.array(group[start : start + _USERS_MOST])
        for group in groups.values()
        for start in range(0, len(group), _USERS_MOST)
    ]


def _filled(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Lists side by side, filled up with PADDING_ID."""
    filled_ne = np.full((len(rows), max([1, *(len(one) for one in rows)])), PADDING_ID, np.int32)
    for row_e, one in zip(filled_ne, rows, strict=True):
        row_e[: len(one)] = one
    return filled_ne
