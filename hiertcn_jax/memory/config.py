"""Sizes and half-lives of the memories, the same for every log."""

import dataclasses

HOUR = 3600.0
DAY = 24 * HOUR

WORLD_HALF_LIVES = tuple(300.0 * 4.0**k for k in range(9))
"""Seconds: 5 minutes, 20 minutes, ... 228 days. Factors of 4, so that one exponential suffices."""

STARTING = (1, 3, 5, 7)
"""The half-lives that also count, separately, picks that start a session: 20 minutes to 57 days."""

FOLLOWER_HALF_LIVES = (1.0 * HOUR, 8.0 * HOUR, 4.0 * DAY, 64.0 * DAY)
"""Seconds. Half-lives of the counts that one item came soon after another."""

KINDS = ("world", "followers", "own")
"""The values that `--memory` accepts."""


@dataclasses.dataclass(frozen=True)
class MemorySizes:
    """How much memory reads for one event.

    Attributes:
      candidates: `k`, items on an event's list. All others have 0 in every feature.
      own_events: How many of the user's newest events are read.
      own_items: Distinct items of these that enter the list.
      follower_items: Items that followers may add to the list.
      followers: Neighbours kept for an item.
      distance: How many events apart, across sessions, two items of a user count as neighbours.
      sources: The user's last items whose followers are read.
      top_items: Items in a snapshot of the most picked ones.
      snapshot_events: Events between two snapshots.
    """

    candidates: int = 192
    own_events: int = 128
    own_items: int = 64
    follower_items: int = 56
    followers: int = 16
    distance: int = 8
    sources: int = 8
    top_items: int = 128
    snapshot_events: int = 64


SIZES = MemorySizes()
