"""Forms a batch: decides how many of each lane's next events its next segment takes."""

import numpy as np

from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID, Batch, BatchInfo, LaneBatch


def form_segments(
    event_bl: np.ndarray,
    filled_b: np.ndarray,
    sessions: int,
    evaluated: bool,
    one_user: bool = False,
) -> tuple[LaneBatch, np.ndarray]:
    """The next segment of every lane.

    A segment takes its lane's events up to the first one that would start session number `sessions`
    of the segment, or, with `one_user`, another user.

    Args:
      event_bl: Of `events.event_dtype`. The next events of each lane.
      filled_b: How many of them are valid; the others are not read.
      sessions: `s`, the most sessions that a segment may touch.
      evaluated: Whether known targets are also scored.
      one_user: Whether a segment ends where its user's history ends.

    Returns:
      The batch, and how many events it takes from each lane (int64 [b]).
    """
    column_l = np.arange(event_bl.shape[1])
    held_bl = column_l < filled_b[:, None]
    starts_bl = held_bl & (event_bl["position"] == 0)
    # Column 0 is in slot 0, whether its session starts there or continues from the segment before.
    session_bl = starts_bl.cumsum(axis=1, dtype=np.int32) - starts_bl[:, :1]
    held_bl &= session_bl < sessions
    if one_user:
        held_bl[:, 1:] &= ~np.logical_or.accumulate(event_bl["ends_user"][:, :-1], axis=1)

    item_ids_bl = np.where(held_bl, event_bl["item_id"], PADDING_ID)
    target_bl = held_bl & event_bl["target"]
    known_target_bl = target_bl & (item_ids_bl >= FIRST_ITEM_ID)

    row_n, column_n = np.nonzero(held_bl & (starts_bl | (column_l == 0)))
    slot_n = session_bl[row_n, column_n]

    def by_session(value_bl: np.ndarray, empty: int = 0) -> np.ndarray:
        value_bs = np.full((len(event_bl), sessions), empty, value_bl.dtype)
        value_bs[row_n, slot_n] = value_bl[row_n, column_n]
        return value_bs

    batch = Batch(
        item_ids_bl=item_ids_bl,
        position_bl=np.where(held_bl, event_bl["position"], 0),
        user_position_bl=np.where(held_bl, event_bl["user_position"], 0),
        seconds_bl=np.where(held_bl, event_bl["seconds"], 0),
        session_bl=np.where(held_bl, session_bl, 0),
        starts_session_bs=by_session(starts_bl),
        starts_user_bs=by_session(event_bl["user_position"] == 0),
        gap_hours_bs=by_session(event_bl["gap_hours"]),
        loss_weight_bl=known_target_bl.astype(np.float32),
        scored_bl=known_target_bl if evaluated else np.zeros_like(known_target_bl),
        negatives_blk=_own_negatives(event_bl, known_target_bl),
    )
    info = BatchInfo(
        user_bs=by_session(event_bl["user"], -1),
        session_in_user_bs=by_session(event_bl["session_in_user"], -1),
        time_bl=np.where(held_bl, event_bl["time"], 0),
        item_ids_bl=item_ids_bl,
        target_bl=target_bl,
        ends_user_bl=held_bl & event_bl["ends_user"],
    )
    return LaneBatch(batch, info), held_bl.sum(axis=1)


def _own_negatives(event_bl: np.ndarray, known_target_bl: np.ndarray) -> np.ndarray | None:
    """The negatives that events bring, for events with a target; None if they bring none."""
    if "negatives" not in (event_bl.dtype.names or ()):
        return None
    return np.where(known_target_bl[..., None], event_bl["negatives"], PADDING_ID)


def count_segments(length_m: np.ndarray, events: int, sessions: int) -> int:
    """How many segments sessions of these lengths fill in one lane, if nothing follows them."""
    end_m = np.cumsum(length_m)
    segments = taken = 0
    while len(end_m) and taken < end_m[-1]:
        current = int(np.searchsorted(end_m, taken, side="right"))
        last = min(current + sessions, len(end_m)) - 1
        taken = min(taken + events, int(end_m[last]))
        segments += 1
    return segments
