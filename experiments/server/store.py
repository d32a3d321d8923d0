"""What a server keeps: states and last events of users, and the stream of everybody's events.

Items and users are raw ids as text, so that a store outlives the model that it was filled with.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

KEPT_EVENTS = 200
"""Events that a store keeps of a user: those with the newest times."""

Key = tuple[str, str, int]
"""User, item and time: they tell an event from others."""


class StoreError(Exception):
    """A store cannot be opened, read or written; the message names it and says what to do."""


class ConflictError(Exception):
    """Another server has changed a user since it was read; nothing was written."""


class StoredUser(NamedTuple):
    """A user.

    Attributes:
      id: Raw id.
      version: Which export's model made the state.
      state: The state's bytes.
      session: The id of the running session, if events name sessions.
      kept: How many events are kept.
      dropped: Newest time of an event that is no longer kept, seconds; -1 if all are.
      revision: Changes with every write, in a store that several servers use.
    """

    id: str
    version: str
    state: bytes
    session: str | None = None
    kept: int = 0
    dropped: int = -1
    revision: int = 0


class StoredEvent(NamedTuple):
    """An event of a user.

    Attributes:
      item: Raw id.
      time: Seconds, as it came.
      starts: Whether it starts a session.
      number: Its place in the stream of all events; later ones have greater numbers.
    """

    item: str
    time: int
    starts: bool
    number: int


class WorldEvent(NamedTuple):
    """An event as the counts see it, without its user.

    Attributes:
      item: Raw id.
      time: Seconds, as it came.
      counted: The time it counts at, seconds; never before that of an earlier event.
      position: Its place in its session.
      before: The user's items before it, the newest first; None for an item that the model that
        served then did not know.
    """

    item: str
    time: int
    counted: int
    position: int
    before: tuple[str | None, ...]


class Part(NamedTuple):
    """Successive events of the stream, and the number of the last."""

    number: int
    events: list[WorldEvent]


class NewEvent(NamedTuple):
    """An event to write: whose it is, whether it starts a session, and how it counts."""

    user: str
    starts: bool
    world: WorldEvent


class Store(Protocol):
    """A store. One thread uses it; `write_snapshot` alone may be called by another one. Every
    method may raise StoreError.

    Attributes:
      shared: Whether other servers may write to it too.
      name: As messages show it.
      identity: Tells this store from all others.
    """

    name: str
    shared: bool
    identity: str

    def first_number(self, version: str) -> int:
        """The newest event's number at the time when this export was first served from here."""
        ...

    def users(self, ids: Iterable[str]) -> dict[str, StoredUser]:
        """Those of the users that it has."""
        ...

    def events_of(self, user: str) -> list[StoredEvent]:
        """A user's kept events, in the order in which they came."""
        ...

    def held(self, events: Iterable[Key]) -> set[Key]:
        """Those of the events that are kept."""
        ...

    def write(self, users: Sequence[StoredUser], events: Sequence[NewEvent] = ()) -> int:
        """Writes users and appends events, all or nothing; returns when they would survive a
        crash. `kept` and `dropped` are the store's to count: what the users say there is not read.

        Returns:
          The number of the last of the events, which have successive numbers; 0 without events.

        Raises:
          ConflictError: Another server has written one of the users, or forgotten one.
        """
        ...

    def world(self, first: int, newest: int | None = None, after: int = 0) -> Iterator[Part]:
        """The stream, in order and in parts: events with a greater number than `first`, and, unless
        `newest` is None, earlier ones that happened after `newest`; of these, those with a greater
        number than `after`.
        """
        ...

    def read_snapshot(self, version: str) -> bytes | None:
        """The newest snapshot of the counts; None for none.

        Args:
          version: Of the export that counts; one of another export may be given all the same.
        """
        ...

    def write_snapshot(self, version: str, number: int, data: bytes) -> None:
        """Replaces the snapshot at once: a crash leaves the old one or the new one.

        Args:
          version: See `read_snapshot`.
          number: Of the last event that it counts.
          data: What `read_snapshot` gives.
        """
        ...

    def forget(self, user: str, known: bool) -> bool:
        """Removes all of a user, from the files too.

        Args:
          user: Raw id.
          known: Whether the export knows the user; then the store notes that it is forgotten.

        Returns:
          Whether there was anything to forget.
        """
        ...

    def forgotten(self, users: Iterable[str]) -> set[str]:
        """Those of the users that were forgotten: what an export says of them is not used."""
        ...

    def sizes(self) -> tuple[int, int]:
        """How many users it has, and how many events the stream."""
        ...

    def close(self) -> None:
        """Leaves the files complete."""
        ...
