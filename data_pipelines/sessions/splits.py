"""Sessions to train, valid and test."""

import dataclasses
import hashlib
from typing import Literal

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from data_pipelines.sessions.sessionize import Events

SplitName = Literal["last_session", "user", "time"]

SESSIONS_TO_SPLIT = 3
"""A user with fewer sessions is all train under `last_session`."""


@dataclasses.dataclass(frozen=True)
class SplitOptions:
    """How sessions are dealt to the parts.

    Attributes:
      split: `last_session`: the last session of each user is test, the one before it valid.
        `user`: users are dealt by a hash of their id. `time`: a session goes by its start.
      valid_fraction, test_fraction: Share of the users (`user`) or of the sessions (`time`).
      valid_after_ms, test_after_ms: Under `time`, sessions that start at or after these belong to
        valid and test; None: taken from the fractions.
    """

    split: SplitName = "last_session"
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    valid_after_ms: int | None = None
    test_after_ms: int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Sessions:
    """The sessions of some events, in their order.

    Attributes:
      users: int32 [m]. Code of each session's user.
      starts_ms: int64 [m]. Time of its first event.
      lengths: int32 [m]. Its events.
    """

    users: np.ndarray
    starts_ms: np.ndarray
    lengths: np.ndarray


def sessions_of(events: Events) -> Sessions:
    """The sessions that the events make up."""
    first = np.flatnonzero(events.starts_session)
    lengths = np.diff(np.append(first, len(events))).astype(np.int32)
    return Sessions(events.users[first], events.times_ms[first], lengths)


def assign_splits(
    sessions: Sessions, user_ids: pl.Series, options: SplitOptions
) -> tuple[np.ndarray, int]:
    """`deal_sessions`, of a whole log: no part may be left empty.

    Raises:
      DataError: A part is left without sessions.
    """
    splits, users_too_short = deal_sessions(sessions, user_ids, options)
    for part in Split:
        if not np.any(splits == part):
            users = len(np.unique(sessions.users))
            raise DataError(describe_empty(part, options, len(splits), users))
    return splits, users_too_short


def describe_empty(part: Split, options: SplitOptions, sessions: int, users: int) -> str:
    """Says that a part is left without sessions, and what can be done."""
    if options.split == "last_session":
        cause = (
            f"only users with {SESSIONS_TO_SPLIT} sessions or more are split; set a shorter "
            "--gap_minutes, or --split=user or time"
        )
    elif options.split == "time" and options.valid_after_ms is not None:
        cause = "set --valid_after and --test_after to times within the log's sessions"
    elif part == Split.TRAIN:
        cause = "set a lower --valid_fraction and --test_fraction"
    else:
        cause = f"set a higher --{part.name.lower()}_fraction, or prepare more of the log"
    return (
        f"split={options.split}: the {part.name.lower()} part is left empty ({sessions} sessions "
        f"of {users} users): {cause}"
    )


def deal_sessions(
    sessions: Sessions, user_ids: pl.Series, options: SplitOptions
) -> tuple[np.ndarray, int]:
    """Deals sessions to the parts; those of a user come train first, then valid, then test.

    Args:
      sessions: User by user, a user's in order of their starts.
      user_ids: String [users]. The id of each user code.
      options: How.

    Returns:
      uint8 [m], the `Split` of each session, and the number of users with too few sessions to be
      split (0 but under `last_session`).
    """
    users_too_short = 0
    if options.split == "last_session":
        splits, users_too_short = _by_last_session(sessions)
    elif options.split == "user":
        splits = _by_user(sessions, user_ids, options)
    else:
        splits = _by_time(sessions, options)
    return splits, users_too_short


def _by_last_session(sessions: Sessions) -> tuple[np.ndarray, int]:
    counts = np.bincount(sessions.users)
    ends = np.cumsum(counts)
    sessions_after = ends[sessions.users] - 1 - np.arange(len(sessions.users))
    splits = np.full(len(sessions.users), Split.TRAIN, np.uint8)
    splits[sessions_after == 1] = Split.VALID
    splits[sessions_after == 0] = Split.TEST
    splits[counts[sessions.users] < SESSIONS_TO_SPLIT] = Split.TRAIN
    return splits, int(np.sum((counts > 0) & (counts < SESSIONS_TO_SPLIT)))


def _by_user(sessions: Sessions, user_ids: pl.Series, options: SplitOptions) -> np.ndarray:
    users, places = np.unique(sessions.users, return_inverse=True)
    shares = np.array([_share(user_ids[user]) for user in users.tolist()])
    splits = np.full(len(users), Split.TRAIN, np.uint8)
    splits[shares < options.test_fraction + options.valid_fraction] = Split.VALID
    splits[shares < options.test_fraction] = Split.TEST
    return splits[places]


def _share(user_id: str) -> float:
    """A number in [0, 1) that depends on the id alone: the same on every machine, always."""
    digest = hashlib.blake2b(user_id.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def places_of_cuts(sessions: int, options: SplitOptions) -> np.ndarray:
    """Where the fractions of `time` cut: int64 [2], places among all starts in order of time.

    Args:
      sessions: How many there are, at least 1.
      options: The fractions.

    Returns:
      The place of the first session of valid, and that of test. Sessions that start at the same
      time as the first of a part belong to it.
    """
    shares = 1 - options.test_fraction - np.array([options.valid_fraction, 0])
    return np.minimum(np.round(shares * sessions).astype(int), sessions - 1)


def _by_time(sessions: Sessions, options: SplitOptions) -> np.ndarray:
    valid_after, test_after = options.valid_after_ms, options.test_after_ms
    if valid_after is None or test_after is None:
        starts = np.sort(sessions.starts_ms)
        valid_after, test_after = starts[places_of_cuts(len(starts), options)]
    splits = np.full(len(sessions.users), Split.TRAIN, np.uint8)
    splits[sessions.starts_ms >= valid_after] = Split.VALID
    splits[sessions.starts_ms >= test_after] = Split.TEST
    return splits
