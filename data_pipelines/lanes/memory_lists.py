"""Adds memory's lists to the events of a batch.

Only targets get lists, because no other event is scored.
"""

from typing import NamedTuple

import grain
import numpy as np

from data_pipelines.histories.events import HistorySource, blocks_of
from data_pipelines.histories.record import Split
from hiertcn_jax.batch import PADDING_ID, Batch, LaneBatch
from hiertcn_jax.memory.clock import clock
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.memory.levels import Level, end_of
from hiertcn_jax.memory.memory import Lists, Memory

_OBSERVED_AT_ONCE = 1 << 20
_LEAST_ROOM = 8
"""`Recall.few`: one in this many events has room for its counts, or more."""


class Recall(NamedTuple):
    """A log's memory, and what is needed to look up a user's own events.

    Attributes:
      memory: The counted events.
      items_n: int32. Items of all events, user by user.
      start_u: int64. The index of each user's first event in `items_n`.
      delay: Seconds until an event is known to others.
      frozen_at: Time at which counting ends for good; None: it never ends.
      few: Whether few events of a batch have a list, so that only they bring counts
        (`Batch.memory_counts_nkf`). Batches then have one of a few shapes, and stay on one device.
    """

    memory: Memory
    items_n: np.ndarray
    start_u: np.ndarray
    delay: int = 0
    frozen_at: int | None = None
    few: bool = False

    @property
    def listed(self) -> int:
        """Items on an event's list."""
        return SIZES.candidates

    def onto(self, loader: grain.IterDataset[LaneBatch]) -> grain.IterDataset[LaneBatch]:
        """Adds the lists to a loader's batches, whose ids must still be rows of the table."""
        return loader.map(lambda element: _add_lists(element, self))

    def known_at(self, time_n: np.ndarray) -> np.ndarray:
        """int64 [n]. At these times, others' events are known that happened before the result."""
        known_n = time_n - self.delay
        return known_n if self.frozen_at is None else np.minimum(known_n, self.frozen_at)

    def at_level(self, level: Level) -> "Recall":
        """The same counts, as late as a level says (`remember` decides which parts count)."""
        end = end_of(self.memory.last_time) if level.name == "static" else None
        return self._replace(delay=level.delay, frozen_at=end)

    def with_users(self, source: HistorySource) -> "Recall":
        """The same counts beside other users' own events."""
        items = [h.item_ids for _, histories in blocks_of(source) for h in histories]
        lengths = [len(one) for one in items]
        start_u = np.cumsum(lengths) - lengths
        return self._replace(items_n=np.concatenate(items).astype(np.int32), start_u=start_u)


def remember(source: HistorySource, rows: int, last: Split, cut: int | None = None) -> Recall:
    """Counts the events of a prepared log.

    Args:
      source: All histories.
      rows: `v`, rows of the item table.
      last: Counts sessions of this part and of those before it.
      cut: Seconds. Events from then on do not count; None: all do.
    """
    items, times, positions, counts, lengths = [], [], [], [], []
    for _, histories in blocks_of(source):
        for history in histories:
            starts = np.cumsum(history.session_lengths) - history.session_lengths
            positions.append(
                np.arange(len(history.times)) - np.repeat(starts, history.session_lengths)
            )
            items.append(history.item_ids)
            times.append(history.times)
            counts.append(np.repeat(history.session_splits <= last, history.session_lengths))
            lengths.append(len(history.times))
    start_u = np.cumsum(lengths) - lengths
    item_n, time_n, counted_n = map(np.concatenate, (items, times, counts))
    if cut is not None:
        counted_n &= time_n < cut
    order_n = np.flatnonzero(counted_n)
    order_n = order_n[np.argsort(time_n[order_n], kind="stable")]
    item_n, position_n = item_n.astype(np.int32), np.concatenate(positions).astype(np.int32)
    user_n = np.repeat(np.arange(len(lengths)), lengths)
    memory = Memory(rows, len(order_n))
    for start in range(0, len(order_n), _OBSERVED_AT_ONCE):
        part_n = order_n[start : start + _OBSERVED_AT_ONCE]
        before_nm = items_before(item_n, start_u[user_n[part_n]], part_n, SIZES.distance)
        memory.observe(item_n[part_n], time_n[part_n], before_nm, position_n[part_n])
    memory.seal()
    return Recall(memory, item_n, start_u)


def _add_lists(element: LaneBatch, recall: Recall) -> LaneBatch:
    batch, info = element
    asked_bl = (batch.loss_weight_bl > 0) | batch.scored_bl
    user_n = np.take_along_axis(info.user_bs, batch.session_bl, axis=1)[asked_bl]
    time_n = info.time_bl[asked_bl]
    position_n = np.minimum(batch.position_bl[asked_bl], SIZES.own_events).astype(np.int32)
    own_nm = own_items(recall, user_n, batch.user_position_bl[asked_bl])
    slots = asked_bl
    if recall.few:
        slots = np.arange(_room(len(time_n), asked_bl.size)) < len(time_n)
    # Written to their slots at once: an event's features are 21 kB, too much to copy again.
    lists = recall.memory.lists(recall.known_at(time_n), own_nm, position_n, slots)
    clock_ng = clock(time_n)
    clock_blg = np.zeros((*asked_bl.shape, *clock_ng.shape[1:]), clock_ng.dtype)
    clock_blg[asked_bl] = clock_ng
    batch = batch.replace(clock_blg=clock_blg)
    if recall.few:
        return LaneBatch(_with_few(batch, asked_bl, lists), info)
    changes = {"memory_ids_blk": lists.item_ids_nk, "memory_counts_blkf": lists.features_nkf}
    return LaneBatch(batch.replace(**changes), info)


def _with_few(batch: Batch, asked_bl: np.ndarray, lists: Lists) -> Batch:
    """The batch with lists of its asked events, which come first in `lists`."""
    events, room = np.count_nonzero(asked_bl), len(lists.item_ids_nk)
    ids_blk = np.zeros((*asked_bl.shape, lists.item_ids_nk.shape[-1]), np.int32)
    ids_blk[asked_bl] = lists.item_ids_nk[:events]
    event_n = np.full(room, asked_bl.size, np.int32)
    event_n[:events] = np.flatnonzero(asked_bl)
    return batch.replace(
        memory_ids_blk=ids_blk, memory_counts_nkf=lists.features_nkf, memory_events_n=event_n
    )


def _room(events: int, slots: int) -> int:
    """The smallest sufficient of a few rooms, each twice the one before it."""
    room = -(-slots // _LEAST_ROOM)
    while room < events:
        room = min(2 * room, slots)
    return room


def own_items(recall: Recall, user_n: np.ndarray, user_position_n: np.ndarray) -> np.ndarray:
    """int32 [n, m]. The items before each event in its user's history, newest first."""
    start_n = recall.start_u[user_n]
    return items_before(recall.items_n, start_n, start_n + user_position_n, SIZES.own_events)


def items_before(
    items_n: np.ndarray, start_n: np.ndarray, event_n: np.ndarray, most: int
) -> np.ndarray:
    """int32 [n, m]. The items before some events of their users, the newest first.

    Args:
      items_n: int32. Items of all events, user by user.
      start_n: int64. Where the user of each event starts there.
      event_n: int64. Where each event is.
      most: `m`, items to look back.
    """
    before_nm = event_n[:, None] - 1 - np.arange(most)
    present_nm = before_nm >= start_n[:, None]
    return np.where(present_nm, items_n[np.maximum(before_nm, 0)], PADDING_ID).astype(np.int32)
