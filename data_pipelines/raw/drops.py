"""What a step of the preparation left out, and why."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Drop:
    """A count of what was dropped for one reason.

    Attributes:
      reason: Such as "null item_id" or "min_item_events=50".
      events: Events dropped.
      users: Users of whom nothing was left.
      items: Items of which nothing was left.
    """

    reason: str
    events: int
    users: int = 0
    items: int = 0
