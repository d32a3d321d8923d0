"""Splits sessions into train, valid and test."""

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
"""Under `last_session`, all sessions of a user with fewer belong to train."""


@dataclasses.dataclass(frozen=True)
class SplitOptions:
    """How to assign sessions to the parts.

    Attributes:
      split: `last_session`: the last session of each user is test, the one before it valid.
        `user`: a hash of the user's id decides. `time`: the session's start decides.
      valid_fraction, test_fraction: Share of the users (`user`) or of the sessions (`time`).
      valid_after_ms, test_after_ms: Under `time`, sessions that start at or after these belong to
        valid and test; None: computed from the fractions (`with_cuts`).
    """

    split: SplitName = "last_session"
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    valid_after_ms: int | None = None
    test_after_ms: int | None = None

    @property
    def has_cuts(self) -> bool:
        """Whether times are given."""
        return self.valid_after_ms is not None and self.test_after_ms is not None

    def is_fitted(self, split_n: np.ndarray, times_ms_n: np.ndarray, last: Split) -> np.ndarray:
        """Bool [n]. Which events a fit on the parts up to `last`, train or valid, may read.

        Under `time` a session that crosses a cut belongs to the part in which it starts, but
        nothing from the cut on is fitted.

        Args:
          split_n: The `Split` of each event's session.
          times_ms_n: The time of each event.
          last: The last fitted part.
        """
        cut = self.valid_after_ms if last == Split.TRAIN else self.test_after_ms
        fitted_n = split_n <= last
        return fitted_n if cut is None else fitted_n & (times_ms_n < cut)


@dataclasses.dataclass(frozen=True, eq=False)
class Sessions:
    """Sessions in the order of their events.

    Attributes:
      users: int32 [m]. Code of each session's user.
      starts_ms: int64 [m]. Time of its first event.
      lengths: int32 [m]. Number of its events.
    """

    users: np.ndarray
    starts_ms: np.ndarray
    lengths: np.ndarray


def sessions_of(events: Events) -> Sessions:
    """The sessions that these events form."""
    first = np.flatnonzero(events.starts_session)
    lengths = np.diff(np.append(first, len(events))).astype(np.int32)
    return Sessions(events.users[first], events.times_ms[first], lengths)


def with_cuts(sessions: Sessions, options: SplitOptions) -> SplitOptions:
    """The options, with the fractions of `time` replaced by times.

    Cuts are at whole seconds, because histories hold whole seconds.

    Args:
      sessions: Those of the whole log, before any filter: filters look only at what is before the
        first cut.
      options: The options.
    """
    if options.split != "time" or options.has_cuts or not len(sessions.starts_ms):
        return options
    starts = np.sort(sessions.starts_ms)
    places = places_of_cuts(len(starts), options)
    return at_cuts(options, *starts[places].tolist())


def split_report(options: SplitOptions) -> dict[str, dict[str, int]]:
    """The manifest's `cuts`, in seconds; nothing if the split has none."""
    if options.valid_after_ms is None or options.test_after_ms is None:
        return {}
    cuts = {"valid_after": options.valid_after_ms, "test_after": options.test_after_ms}
    return {"cuts": {name: cut // 1000 for name, cut in cuts.items()}}


def at_cuts(options: SplitOptions, valid_after_ms: int, test_after_ms: int) -> SplitOptions:
    """The options with these cuts, rounded down to whole seconds."""
    return dataclasses.replace(
        options,
        valid_after_ms=valid_after_ms // 1000 * 1000,
        test_after_ms=test_after_ms // 1000 * 1000,
    )


def assign_splits(
    sessions: Sessions,
    user_ids: pl.Series,
    options: SplitOptions,
    asked: SplitOptions | None = None,
) -> tuple[np.ndarray, int]:
    """Applies `deal_sessions` to a whole log, and requires that no part is empty.

    Args:
      sessions: As for `deal_sessions`.
      user_ids: As for `deal_sessions`.
      options: How to split.
      asked: The options before `with_cuts`, for the error message; None: `options`.

    Raises:
      DataError: A part has no session.
    """
    splits, users_too_short = deal_sessions(sessions, user_ids, options)
    for part in Split:
        if not np.any(splits == part):
            users = len(np.unique(sessions.users))
            raise DataError(describe_empty(part, asked or options, len(splits), users))
    return splits, users_too_short


def describe_empty(part: Split, options: SplitOptions, sessions: int, users: int) -> str:
    """The error message for a part without sessions, with what the user can do."""
    if options.split == "last_session":
        cause = (
            f"only users with {SESSIONS_TO_SPLIT} sessions or more are split; set a shorter "
            "--gap_minutes, or --split=user or time"
        )
    elif options.split == "time" and options.has_cuts:
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
    """Assigns sessions to parts. A user's sessions are train first, then valid, then test.

    Args:
      sessions: User by user, and each user's in order of their starts.
      user_ids: String [users]. The id of each user code.
      options: How to split.

    Returns:
      uint8 [m], the `Split` of each session, and the number of users with too few sessions to
      split (0 except under `last_session`).

    Example:
      >>> ids = pl.Series(["ann", "bob"])
      >>> users = np.asarray([0, 0, 0, 0, 1], np.int32)
      >>> sessions = Sessions(users, np.arange(5), np.full(5, 2, np.int32))
      >>> parts, too_short = deal_sessions(sessions, ids, SplitOptions("last_session"))
      >>> [Split(part).name for part in parts], too_short
      (['TRAIN', 'TRAIN', 'VALID', 'TEST', 'TRAIN'], 1)
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
    """A number in [0, 1) that depends only on the id, and is the same on every machine."""
    digest = hashlib.blake2b(user_id.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def places_of_cuts(sessions: int, options: SplitOptions) -> np.ndarray:
    """Where the fractions of `time` cut the sessions, sorted by start: int64 [2].

    Args:
      sessions: How many sessions there are, at least 1.
      options: The fractions.

    Returns:
      The index of the first valid session, and of the first test session. Sessions that start at
      the same time as the first session of a part belong to that part.
    """
    shares = 1 - options.test_fraction - np.array([options.valid_fraction, 0])
    return np.minimum(np.round(shares * sessions).astype(int), sessions - 1)


def _by_time(sessions: Sessions, options: SplitOptions) -> np.ndarray:
    options = with_cuts(sessions, options)
    valid_after, test_after = options.valid_after_ms, options.test_after_ms
    splits = np.full(len(sessions.users), Split.TRAIN, np.uint8)
    splits[sessions.starts_ms >= valid_after] = Split.VALID
    splits[sessions.starts_ms >= test_after] = Split.TEST
    return splits
