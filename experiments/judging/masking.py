"""Items that a user saw before an event, which `--mask_seen` leaves out of the ranking."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.judging.collector import ScoredEvents
from experiments.runs.data import Data
from hiertcn_jax.batch import PADDING_ID


def seen_items(data: Data, events: ScoredEvents, mask_seen: str) -> np.ndarray | None:
    """Items that each event's user saw before it, int32 [n, k], filled up with PADDING_ID.

    Args:
      data: The histories.
      events: The events.
      mask_seen: `none` (then the result is None), `session` or `user`.
    """
    if mask_seen == "none":
        return None
    histories = dict(_histories(data, np.unique(events.user_n)))
    seen = []
    for user, position, end in zip(
        events.user_n, events.position_n, events.user_position_n, strict=True
    ):
        start = end - position if mask_seen == "session" else 0
        seen.append(np.unique(histories[user].item_ids[start:end]))
    # Powers of two give few widths, and so few compilations.
    width = 1 << (max((len(items) for items in seen), default=1) - 1).bit_length()
    seen_nk = np.full((len(seen), max(width, 1)), PADDING_ID, np.int32)
    for row, items in zip(seen_nk, seen, strict=True):
        row[: len(items)] = items
    return seen_nk


def _histories(data: Data, users: np.ndarray) -> Iterator[tuple[int, Any]]:
    return zip(users.tolist(), data.histories.__getitems__(users.tolist()), strict=True)
