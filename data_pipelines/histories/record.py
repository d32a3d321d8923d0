"""One user's whole history, as it is kept on disk and read back."""

import dataclasses
import enum

import numpy as np


class Split(enum.IntEnum):
    """The part of the data that a session belongs to."""

    TRAIN = 0
    VALID = 1
    TEST = 2


@dataclasses.dataclass(frozen=True)
class History:
    """Events of one user: session after session, in order of each session's first event.

    A session's events stand together and in order of time (ties in the order of the input). The
    parts are in order too: train sessions, then valid, then test; any may be empty.

    Attributes:
      user_id: The id of the raw log, as text.
      item_ids: int32 [n]. Rows of the item table: 1 for an item outside the training vocabulary,
        2.. the catalogue. Never 0.
      times: int64 [n]. Seconds since the epoch. Interleaved sessions may go back in time where
        one session ends and the next begins.
      session_lengths: int32 [m]. Events of each session, >= 1; they sum to n.
      session_splits: uint8 [m]. `Split` of each session, never decreasing.
    """

    user_id: str
    item_ids: np.ndarray
    times: np.ndarray
    session_lengths: np.ndarray
    session_splits: np.ndarray
