"""What users did: the events of a log, later ones, and what everybody did as memory counts it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.serving.catalogue import Catalogue
from hiertcn_jax.serving.event_rows import counted_events
from hiertcn_jax.serving.frames import UserEvents
from hiertcn_jax.serving.live_catalogue import LiveCatalogue
from hiertcn_jax.serving.user_states import Events, UserStates


@runtime_checkable
class KnownUsers(Protocol):
    """The users of the log that a model was trained on."""

    @property
    def newest(self) -> int:
        """Time of the log's newest event, seconds."""
        ...

    def events_of(self, user_ids: Sequence[Any], /) -> list[Events | None]:
        """All events of each user; None for a user that the log does not have."""
        ...

    def blocks(self) -> Iterator[tuple[list[Any], list[Events]]]:
        """Raw ids and all events of all users, many at a time."""
        ...


class Past:
    """Everybody's events so far. Counted time does not go back.

    Attributes:
      memory: What everybody did so far, for a model with terms of it.
      newest: Time of the newest event that is known, seconds.
    """

    def __init__(
        self, known: KnownUsers, catalogue: Catalogue, gap_seconds: float, memory: Memory | None
    ) -> None:
        """The events of a log.

        Args:
          known: Its users.
          catalogue: The items.
          gap_seconds: A pause longer than this ends a session.
          memory: See the class.
        """
        self.memory, self.newest = memory, known.newest
        self._known, self._catalogue, self._gap_seconds = known, catalogue, gap_seconds
        self._later: dict[str, Events] = {}
        self._later_ids: dict[str, Any] = {}
        self._make_room()

    def events_of(self, ids: Sequence[Any]) -> list[Events | None]:
        """All events of users, of the log and later ones; None for a user without any."""
        logged = self._known.events_of(ids)
        return [self._later.get(str(user), one) for user, one in zip(ids, logged, strict=True)]

    def blocks(self) -> Iterator[tuple[list[Any], list[Events]]]:
        """Raw ids and all events of all users, of the log and later ones, many at a time."""
        new = dict(self._later)
        for ids, events in self._known.blocks():
            yield ids, [new.pop(str(user), one) for user, one in zip(ids, events, strict=True)]
        if new:
            yield [self._later_ids[user] for user in new], list(new.values())

    def add(self, found: Mapping[Any, UserEvents]) -> None:
        """Takes in later events of users, each user's in order of time.

        Raises:
          ValueError: A live catalogue cannot have the id of an item; then nothing is taken in.
        """
        if not found:
            return
        times = [one.times for one in found.values()]
        ids = [item for one in found.values() for item in one.item_ids]
        item_n = self.enter(ids, np.concatenate(times))
        items = np.split(item_n, np.cumsum([len(time_n) for time_n in times])[:-1])
        past, parts = self.events_of(list(found)), []
        for user, before, *new_of_user in zip(found, past, items, times, strict=True):
            new = self._with_later(before, *new_of_user)
            start = 0 if before is None else len(before.item_rows)
            self._later[str(user)], self._later_ids[str(user)] = new, user
            parts.append(counted_events(new, start))
        arrays = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        order_n = np.argsort(arrays[1], kind="stable")
        item_n, time_n, before_nm, position_n = (array[order_n] for array in arrays)
        time_n = np.maximum(time_n, self.newest)
        self.newest = int(time_n[-1])
        if self.memory is not None:
            self.memory.observe(item_n, time_n, before_nm, position_n)

    def enter(self, item_ids: Sequence[Any], time_n: np.ndarray) -> np.ndarray:
        """int32 [n]. The rows of items that were picked; a live catalogue takes new ones in.

        Args:
          item_ids: Raw ids.
          time_n: int64. When each was picked, seconds.

        Raises:
          ValueError: A live catalogue cannot have such an id.
        """
        if not isinstance(self._catalogue, LiveCatalogue):
            return self._catalogue.encode(item_ids)
        item_n = self._catalogue.enter(item_ids, time_n)
        self._make_room()
        return item_n

    def _make_room(self) -> None:
        """Gives memory as many rows as a live catalogue has."""
        if not isinstance(self._catalogue, LiveCatalogue) or self.memory is None:
            return
        if self.memory.rows < self._catalogue.room:
            self.memory.make_room(self._catalogue.room)

    def count(self, before: UserStates, after: UserStates, item_n: np.ndarray) -> None:
        """Adds one event of each user to what everybody did.

        Args:
          before: The users' states before it.
          after: And after it.
          item_n: int32. The rows of the items.
        """
        order_n = np.argsort(after.last_time_n, kind="stable")
        time_n = np.maximum(after.last_time_n[order_n], self.newest)
        self.newest = int(time_n[-1]) if len(time_n) else self.newest
        if self.memory is not None:
            self.memory.observe(
                item_n[order_n], time_n, before.own_nm[order_n], after.position_n[order_n] - 1
            )

    def _with_later(self, before: Events | None, item_n: np.ndarray, time_n: np.ndarray) -> Events:
        """Events of a user with later ones after them."""
        if before is None:
            before = Events(item_n[:0], time_n[:0], np.zeros(0, bool))
        last = before.times[-1:] if len(before.times) else time_n[:1]
        time_n = np.maximum(time_n, last)
        starts_n = np.diff(time_n, prepend=last) > self._gap_seconds
        starts_n[:1] |= not len(before.times)
        assert before.starts is not None
        return Events(
            np.concatenate([before.item_rows, item_n]),
            np.concatenate([before.times, time_n]),
            np.concatenate([before.starts, starts_n]),
        )
