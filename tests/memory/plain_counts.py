"""Memory's counts by plain loops over all events, from their definitions."""

from hiertcn_jax.memory.config import FOLLOWER_HALF_LIVES, STARTING, WORLD_HALF_LIVES
from hiertcn_jax.memory.followers import BACKWARD


def world(events, item, time):
    """All counts of an item; events are (item, time, number of the user's one before, position)."""
    picks = [(time - at, place) for other, at, _, place in events if other == item and at < time]
    starts = [(seconds, place) for seconds, place in picks if place == 0]
    halves = [(picks, half) for half in WORLD_HALF_LIVES]
    halves += [(starts, WORLD_HALF_LIVES[k]) for k in STARTING]
    return [sum(2 ** (-seconds / half) for seconds, _ in some) for some, half in halves]


def pairs(events, time, most):
    """(source, follower, weight, time) of pairs before a time, `most` events apart or fewer."""
    for item, at, before, _ in events:
        if at >= time or item < 2:
            continue
        for distance in range(1, most + 1):
            if before < 0:
                break
            other, _, further, _ = events[before]
            if other >= 2 and other != item:
                yield other, item, 1 / distance, at
                yield item, other, BACKWARD / distance, at
            before = further


def followers(events, item, time, most):
    """n_z(item -> other, time) as {other: counts of all half-lives}."""
    counts = {}
    for source, other, weight, at in pairs(events, time, most):
        if source == item:
            so_far = counts.setdefault(other, [0.0] * len(FOLLOWER_HALF_LIVES))
            for z, half in enumerate(FOLLOWER_HALF_LIVES):
                so_far[z] += weight * 2 ** (-(time - at) / half)
    return counts
