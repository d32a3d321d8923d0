"""Makes batches on a padded grid of lanes x sessions x events, like the authors' release.

Each lane is a queue of sessions, user after user. A batch takes the next `sessions` of every queue,
and the first `events` of each session; the rest is cut off. Every session has its own slot, filled
up with padding. A slot is as long as a session may be (`hiertcn_grid`), or, `tight`, as the longest
session that any lane has in it in this batch (the released loader pads that way too).

A grid laid out row by row is a `Batch` with padding inside its rows. HierTCN computes the same on
it as on full rows, because nothing that passes from one session to the next depends on positions in
a row. Each batch of a tight grid has its own length, and each length is a compilation, so lengths
are rounded up to a multiple of `TIGHT_STEP`.

Reference: `Dataloader_hier_model_xing` in `data_loader.py` of JiaxuanYou/HierTCN.
"""

import itertools
from collections.abc import Iterator, Sequence

import grain
import numpy as np

from benchmarks.users import UserSource
from data_pipelines.histories.record import History
from data_pipelines.lanes.dealing import Shuffled
from data_pipelines.lanes.distinct_items import ItemRows, with_item_rows
from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID, Batch, BatchInfo, Bucket, LaneBatch

TIGHT_STEP = 8
"""Lengths of tight rows are multiples of this."""


class _Session:
    """A session in a queue: its first events, and its index in its user's history."""

    def __init__(self, history: History, number: int, start: int, length: int, most: int) -> None:
        kept = min(length, most)
        self.item_ids = history.item_ids[start : start + kept]
        self.user_position = start + np.arange(kept)
        self.starts_user = number == 0
        self.seconds = np.maximum(history.times[start : start + kept] - history.times[0], 0)
        gap = 0 if number == 0 else history.times[start] - history.times[start - 1]
        self.gap_hours = max(float(gap), 0.0) / 3600


def grid_batches(
    users: UserSource,
    lanes: int,
    sessions: int,
    events: int,
    *,
    seed: int,
    tight: bool = False,
) -> Iterator[LaneBatch]:
    """Endless batches; users come in the same order as from `train_loader`.

    Args:
      users: All of their sessions are trained on.
      lanes: Number of queues.
      sessions: Sessions that a batch takes from each.
      events: The first events of a session to keep.
      seed: Seed of the order of users.
      tight: Whether slots are padded only to their longest session.
    """
    queues = [_queue(users, lane, lanes, events, seed) for lane in range(lanes)]
    while True:
        rows = [list(itertools.islice(queue, sessions)) for queue in queues]
        longest = [max(len(row[slot].item_ids) for row in rows) for slot in range(sessions)]
        widths = longest if tight else [events] * sessions
        total = -(-sum(widths) // TIGHT_STEP) * TIGHT_STEP if tight else sum(widths)
        yield _batch(rows, np.asarray(widths), total)


def with_grid_rows(
    batches: Sequence[LaneBatch], items: ItemRows, lanes: int, seed: int
) -> list[LaneBatch]:
    """Converts batches to `rows` mode, with room for as many distinct items as they have events."""
    most = max(np.count_nonzero(batch.info.item_ids_bl) for batch in batches)
    room = Bucket(lanes, -(-int(most) // lanes), 1)
    dataset = grain.MapDataset.source(list(batches)).to_iter_dataset()
    return list(with_item_rows(dataset, items, room, range(lanes), seed))


def _queue(users: UserSource, lane: int, lanes: int, events: int, seed: int) -> Iterator[_Session]:
    deal = Shuffled(len(users), lanes, seed)
    for turn in itertools.count():
        history = users[int(deal.users(np.asarray([lane]), np.asarray([turn]))[0])]
        ends = np.cumsum(history.session_lengths)
        for number, (end, length) in enumerate(zip(ends, history.session_lengths, strict=True)):
            yield _Session(history, number, int(end - length), int(length), events)


def _batch(rows: list[list[_Session]], width_s: np.ndarray, total: int) -> LaneBatch:
    lanes, sessions = len(rows), len(width_s)
    first_s = np.cumsum(width_s) - width_s
    item_ids_bl = np.full((lanes, total), PADDING_ID, np.int32)
    position_bl, user_position_bl, seconds_bl, session_bl = np.zeros((4, lanes, total), np.int32)
    for lane, row in enumerate(rows):
        for slot, session in enumerate(row):
            slots = first_s[slot] + np.arange(len(session.item_ids))
            item_ids_bl[lane, slots] = session.item_ids
            position_bl[lane, slots] = np.arange(len(slots))
            user_position_bl[lane, slots] = session.user_position
            seconds_bl[lane, slots] = session.seconds
            session_bl[lane, slots] = slot
    weight_bl = (item_ids_bl >= FIRST_ITEM_ID).astype(np.float32)
    batch = Batch(
        item_ids_bl=item_ids_bl,
        position_bl=position_bl,
        user_position_bl=user_position_bl,
        seconds_bl=seconds_bl,
        session_bl=session_bl,
        starts_session_bs=np.ones((lanes, sessions), bool),
        starts_user_bs=np.asarray([[session.starts_user for session in row] for row in rows]),
        gap_hours_bs=np.asarray([[s.gap_hours for s in row] for row in rows], np.float32),
        loss_weight_bl=weight_bl,
        scored_bl=np.zeros(weight_bl.shape, bool),
    )
    nowhere = np.full((lanes, sessions), -1)
    is_event_bl = item_ids_bl != PADDING_ID
    no_bl = np.zeros_like(is_event_bl)
    info = BatchInfo(nowhere, nowhere, np.zeros_like(item_ids_bl), item_ids_bl, is_event_bl, no_bl)
    return LaneBatch(batch, info)
