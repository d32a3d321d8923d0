"""The memory of a log, built at once from a prepared log, or event by event in a service."""

from typing import NamedTuple, TypeVar

import numpy as np

from hiertcn_jax.memory.compaction import compact_followers, compact_log
from hiertcn_jax.memory.config import SIZES, MemorySizes
from hiertcn_jax.memory.event_log import LogArrays, append_events, empty_log
from hiertcn_jax.memory.followers import (
    FollowerArrays,
    append_pairs,
    empty_followers,
    records_of_an_event,
)
from hiertcn_jax.memory.lists import FEATURES, NO_INDEX, fill_lists, index_by_item
from hiertcn_jax.memory.stored import stored_followers, stored_log

ArraysT = TypeVar("ArraysT", LogArrays, FollowerArrays)


class Lists(NamedTuple):
    """Memory's lists for n events, or for the slots of a batch: then `n` is its shape.

    Attributes:
      item_ids_nk: int32. The listed items, filled up with PADDING_ID.
      features_nkf: float32. Features of each (`lists.FEATURES`), >= 0.
    """

    item_ids_nk: np.ndarray
    features_nkf: np.ndarray


class Memory:
    """Counts of everybody's events, and of what followed what, at any time.

    Attributes:
      rows: `v`, rows of the item table.
      events: Number of events counted, and of those that `compacted` filled up with.
      known_from: Seconds. Lists are known from this time on; before `compacted`, at any time.
    """

    def __init__(self, rows: int, events: int = 1024, sizes: MemorySizes = SIZES) -> None:
        """Starts empty.

        Args:
          rows: `v`, rows of the item table.
          events: Number of events to make room for; it grows as needed.
          sizes: See `MemorySizes`.
        """
        self.rows, self.events, self._sizes = rows, 0, sizes
        self.known_from: int = np.iinfo(np.int64).min
        self._log = empty_log(rows, max(events, sizes.snapshot_events), sizes)
        spare = records_of_an_event(sizes.distance)
        self._followers = empty_followers(rows, max(events, 2 * spare), sizes)
        self._event_index = self._record_index = NO_INDEX
        self._slot_v = np.full(rows, -1, np.int32)
        self._top_v = np.full(rows, -1, np.int32)

    def observe(
        self,
        item_ids_n: np.ndarray,
        time_n: np.ndarray,
        before_nm: np.ndarray,
        position_n: np.ndarray,
    ) -> None:
        """Counts events, in order of time.

        Args:
          item_ids_n: int32. The picked items.
          time_n: int64. Their times, in seconds.
          before_nm: int32. The user's own items before each, newest first, m at least
            `MemorySizes.distance`; PADDING_ID for none.
          position_n: int32. How many of them are in the same session; 0 if it starts one.

        Raises:
          ValueError: An event is earlier than a counted one, an item is no row, or too few items
            before an event are given.
        """
        if not len(item_ids_n):
            return
        first = self._log.time_n[self.events - 1] if self.events else time_n[0]
        if time_n[0] < first or np.any(np.diff(time_n) < 0):
            raise ValueError(f"time_n: goes back to before {first}")
        self._require_rows("item_ids_n", item_ids_n)
        self._require_rows("before_nm", before_nm)
        distance = self._sizes.distance
        if before_nm.shape[1] < distance:
            raise ValueError(f"before_nm: {before_nm.shape[1]} items, must be {distance} or more")
        before_nr = np.ascontiguousarray(before_nm[:, :distance])
        self._event_index = self._record_index = NO_INDEX
        start, end = self.events, self.events + len(item_ids_n)
        self._log = _with_room(self._log, end, self._sizes)
        append_events(
            self._log, start, item_ids_n, time_n, position_n == 0, self._sizes.snapshot_events
        )
        while start < end:
            start = append_pairs(self._log, start, end, before_nr, self._followers)
            if start < end:
                self._followers = _with_records(self._followers, self._sizes)
        self.events = end

    def make_room(self, rows: int) -> None:
        """Adds rows for items that were never counted.

        Args:
          rows: `v`, rows of the item table; not fewer than before.
        """
        more = rows - self.rows
        fresh_log, fresh = empty_log(more, 0, self._sizes), empty_followers(more, 0, self._sizes)
        self._log = _with_rows(self._log, fresh_log)
        self._followers = _with_rows(self._followers, fresh)
        self._event_index, self._record_index = (
            index._replace(start_v=np.pad(index.start_v, (0, more), mode="edge"))
            if len(index.start_v)
            else index
            for index in (self._event_index, self._record_index)
        )
        self._slot_v, self._top_v = np.full((2, rows), -1, np.int32)
        self.rows = rows

    def _require_rows(self, name: str, item_ids: np.ndarray) -> None:
        """Raises ValueError for an id that is no row: compiled loops do not check their indices."""
        if item_ids.size and (item_ids.min() < 0 or item_ids.max() >= self.rows):
            raise ValueError(f"{name}: must be from 0 to {self.rows - 1}")

    def arrays(self) -> dict[str, np.ndarray]:
        """The counts, for a file; `from_arrays` reads them."""
        log = _cut(self._log, _BY_EVENT, self.events)
        snapshots = self.events // self._sizes.snapshot_events
        log = _cut(log, _BY_SNAPSHOT, snapshots)
        found = _cut(self._followers, _BY_RECORD, int(self._followers.used[0]))
        return {
            "known_from": np.array([self.known_from], np.int64),
            **{f"log/{name}": array for name, array in log._asdict().items()},
            **{f"followers/{name}": array for name, array in found._asdict().items()},
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Memory":
        """Counts that `arrays` gave, for this version's `SIZES`.

        Raises:
          ValueError: An array is missing, has another type or shape, or holds an index that is out
            of range.
        """
        log = stored_log(arrays)
        memory = cls(len(log.last_v), SIZES.snapshot_events)
        memory.events = len(log.item_n)
        memory._log = _with_room(log, memory.events + SIZES.snapshot_events, SIZES)
        memory._followers = stored_followers(arrays, memory.rows)
        if "known_from" in arrays:
            known_from = arrays["known_from"]
            if known_from.shape != (1,) or known_from.dtype != np.int64:
                raise ValueError("memory: known_from is of another type")
            memory.known_from = int(known_from[0])
        return memory

    def compacted(self) -> "Memory":
        """The same counts, for times from the newest event on: a few numbers for each item.

        A memory that counts for months becomes small again. Later lists are equal bit for bit.
        """
        memory = Memory(self.rows, self._sizes.snapshot_events, self._sizes)
        memory.known_from = max(self.known_from, self.last_time)
        log, memory.events = compact_log(self._log, self.events, self._sizes)
        memory._log = _with_room(log, memory.events + self._sizes.snapshot_events, self._sizes)
        memory._followers = compact_followers(self._followers, memory.known_from)
        return memory

    def seal(self) -> None:
        """Sorts by item, to answer for any time until the next `observe`; frees spare room."""
        self._followers = _without_spare(self._followers)
        log, found = self._log, self._followers
        self._event_index = index_by_item(
            log.item_n[: self.events], log.time_n[: self.events], self.rows
        )
        used = int(found.used[0])
        self._record_index = index_by_item(found.owner_r[:used], found.time_r[:used], self.rows)

    def lists(
        self,
        time_n: np.ndarray,
        own_nm: np.ndarray,
        position_n: np.ndarray,
        slots: np.ndarray | None = None,
    ) -> Lists:
        """What is known at n events before they happen.

        Args:
          time_n: int64. Time of each event; only earlier events are known.
          own_nm: int32. The user's own items before it, newest first; PADDING_ID for none.
          position_n: int32. How many of them are in the current session.
          slots: bool, of any shape, n of them True: the result has this shape, with the events at
            these slots and empty lists elsewhere. None: the events alone.

        Raises:
          ValueError: A time is before `known_from`, or an item is no row.
        """
        sizes = self._sizes
        self._require_rows("own_nm", own_nm)
        if len(time_n) and time_n.min() < self.known_from:
            raise ValueError(
                f"time {time_n.min()}: what everybody did is known from {self.known_from} on"
            )
        slots = np.ones(len(time_n), bool) if slots is None else slots
        ids = np.zeros((*slots.shape, sizes.candidates), np.int32)
        features = np.zeros((*ids.shape, len(FEATURES)), np.float32)
        fill_lists(
            self._log,
            self.events,
            self._event_index,
            self._followers,
            self._record_index,
            sizes.snapshot_events,
            sizes.sources,
            sizes.own_items,
            sizes.follower_items,
            time_n,
            own_nm,
            position_n,
            np.flatnonzero(slots),
            ids.reshape(-1, *ids.shape[-1:]),
            features.reshape(-1, *features.shape[-2:]),
            self._slot_v,
            self._top_v,
        )
        return Lists(ids, features)

    @property
    def last_time(self) -> int:
        """Seconds. When the newest event that was counted happened; -1 where there is none."""
        return int(self._log.time_n[self.events - 1]) if self.events else -1

    @property
    def bytes(self) -> int:
        """Memory of all arrays, in bytes."""
        parts = (self._log, self._followers, self._event_index, self._record_index)
        return sum(array.nbytes for part in parts for array in part)


_BY_EVENT = {name for name in LogArrays._fields if name.endswith(("_n", "_nc", "_qm", "_qmc"))}
_BY_SNAPSHOT = {name for name in LogArrays._fields if name.endswith(("_qm", "_qmc"))}
_BY_RECORD = {
    name for name in FollowerArrays._fields if name.endswith(("_r", "_rj", "_rjz", "_rz"))
}


def _with_rows(arrays: ArraysT, more: ArraysT) -> ArraysT:
    """The arrays by item, their last axis, with those of more items after them."""
    names = [name for name in arrays._fields if name.endswith(("_v", "_cv"))]
    return arrays._replace(
        **{name: np.concatenate([getattr(arrays, name), getattr(more, name)], -1) for name in names}
    )


def _with_room(log: LogArrays, events: int, sizes: MemorySizes) -> LogArrays:
    """The log with room for this many events."""
    if events <= len(log.item_n):
        return log
    return _copied(log, empty_log(0, max(events, 2 * len(log.item_n)), sizes), _BY_EVENT)


def _with_records(found: FollowerArrays, sizes: MemorySizes) -> FollowerArrays:
    """The records with twice the room, and with room for an event at least."""
    room = 2 * max(len(found.owner_r), records_of_an_event(sizes.distance))
    return _copied(found, empty_followers(0, room, sizes), _BY_RECORD)


def _without_spare(found: FollowerArrays) -> FollowerArrays:
    """The written records, without spare room."""
    return _cut(found, _BY_RECORD, int(found.used[0]))


def _cut(arrays: ArraysT, names: set[str], length: int) -> ArraysT:
    """Copies of the first entries of these arrays, without room for more."""
    return arrays._replace(**{name: getattr(arrays, name)[:length].copy() for name in names})


def _copied(old: ArraysT, larger: ArraysT, names: set[str]) -> ArraysT:
    """Copies these arrays of `old` to the front of those of `larger`."""
    for name in names:
        array = getattr(old, name)
        getattr(larger, name)[: len(array)] = array
    return old._replace(**{name: getattr(larger, name) for name in names})
