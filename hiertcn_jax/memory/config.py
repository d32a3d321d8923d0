"""Sizes and half-lives of the memories: one set for every log."""

import dataclasses

HOUR = 3600.0
DAY = 24 * HOUR

WORLD_HALF_LIVES = tuple(300.0 * 4.0**k for k in range(9))
"""Seconds: 5 minutes, 20 minutes, ... 228 days. By a factor of 4: one exponential serves all."""

STARTING = (1, 3, 5, 7)
"""Which of these half-lives count, apart, the picks that start a session: 20 minutes to 57 days."""

FOLLOWER_HALF_LIVES = (1.0 * HOUR, 8.0 * HOUR, 4.0 * DAY, 64.0 * DAY)
"""Seconds. How long it counts that one item came soon after another."""

KINDS = ("world", "followers", "own")
"""What `--memory` may name."""


@dataclasses.dataclass(frozen=True)
class MemorySizes:
    """How much is looked at for one event.

    Attributes:
      candidates: `k`, items that an event's list holds. All others have 0 in every feature.
      own_events: Events of the user's own that are looked at, the newest.
      own_items: Distinct items of these that enter the list.
      follower_items: Items that followers may add to the list.
      followers: Neighbours that are kept of an item.
      distance: Events of a user, across sessions, that an item is counted as a neighbour of.
      sources: The user's last items whose followers are looked at.
      top_items: Items in a snapshot of the most picked ones.
      snapshot_events: Events between two snapshots.
    """

    candidates: int = 96
    own_events: int = 64
    own_items: int = 20
    follower_items: int = 36
    followers: int = 16
    distance: int = 8
    sources: int = 8
    top_items: int = 64
    snapshot_events: int = 64


SIZES = MemorySizes()
