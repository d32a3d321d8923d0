"""Histories as flat arrays of events, one record per event. Lanes consist of these."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from data_pipelines.histories.record import History, Split
from hiertcn_jax.batch import PADDING_ID

_FIELDS = [
    ("turn", np.int64),  # how many users the lane read before this event's user
    ("user", np.int64),  # index of the user's record in the source
    ("time", np.int64),  # seconds since the epoch
    ("item_id", np.int32),  # row of the item table
    ("position", np.int32),  # index in the session
    ("user_position", np.int32),  # index in the user's history
    ("seconds", np.int32),  # since the user's first event
    ("session_in_user", np.int32),  # index of the session in the user's history
    ("gap_hours", np.float32),  # since the session before, at a session's first event; else 0
    ("target", np.bool_),  # of a part that is trained on or evaluated
    ("ends_user", np.bool_),  # the last event of its user
]


def event_dtype(negatives: int = 0) -> np.dtype:
    """The type of an event. With k = `negatives` > 0 it ends with negatives, int32 [k]."""
    own = [("negatives", np.int32, (negatives,))] if negatives else []
    return np.dtype([*_FIELDS, *own], align=True)


def record_dtype(event: np.dtype) -> np.dtype:
    """An event as plain bytes.

    numpy copies such records at once, but copies events field by field, 20 times slower. So code
    that moves events uses records, and code that reads them uses `array.view(event)`.
    """
    return np.dtype((np.void, event.itemsize))


EVENT = event_dtype()
"""The type of an event without negatives."""


class HistorySource(Protocol):
    """Random access to the histories of all users."""

    def __len__(self) -> int:
        """Number of users."""
        ...

    def __getitems__(self, indices: Sequence[int], /) -> Sequence[History]:
        """The histories of these users, in this order."""
        ...


_HISTORIES_AT_ONCE = 1024

_LATEST = np.iinfo(np.int32).max
"""Seconds, or 68 years."""


def blocks_of(source: HistorySource) -> Iterator[tuple[int, Sequence[History]]]:
    """Yields all histories in order, many at a time: much faster than one by one.

    Returns:
      The index of the first history of a block, and the block.
    """
    for start in range(0, len(source), _HISTORIES_AT_ONCE):
        indices = range(start, min(start + _HISTORIES_AT_ONCE, len(source)))
        yield start, source.__getitems__(list(indices))


@dataclasses.dataclass(frozen=True)
class Stream:
    """Which sessions to read, and which of them are targets.

    Sessions of parts after `last` are left out, and so are users without any target.

    Attributes:
      first_target: Sessions of this part and of later ones, up to `last`, are targets.
      last: The last part to read.
      evaluated: True: an evaluation scores the known targets. False: they are only trained on.
      before: Seconds. Events from then on are left out; None: all times are read.
    """

    first_target: Split
    last: Split
    evaluated: bool
    before: int | None = None

    def __str__(self) -> str:
        """The names of the parts that are targets."""
        return "+".join(
            part.name.lower() for part in Split if self.first_target <= part <= self.last
        )


class Sessions(NamedTuple):
    """The sessions that a stream keeps from several histories, laid end to end.

    Attributes:
      length_m: int64. Events of each session.
      owner_m: int64. Index of the session's history among those given.
      target_m: bool. True if the session's events are targets.
      kept_n: bool. For each event of the histories: whether its session is kept.
    """

    length_m: np.ndarray
    owner_m: np.ndarray
    target_m: np.ndarray
    kept_n: np.ndarray


def keep_sessions(histories: Sequence[History], stream: Stream) -> Sessions:
    """The sessions of these histories (at least one) that `stream` keeps."""
    length_m = np.concatenate([history.session_lengths for history in histories]).astype(np.int64)
    split_m = np.concatenate([history.session_splits for history in histories])
    counts = [len(history.session_lengths) for history in histories]
    owner_m = np.repeat(np.arange(len(histories)), counts)
    target_m = (split_m >= stream.first_target) & (split_m <= stream.last)
    has_target = np.bincount(owner_m, target_m, minlength=len(histories)) > 0
    kept_m = (split_m <= stream.last) & has_target[owner_m]
    kept_n = kept_m.repeat(length_m)
    if stream.before is not None:
        kept_n &= np.concatenate([history.times for history in histories]) < stream.before
        number_n = np.repeat(np.arange(len(length_m)), length_m)
        length_m = np.bincount(number_n[kept_n], minlength=len(length_m))
        kept_m &= length_m > 0
    return Sessions(length_m[kept_m], owner_m[kept_m], target_m[kept_m], kept_n)


def encode(
    histories: Sequence[History],
    users: Sequence[int] | np.ndarray,
    turns: Sequence[int] | np.ndarray,
    stream: Stream,
    negatives: int = 0,
) -> list[np.ndarray]:
    """The events that `stream` keeps, user by user.

    Encodes all users at once: per user, the overhead of numpy's calls would exceed the work on a
    short history.

    Args:
      histories: At least one.
      users: The index of each history in the source.
      turns: The turn of its lane at which each history is read.
      stream: Which sessions to keep, and which of them are targets.
      negatives: `k`. The first k items shown with an event are its negatives.

    Returns:
      For each history its events in order, as records of `event_dtype(negatives)`, [n]; empty if
      it has no target.
    """
    length_m, owner_m, target_m, kept_n = keep_sessions(histories, stream)
    sessions = np.bincount(owner_m, minlength=len(histories))
    lengths = np.bincount(owner_m, length_m, minlength=len(histories)).astype(np.int64)
    session_in_user_m = np.arange(len(owner_m)) - _starts(sessions)[owner_m]
    first_m = _starts(length_m)
    place_n = np.arange(lengths.sum())
    starts, time_n = _starts(lengths), np.concatenate([one.times for one in histories])[kept_n]
    # A history without events may start behind the last event.
    first_time = time_n[np.minimum(starts, len(time_n) - 1)] if len(time_n) else starts

    dtype = event_dtype(negatives)
    events = np.empty(len(place_n), dtype)
    events["turn"] = np.repeat(turns, lengths)
    events["user"] = np.repeat(users, lengths)
    events["time"] = time_n
    events["item_id"] = np.concatenate([history.item_ids for history in histories])[kept_n]
    events["position"] = place_n - first_m.repeat(length_m)
    events["user_position"] = place_n - starts.repeat(lengths)
    events["seconds"] = np.clip(time_n - first_time.repeat(lengths), 0, _LATEST)
    events["session_in_user"] = session_in_user_m.repeat(length_m)
    events["target"] = target_m.repeat(length_m)
    # Times may decrease in logs prepared before overlapping sessions were merged: no gap there.
    gap_m = np.maximum(time_n[first_m] - time_n[first_m - 1], 0) / 3600
    events["gap_hours"] = 0
    events["gap_hours"][first_m] = np.where(session_in_user_m > 0, gap_m, 0)
    if negatives:
        events["negatives"] = _shown(histories, negatives)[kept_n]
    ends_n = np.cumsum(lengths)
    events["ends_user"] = False
    events["ends_user"][ends_n[lengths > 0] - 1] = True

    records = events.view(record_dtype(dtype))
    ends = ends_n.tolist()
    return [records[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _shown(histories: Sequence[History], negatives: int) -> np.ndarray:
    """The first k items shown with each event, int32 [n, k], filled up with PADDING_ID."""
    count_n = np.concatenate(
        [
            one.shown_counts if len(one.shown_counts) else np.zeros(len(one.times), np.int32)
            for one in histories
        ]
    ).astype(np.int64)
    item_p = np.concatenate([one.shown_items for one in histories])
    event_p = np.repeat(np.arange(len(count_n)), count_n)
    place_p = np.arange(len(item_p)) - _starts(count_n).repeat(count_n)
    shown_nk = np.full((len(count_n), negatives), PADDING_ID, np.int32)
    kept_p = place_p < negatives
    shown_nk[event_p[kept_p], place_p[kept_p]] = item_p[kept_p]
    return shown_nk


def _starts(lengths: np.ndarray) -> np.ndarray:
    """The start of each stretch when they are laid end to end."""
    return np.cumsum(lengths) - lengths
