"""The train part of a prepared log as flat arrays, the source of every peer's input.

Needs only numpy, because it is read in the peers' own environments.
"""

import dataclasses
from pathlib import Path

import numpy as np

FILE_NAME = "events.npz"

RECBOLE_DATASET = "peers"
"""Name of the dataset in RecBole; its file is `<name>/<name>.inter`."""


@dataclasses.dataclass(frozen=True)
class Events:
    """Events user by user, session by session, in order. Users and sessions are stretches.

    Attributes:
      item_id_n: int32 [n]. Rows of the item table, from `FIRST_ITEM_ID` on.
      time_n: int64 [n]. Seconds since the epoch, never decreasing within a session.
      session_n: int32 [n]. Index of the event's session, 0.. and ascending.
      user_n: int32 [n]. Index of the event's user, 0.. and ascending.
      gap_hours_n: float32 [n]. At a session's first event, hours since the user's previous session;
        0 elsewhere, and at a user's first.
      rows: Rows of the item table: padding, unknown, and every item of the catalogue.
    """

    item_id_n: np.ndarray
    time_n: np.ndarray
    session_n: np.ndarray
    user_n: np.ndarray
    gap_hours_n: np.ndarray
    rows: int

    def save(self, directory: Path) -> None:
        """Writes `FILE_NAME`."""
        np.savez(directory / FILE_NAME, **dataclasses.asdict(self))

    @classmethod
    def load(cls, directory: Path | str) -> "Events":
        """Reads what `save` wrote."""
        with np.load(Path(directory) / FILE_NAME) as arrays:
            values = {field.name: arrays[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**values, "rows": int(values["rows"])})

    @property
    def session_lengths(self) -> np.ndarray:
        """int64 [m]. Events of each session."""
        return np.bincount(self.session_n)

    @property
    def user_lengths(self) -> np.ndarray:
        """int64. Events of each user."""
        return np.bincount(self.user_n)


def labels_per_epoch(events: Events, grid_events: int) -> dict[str, int]:
    """How many events each worker predicts with a loss in one pass over the log.

    An event counts once, however often a model reads it as an input.

    Args:
      events: The train part.
      grid_events: Events of a session that the padded grid holds.

    Returns:
      hiertcn: every event. torch: those among the first `grid_events` of their session. gru4rec:
      all but each session's first, which is only an input. recbole: all but each user's first; its
      augmentation makes a row of each, with the items before it as the input and it as the label.
    """
    lengths = events.session_lengths
    return {
        "hiertcn": len(events.item_id_n),
        "torch": int(np.minimum(lengths, grid_events).sum()),
        "gru4rec": int((lengths - 1).sum()),
        "recbole": int((events.user_lengths - 1).sum()),
    }
