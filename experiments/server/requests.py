"""What a server is asked, and what it answers, as plain values."""

from typing import Any, NamedTuple

from hiertcn_jax.exported.reading import Export


class Event(NamedTuple):
    """A user picks an item.

    Attributes:
      user: Raw id.
      item: Raw id.
      time: Seconds; None: now.
      session: Id of the session; None: a pause longer than the model's gap ends one.
    """

    user: str
    item: str
    time: int | None = None
    session: str | None = None


class Outcome(NamedTuple):
    """What became of an event.

    Attributes:
      status: accepted, duplicate or refused.
      reason: Why it was refused.
    """

    status: str
    reason: str | None = None


class Ask(NamedTuple):
    """Asks for the best items for one user's next event.

    Attributes:
      user: Raw id; None for a visitor who has only the events given here.
      picks: Items and times of a visitor's events.
      n: Items wanted.
      at: When the event would happen, seconds; None: now.
      exclude_seen: Whether to leave out what the user picked before.
      exclude: Raw ids of items to leave out.
      candidates: Raw ids of items to choose from; None: all.
      explain: Whether to say what each score is the sum of.
      session: Id of the session that the event would be in; see `Event`.
    """

    user: str | None
    picks: tuple[tuple[str, int | None], ...] = ()
    n: int = 20
    at: int | None = None
    exclude_seen: bool = False
    exclude: frozenset[str] = frozenset()
    candidates: frozenset[str] | None = None
    explain: bool = False
    session: str | None = None


class ItemParts(NamedTuple):
    """What a score is the sum of.

    Attributes:
      values: By name, in order: hierarchy, and those of memory that the model has.
      half_life_hours: The half-life of world's counts that adds or takes most; None: nothing is
        known there.
      followed: Raw id of the user's item whose followers add or take most; None: nothing follows.
    """

    values: dict[str, float]
    half_life_hours: float | None
    followed: Any


class Answer(NamedTuple):
    """The best items.

    Attributes:
      export: The model's that answered.
      user: Raw id, in the type of the log; None for a visitor.
      known: Whether anything is known of the user.
      items: Raw ids and scores, best first.
      parts: What each score is the sum of, if it was asked for.
    """

    export: Export
    user: Any
    known: bool
    items: list[tuple[Any, float]]
    parts: list[ItemParts] | None = None


class Record(NamedTuple):
    """What is known of a user.

    Attributes:
      export: The model's that answered.
      user: Raw id, in the type of the log.
      logged: Raw ids (None for items outside the catalogue), times, and whether a session starts:
        the events of the log that the model was exported with.
      received: The same, of events that the server has received and keeps.
    """

    export: Export
    user: Any
    logged: list[tuple[Any, int, bool]]
    received: list[tuple[Any, int, bool]]
