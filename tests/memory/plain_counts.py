"""Counts of memory by plain loops over all events, as their definitions say."""

from hiertcn_jax.memory.config import FOLLOWER_HALF_LIVES, SIZES, WORLD_HALF_LIVES
from hiertcn_jax.memory.followers import BACKWARD


def world(events, item, time):
    """c_k(item, time) for all half-lives; events are (item, time, number of the one before)."""
    return [
        sum(2 ** (-(time - at) / half) for other, at, _ in events if other == item and at < time)
        for half in WORLD_HALF_LIVES
    ]


def pairs(events, time):
    """(source, follower, weight, time) of every pair that both lie before a time."""
    for item, at, before in events:
        if at >= time or item < 2:
            continue
        for distance in range(1, SIZES.distance + 1):
            if before < 0:
                break
            other, _, further = events[before]
            if other >= 2 and other != item:
                yield other, item, 1 / distance, at
                yield item, other, BACKWARD / distance, at
            before = further


def followers(events, item, time):
    """n_z(item -> other, time) as {other: counts of all half-lives}."""
    counts = {}
    for source, other, weight, at in pairs(events, time):
        if source == item:
            so_far = counts.setdefault(other, [0.0] * len(FOLLOWER_HALF_LIVES))
            for z, half in enumerate(FOLLOWER_HALF_LIVES):
                so_far[z] += weight * 2 ** (-(time - at) / half)
    return counts
