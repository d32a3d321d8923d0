"""What everybody did so far: the export's counts, and every event since."""

from collections.abc import Sequence

import numpy as np

from experiments.server.store import Store, WorldEvent
from hiertcn_jax.exported.reading import Export
from hiertcn_jax.item_ids import PADDING_ID, UNKNOWN_ID
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.memory.memory import Memory


class Counts:
    """Follows the stream of events.

    Attributes:
      memory: For a model with terms of memory; otherwise None, and only times are followed.
      newest: Time of the newest counted event, seconds.
      events: How many were counted since the export.
      number: Of the newest counted event in the stream.
    """

    def __init__(self, export: Export) -> None:
        """The counts of the export alone."""
        self._items = export.items
        self.memory = export.memory()
        self.newest = export.newest
        if self.memory is not None:
            self.newest = max(self.newest, self.memory.last_time)
        self.events = self.number = 0

    @property
    def known_from(self) -> int:
        """Seconds. Recommendations can be asked for times from this one on."""
        return 0 if self.memory is None else max(self.memory.known_from, 0)

    def replay(self, store: Store, first: int, newest: int | None = None) -> None:
        """Counts what the store has; see `Store.world` for the arguments."""
        self.number = first
        for number, events in store.world(first, newest):
            self.add(events, number)

    def warm_up(self) -> None:
        """Compiles what `add` needs; counts nothing."""
        if self.memory is not None:
            nothing_nr = np.full((1, SIZES.distance), PADDING_ID, np.int32)
            one_n = np.full(1, UNKNOWN_ID, np.int32)
            Memory(self.memory.rows).observe(one_n, np.zeros(1, np.int64), nothing_nr, one_n * 0)

    def compact(self) -> None:
        """Drops what was known at times before the newest event."""
        if self.memory is not None:
            self.memory = self.memory.compacted()

    def add(self, events: Sequence[WorldEvent], number: int) -> None:
        """Counts events, in order; one that comes with an earlier time counts at the newest.

        Args:
          events: Successive events of the stream.
          number: Of the last of them.
        """
        if not events:
            return
        counted_n = np.array([event.counted for event in events], np.int64)
        counted_n = np.maximum.accumulate(np.maximum(counted_n, self.newest))
        if self.memory is not None:
            self.memory.observe(
                self._items.encode(event.item for event in events),
                counted_n,
                self._before(events),
                np.array([event.position for event in events], np.int32),
            )
        self.newest = int(counted_n[-1])
        self.events += len(events)
        self.number = max(self.number, number)

    def _before(self, events: Sequence[WorldEvent]) -> np.ndarray:
        before_nr = np.full((len(events), SIZES.distance), PADDING_ID, np.int32)
        for row_r, event in zip(before_nr, events, strict=True):
            for place, item in enumerate(event.before[: SIZES.distance]):
                row = UNKNOWN_ID if item is None else self._items.number_of(item)
                row_r[place] = UNKNOWN_ID if row is None else row
        return before_nr
