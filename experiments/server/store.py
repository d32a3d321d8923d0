"""What a server keeps: states and last events of users, and the stream of everybody's events.

Items and users are raw ids as text, so that a store outlives the model that it was filled with.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

KEPT_EVENTS = 200
"""Events that a store keeps of a user: those with the newest times."""


class StoreError(Exception):
    """A store cannot be opened, read or written; the message names it and says what to do."""


class StoredUser(NamedTuple):
    """A user.

    Attributes:
      id: Raw id.
      version: Which export's model made the state.
      state: The state's bytes.
      session: The id of the running session, if events name sessions.
      kept: How many events are kept.
      dropped: Newest time of an event that is no longer kept, seconds; -1 if all are.
    """

    id: str
    version: str
    state: bytes
    session: str | None = None
    kept: int = 0
    dropped: int = -1


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


class NewEvent(NamedTuple):
    """An event to write: whose it is, whether it starts a session, and how it counts."""

    user: str
    starts: bool
    world: WorldEvent


class Store(Protocol):
    """One server's store. One thread uses it. Every method may raise StoreError."""

    def first_number(self, version: str) -> int:
        """The newest event's number at the time when this export was first served from here."""
        ...

    def users(self, ids: Iterable[str]) -> dict[str, StoredUser]:
        """Those of the users that it has."""
        ...

    def events_of(self, user: str) -> list[StoredEvent]:
        """A user's kept events, in the order in which they came."""
        ...

    def has(self, user: str, item: str, time: int) -> bool:
        """Whether this event is kept."""
        ...

    def write(self, users: Sequence[StoredUser], events: Sequence[NewEvent] = ()) -> None:
        """Writes users and appends events, all or nothing; returns when they would survive a
        crash. `kept` and `dropped` are the store's to count: what the users say there is not read.
        """
        ...

    def world(self, first: int, newest: int) -> Iterator[list[WorldEvent]]:
        """The stream, in order and in parts: events with a greater number than `first`, and earlier
        ones that happened after `newest`.
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
