"""The bodies of requests and answers. FastAPI checks requests against them and describes all."""

import datetime
import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

ID_LENGTH = 256
"""Characters of an id at most."""
ITEMS_MOST = 1_000
"""Items of an answer, and items to choose from or to leave out, at most."""
EXPLAINED_MOST = 100
"""Items of an answer with explanations at most."""
EVENTS_MOST = 1_000
USERS_MOST = 100
PICKS_MOST = 100
"""Events of a request, users of one, and events of a visitor, at most."""
_SECONDS_MOST = 2**40


def as_text(value: Any) -> Any:
    """An id as text.

    Raises:
      ValueError: It is neither text nor a whole number.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be text or a whole number")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is no valid Unicode") from None
    return text


def as_seconds(value: Any) -> Any:
    """A time in seconds.

    Raises:
      ValueError: It is neither seconds nor ISO 8601, or far out of range.
    """
    if value is None:
        return None
    seconds: float
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) < 20):
        try:
            when = datetime.datetime.fromisoformat(value)
            zoned = when if when.tzinfo else when.replace(tzinfo=datetime.UTC)
            seconds = zoned.timestamp()
        except (ValueError, OverflowError):
            raise ValueError(
                "must be seconds since 1970 or ISO 8601, such as 2026-11-30T14:00:00Z"
            ) from None
    elif isinstance(value, str):
        seconds = int(value)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be seconds since 1970 or ISO 8601 text")
    else:
        seconds = value
    if not 0 <= seconds < _SECONDS_MOST:
        raise ValueError("must be 0 or more seconds since 1970, and in the next 30,000 years")
    return math.floor(seconds)


_ID = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": ID_LENGTH}, {"type": "integer"}]}
_TIME = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}, {"type": "null"}]}

Id = Annotated[
    str,
    Field(min_length=1, max_length=ID_LENGTH),
    BeforeValidator(as_text),
    WithJsonSchema({**_ID, "description": "Raw id, as in the log."}),
]
Time = Annotated[
    int | None,
    BeforeValidator(as_seconds),
    WithJsonSchema({**_TIME, "description": "Seconds since 1970 or ISO 8601; absent: now."}),
]
Number = Annotated[int, Field(ge=1, le=ITEMS_MOST, description="How many are wanted.")]
Session = Annotated[
    Id | None,
    Field(
        description="Id of the session that the event would be in; absent: a long pause ends one."
    ),
]
Explain = Annotated[bool, Field(description="Say what each score is the sum of: `parts`.")]
RawId = Annotated[
    str | int | None, WithJsonSchema({**_ID, "description": "Raw id, in the type of the log."})
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EventBody(_Body):
    """A user picks an item."""

    user: Id
    item: Id
    time: Time = None
    session: Id | None = Field(None, description="Session id; absent: a long pause ends one.")


class EventsBody(_Body):
    """Events of any users, in any order."""

    events: list[EventBody] = Field(min_length=1, max_length=EVENTS_MOST)


class EventOutcome(_Body):
    """What became of an event."""

    status: str = Field(description="accepted, duplicate or refused")
    reason: str | None = Field(None, description="Why it was refused.")


class EventsAnswer(_Body):
    """What became of events, in their order. Accepted ones are on disk."""

    accepted: int
    duplicate: int
    refused: int
    events: list[EventOutcome]


class _Wanted(_Body):
    n: Number = 20
    at: Time = None
    exclude_seen: bool = Field(False, description="Leave out what the user picked before.")
    exclude: list[Id] = Field([], max_length=ITEMS_MOST, description="Items to leave out.")
    candidates: list[Id] | None = Field(
        None, min_length=1, max_length=ITEMS_MOST, description="Items to choose from; absent: all."
    )
    explain: Explain = False


class UsersBody(_Wanted):
    """Asks for the best items of several users."""

    users: list[Id] = Field(min_length=1, max_length=USERS_MOST)


class Pick(_Body):
    """An event of a visitor."""

    item: Id
    time: Time = None


class VisitorBody(_Wanted):
    """Asks for the best items after some events; nothing is stored."""

    events: list[Pick] = Field([], max_length=PICKS_MOST)


class _Item(_Body):
    item: RawId
    title: str | None = Field(None, description="Only if the export has titles.")


class ItemShown(_Item):
    """An item."""


class ItemParts(_Body):
    """What a score is the sum of. A part that the model does not have is absent."""

    hierarchy: float = Field(description="Of the network and the item's bias.")
    world: float | None = Field(None, description="Of what everybody picks.")
    world_half_life_hours: float | None = Field(
        None, description="The half-life whose counts add or take most."
    )
    followers: float | None = Field(None, description="Of what follows the user's last items.")
    followers_of: ItemShown | None = Field(
        None, description="The item whose followers add or take most."
    )
    own: float | None = Field(None, description="Of what the user picked before.")
    memory_units: float | None = Field(None, description="Of the small network on all counts.")


class ScoredItem(_Item):
    """An item and its score; greater is better."""

    score: float
    parts: ItemParts | None = Field(None, description="With `explain`: they sum to the score.")


class VisitorAnswer(_Body):
    """The best items, best first."""

    model: str
    items: list[ScoredItem]


class UserAnswer(VisitorAnswer):
    """The best items for a user, best first."""

    user: RawId
    known: bool = Field(description="Whether anything is known of the user.")


class UsersAnswer(_Body):
    """The best items for several users, in their order."""

    users: list[UserAnswer]


class ModelBody(_Body):
    """Names an export to serve from now on."""

    export_dir: str = Field(
        min_length=1, max_length=4096, description="Below --models_dir; relative to it, or whole."
    )


class ModelAnswer(_Body):
    """The model that serves now."""

    model: str
    version: str = Field(description="Of the export, as /readyz says it.")


class SimilarItem(_Item):
    """An item whose embedding points in a similar direction."""

    cosine: float


class SimilarAnswer(_Item):
    """Similar items, the most similar first."""

    model: str
    items: list[SimilarItem]


class UsersOfLog(_Body):
    """Some users."""

    users: list[RawId]


class UserEvent(_Item):
    """An event of a user."""

    item: RawId = Field(description="null: an item of the log outside the catalogue.")
    time: int = Field(description="Seconds since 1970.")
    starts_session: bool


class UserRecord(_Body):
    """All that is known of a user."""

    user: RawId
    log: list[UserEvent] = Field(description="Events of the log that the model was exported with.")
    received: list[UserEvent] = Field(description="Later events that are kept.")


class Problem(BaseModel):
    """Why a request failed (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
