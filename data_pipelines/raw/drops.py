"""Records what a step of the preparation dropped, and why."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Drop:
    """A count of what was dropped for one reason.

    Attributes:
      reason: Such as "null item_id" or "min_item_events=50".
      events: Events dropped.
      users: Users without any event left.
      items: Items without any event left.
    """

    reason: str
    events: int
    users: int = 0
    items: int = 0
