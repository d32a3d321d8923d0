"""Seeded synthetic logs with a planted long-term and short-term interest, and a control.

Items belong to topics, and within a topic to styles. The items of one topic and style form a ring.
A taste is a few favourite topics and one style. A session starts in one of its taste's topics. From
event to event it may hop to another of them (the drift), walk on along the ring (an order that a
convolution can learn), or draw a new item. It mostly, not always, keeps to the style.

`planted`: a user has one taste; from time to time a part of it is drawn anew (the slow change).
Earlier sessions reveal the topics and the style of the next one. `control`: every session has its
own taste, drawn from the same distribution. So single sessions look exactly alike in both variants;
they differ only in what a user's sessions share.
"""

import dataclasses
from typing import Literal

import numpy as np
import polars as pl

from hiertcn_jax.settings import Settings, setting

Variant = Literal["planted", "control"]

_START_SECONDS = 1_700_000_000
_DAY_SECONDS = 86_400


@dataclasses.dataclass(frozen=True)
class SyntheticConfig(Settings):
    """A synthetic log with `topics` x `styles` x `ring_items` items.

    Raises:
      ValueError: A field is out of range: "field=value: why".
    """

    variant: Variant = setting(
        "planted", "planted: users have a lasting taste. control: every session has its own."
    )
    seed: int = setting(0, "Seed of all random draws.", at_least=0)
    users: int = setting(2000, "Users.", at_least=1)
    sessions_per_user: float = setting(
        8.0, "Mean; with fewer than 3 few users can be split by last session.", at_least=3
    )
    events_per_session: float = setting(6.0, "Mean.", at_least=2)
    topics: int = setting(
        25, "Topics; the k-th is drawn with probability ~ 1 / (k + 3).", at_least=1
    )
    styles: int = setting(8, "Styles in a topic, all equally likely.", at_least=1)
    ring_items: int = setting(
        5,
        "Items of one topic and style; the k-th is drawn with probability ~ 1 / k.",
        at_least=1,
    )
    favourites: int = setting(3, "Topics in a taste.", at_least=1)
    change: float = setting(
        0.05,
        "Probability, at each session, that one part of the user's taste is drawn anew.",
        at_least=0,
        at_most=1,
    )
    hop: float = setting(
        0.8,
        "Probability, at each event, that the topic is drawn anew from the taste's.",
        at_least=0,
        at_most=1,
    )
    walk: float = setting(
        0.5,
        "Probability that the next item is the next on the ring, if the ring stays the same.",
        at_least=0,
        at_most=1,
    )
    fidelity: float = setting(
        0.75,
        "Probability, at each event, of the taste's style instead of any.",
        at_least=0,
        at_most=1,
    )


def synthetic_log(config: SyntheticConfig) -> pl.DataFrame:
    """Draws a log.

    Returns:
      user_id (Int64), item_id (Int64), timestamp (Int64, seconds since the epoch), session_id
      (Int64), user by user, in order of time. Events of a session are at most 5 minutes apart,
      sessions of a user at least 2 hours, so that an idle gap of 30 minutes gives the same
      sessions as the column.
    """
    rng = np.random.default_rng(config.seed)
    user_sessions = 3 + rng.poisson(config.sessions_per_user - 3, config.users)
    users = np.repeat(np.arange(config.users), user_sessions)
    lengths = 2 + rng.poisson(config.events_per_session - 2, len(users))
    favourites, styles = _tastes(config, user_sessions, rng)
    items = _items(config, favourites, styles, lengths, rng)
    # A separate stream, so that an item has the same id in both variants.
    names = np.random.default_rng([config.seed, 1])
    item_ids = names.permutation(config.topics * config.styles * config.ring_items) + 1
    return pl.DataFrame(
        {
            "user_id": np.repeat(users + 1, lengths),
            "item_id": item_ids[items],
            "timestamp": _times(users, lengths, rng),
            "session_id": np.repeat(np.arange(len(users)) + 1, lengths),
        }
    )


def _draw_tastes(
    config: SyntheticConfig, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Favourite topics [count, favourites] and styles [count]."""
    weights = 1 / (np.arange(config.topics) + 3)
    shape = (count, config.favourites)
    favourites = rng.choice(config.topics, shape, p=weights / weights.sum())
    return favourites, rng.integers(config.styles, size=count)


def _tastes(
    config: SyntheticConfig, user_sessions: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The taste of each session: favourites [m, favourites] and styles [m]."""
    fresh_favourites, fresh_styles = _draw_tastes(config, int(user_sessions.sum()), rng)
    if config.variant == "control":
        return fresh_favourites, fresh_styles
    favourites, styles = fresh_favourites.copy(), fresh_styles.copy()
    first = np.cumsum(user_sessions) - user_sessions
    for session in range(1, user_sessions.max()):
        now = first[user_sessions > session] + session
        # Which part to draw anew: one of the topics, the style, or mostly none.
        part = rng.integers(config.favourites + 1, size=len(now))
        part[rng.random(len(now)) >= config.change] = -1
        stays = part[:, None] != np.arange(config.favourites)
        favourites[now] = np.where(stays, favourites[now - 1], fresh_favourites[now])
        styles[now] = np.where(part != config.favourites, styles[now - 1], fresh_styles[now])
    return favourites, styles


def _items(
    config: SyntheticConfig,
    favourites: np.ndarray,
    styles: np.ndarray,
    lengths: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """The item of each event, int [n] from 0 on, session after session."""
    sessions, longest = len(lengths), lengths.max()
    popularity = 1 / (np.arange(config.ring_items) + 1)
    items = np.zeros((sessions, longest), np.int64)
    topic = np.zeros(sessions, np.int64)
    ring, index = np.full(sessions, -1), np.zeros(sessions, np.int64)
    for position in range(longest):
        drawn_topic = favourites[
            np.arange(sessions), rng.integers(config.favourites, size=sessions)
        ]
        hops = rng.random(sessions) < (config.hop if position else 1)
        topic = np.where(hops, drawn_topic, topic)
        is_faithful = rng.random(sessions) < config.fidelity
        style = np.where(is_faithful, styles, rng.integers(config.styles, size=sessions))
        ring_before, ring = ring, topic * config.styles + style
        walks = (ring == ring_before) & (rng.random(sessions) < config.walk)
        drawn = rng.choice(config.ring_items, sessions, p=popularity / popularity.sum())
        index = np.where(walks, (index + 1) % config.ring_items, drawn)
        items[:, position] = ring * config.ring_items + index
    return items[np.arange(longest) < lengths[:, None]]


def _times(users: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Seconds since the epoch of each event [n], increasing within a user."""
    seconds = rng.integers(10, 300, int(lengths.sum()))
    first_events = np.cumsum(lengths) - lengths
    between = 2 * 3600 + rng.exponential(4 * _DAY_SECONDS, len(users)).astype(np.int64)
    seconds[first_events] = between
    total = np.cumsum(seconds)
    starts_user = np.diff(users, prepend=-1) != 0
    before_user = (total - seconds)[first_events[starts_user]]
    user_events = np.add.reduceat(lengths, np.flatnonzero(starts_user))
    return _START_SECONDS + total - np.repeat(before_user, user_events)
