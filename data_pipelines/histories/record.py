"""One user's whole history, as stored on disk."""

import dataclasses
import enum
from collections.abc import Sequence

import numpy as np

from hiertcn_jax.batch import FIRST_ITEM_ID, UNKNOWN_ID

NO_ITEMS = np.empty(0, np.int32)
"""The value of `shown_counts` and `shown_items` without impressions."""


class Split(enum.IntEnum):
    """The part of the data that a session belongs to."""

    TRAIN = 0
    VALID = 1
    TEST = 2


@dataclasses.dataclass(frozen=True)
class History:
    """Events of one user: session after session, in order of each session's first event.

    The events of a session are adjacent and in order of time; equal times keep the order of the
    input. The parts are in order too: train sessions, then valid, then test; any may be empty.

    Attributes:
      user_id: The id of the raw log, as text.
      item_ids: int32 [n]. Rows of the item table: 1 for an item outside the training vocabulary,
        2.. the catalogue. Never 0.
      times: int64 [n]. Seconds since the epoch, never decreasing. (In logs prepared before
        overlapping sessions were merged, they may decrease from one session to the next.)
      session_lengths: int32 [m]. Events of each session, >= 1; they sum to n.
      session_splits: uint8 [m]. `Split` of each session, never decreasing.
      shown_items: int32 [p]. What each event's user was shown and did not pick, event after event;
        rows of the catalogue. The order is random, so the first k of an event are a sample.
      shown_counts: int32 [n]. How many of them each event has, 0 if nothing is known.
        [0]: the log has no impressions.
    """

    user_id: str
    item_ids: np.ndarray
    times: np.ndarray
    session_lengths: np.ndarray
    session_splits: np.ndarray
    shown_items: np.ndarray = dataclasses.field(default_factory=lambda: NO_ITEMS)
    shown_counts: np.ndarray = dataclasses.field(default_factory=lambda: NO_ITEMS)


def find_problem(histories: Sequence[History], item_rows: int | None) -> str | None:
    """Describes the first fault in these histories; None if there is none.

    Checks them together: numpy's calls on a single history would take longer than reading it.

    Args:
      histories: The histories.
      item_rows: Rows of the item table; all `item_ids` must be below. None: not checked.
    """
    if not histories:
        return None
    sessions = [len(one.session_lengths) for one in histories]
    if [len(one.item_ids) for one in histories] != [len(one.times) for one in histories]:
        return "item_ids and times differ in length"
    if sessions != [len(one.session_splits) for one in histories]:
        return "session_lengths and session_splits differ in length"
    if 0 in sessions:
        return "no sessions"
    items, times, lengths, splits = (
        np.concatenate([getattr(one, name) for one in histories])
        for name in ("item_ids", "times", "session_lengths", "session_splits")
    )
    first = np.cumsum([0, *sessions[:-1]])
    if lengths.min() < 1 or np.any(
        np.add.reduceat(lengths.astype(np.int64), first) != [len(one.times) for one in histories]
    ):
        return "session_lengths do not add up to the events"
    if items.min() < UNKNOWN_ID or (item_rows is not None and items.max() >= item_rows):
        return f"item_ids: {items.min()} to {items.max()} are not all rows of the item table"
    if times.min() < 0:
        return f"times: expected seconds since 1970, got {times.min()}"
    falls = np.diff(splits.astype(np.int8)) < 0
    falls[first[1:] - 1] = False
    if splits.max() > max(Split) or falls.any():
        return "session_splits: expected train, then valid, then test"
    return _find_shown_problem(histories, item_rows)


def _find_shown_problem(histories: Sequence[History], item_rows: int | None) -> str | None:
    """Describes the first fault in their impressions; None if there is none."""
    items, counts = (
        np.concatenate([getattr(one, name) for one in histories])
        for name in ("shown_items", "shown_counts")
    )
    if not len(items) and not counts.any():
        lengths_fit = all(len(one.shown_counts) in (0, len(one.times)) for one in histories)
        return None if lengths_fit else "shown_counts and times differ in length"
    if any(len(one.shown_counts) != len(one.times) for one in histories):
        return "shown_counts and times differ in length"
    sums = np.add.reduceat(
        counts.astype(np.int64), np.cumsum([0, *(len(one.times) for one in histories[:-1])])
    )
    if counts.min() < 0 or np.any(sums != [len(one.shown_items) for one in histories]):
        return "shown_counts do not add up to the items shown"
    if items.min() < FIRST_ITEM_ID or (item_rows is not None and items.max() >= item_rows):
        return f"shown_items: {items.min()} to {items.max()} are not all rows of the catalogue"
    return None
