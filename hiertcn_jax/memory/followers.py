"""What users pick soon after an item: its neighbours, counted with decay, at any time.

When a user picks an item x at distance r <= `distance` after an item a, in the same session or
sessions later, x counts 1 / r as a follower of a, and a counts 1 / (2 r) as one of x. With the
half-lives h_z

    n_z(a -> i, t) = sum over such pairs before t of weight * 2^(-(t - t_pair) / h_z)

Each item keeps its `followers` strongest neighbours. A record holds what is known of one item at
one time. A new record is written once an eighth of an item's changes are new, or 64 of them: so
young items have a record after every change, and old ones have few.
"""

from typing import NamedTuple

import numba
import numpy as np

from hiertcn_jax.item_ids import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.memory.config import FOLLOWER_HALF_LIVES, SIZES, MemorySizes
from hiertcn_jax.memory.event_log import LOG_2, LogArrays

HALF_LIVES_Z = np.asarray(FOLLOWER_HALF_LIVES)
_JUDGED_BY = 1
"""The half-life that decides which neighbour is the weakest."""
_CHANGED, _CHANGES = 8, 64
"""A record is written when one in this many of an item's changes is new, or this many are."""
BACKWARD = 0.5
"""Weight of the pair in the direction against time."""

njit = numba.njit(cache=True, nogil=True)


class FollowerArrays(NamedTuple):
    """Records of followers; r records, v items, j neighbours, z half-lives.

    Attributes:
      used: int64 [1]. Number of records written.
      owner_r: int32. Item of each record; 0 while a record is still open.
      time_r: int64. Time of its last change.
      before_r: int32. The previous record of the same item, -1 at the first.
      item_rj: int32. Neighbours, 0 for none.
      count_rjz: float32. n_z at `time_r`.
      total_rz: float32. The same summed over all neighbours, including dropped ones.
      newest_v: int32. Newest record of each item, -1 for none.
      open_v: int32. The open record of each item, -1 for none.
      changes_v: int32. Number of changes of each item.
      unwritten_v: int32. How many of them came after its newest record.
    """

    used: np.ndarray
    owner_r: np.ndarray
    time_r: np.ndarray
    before_r: np.ndarray
    item_rj: np.ndarray
    count_rjz: np.ndarray
    total_rz: np.ndarray
    newest_v: np.ndarray
    open_v: np.ndarray
    changes_v: np.ndarray
    unwritten_v: np.ndarray


def empty_followers(rows: int, records: int, sizes: MemorySizes = SIZES) -> FollowerArrays:
    """No records, with room for some.

    Args:
      rows: `v`, rows of the item table.
      records: Number of records to make room for.
      sizes: Uses `followers`.
    """
    halves, kept = len(HALF_LIVES_Z), sizes.followers
    return FollowerArrays(
        used=np.zeros(1, np.int64),
        owner_r=np.zeros(records, np.int32),
        time_r=np.zeros(records, np.int64),
        before_r=np.full(records, -1, np.int32),
        item_rj=np.zeros((records, kept), np.int32),
        count_rjz=np.zeros((records, kept, halves), np.float32),
        total_rz=np.zeros((records, halves), np.float32),
        newest_v=np.full(rows, -1, np.int32),
        open_v=np.full(rows, -1, np.int32),
        changes_v=np.zeros(rows, np.int32),
        unwritten_v=np.zeros(rows, np.int32),
    )


@njit
def _slot_of(neighbour: int, record: int, found: FollowerArrays) -> int:
    """The slot for a neighbour in a record: its own, else a free one, else the weakest's."""
    weakest, least = 0, np.inf
    for j in range(found.item_rj.shape[1]):
        item = found.item_rj[record, j]
        if item == neighbour:
            return j
        if item == 0:
            least, weakest = -1.0, j
            break
        if found.count_rjz[record, j, _JUDGED_BY] < least:
            least, weakest = found.count_rjz[record, j, _JUDGED_BY], j
    found.item_rj[record, weakest] = neighbour
    for z in range(found.count_rjz.shape[2]):
        found.count_rjz[record, weakest, z] = 0
    return weakest


@njit
def _age(record: int, time: int, found: FollowerArrays) -> None:
    """Decays a record to a later time."""
    seconds = float(time - found.time_r[record])
    found.time_r[record] = time
    if seconds <= 0:
        return
    for z in range(found.count_rjz.shape[2]):
        factor = np.exp(-LOG_2 * seconds / HALF_LIVES_Z[z])
        found.total_rz[record, z] *= factor
        for j in range(found.item_rj.shape[1]):
            found.count_rjz[record, j, z] *= factor


@njit
def _write(item: int, found: FollowerArrays) -> None:
    """Copies an item's open record to a new one."""
    record, opened = found.used[0], found.open_v[item]
    found.used[0] += 1
    found.owner_r[record] = item
    found.time_r[record] = found.time_r[opened]
    found.before_r[record] = found.newest_v[item]
    found.item_rj[record] = found.item_rj[opened]
    found.count_rjz[record] = found.count_rjz[opened]
    found.total_rz[record] = found.total_rz[opened]
    found.newest_v[item] = record
    found.unwritten_v[item] = 0


@njit
def _change(item: int, neighbour: int, weight: float, time: int, found: FollowerArrays) -> None:
    """Counts a neighbour of an item."""
    opened = found.open_v[item]
    if opened < 0:
        opened = found.used[0]
        found.used[0] += 1
        found.open_v[item] = opened
        found.time_r[opened] = time
    _age(opened, time, found)
    slot = _slot_of(neighbour, opened, found)
    for z in range(found.count_rjz.shape[2]):
        found.count_rjz[opened, slot, z] += weight
        found.total_rz[opened, z] += weight
    found.changes_v[item] += 1
    found.unwritten_v[item] += 1
    if found.unwritten_v[item] >= min(found.changes_v[item] // _CHANGED, _CHANGES):
        _write(item, found)


def records_of_an_event(distance: int) -> int:
    """The most records that one event can begin: two items for a pair at each distance."""
    return 2 * (1 + distance) + 2 * distance


@njit
def append_pairs(
    log: LogArrays, start: int, end: int, before_nr: np.ndarray, found: FollowerArrays
) -> int:
    """Counts the pairs that the events start..end-1 of a log complete.

    Args:
      log: The counted events.
      start: The first event.
      end: One after the last.
      before_nr: int32. For the last n events up to `end`, the items that their users picked before,
        newest first; PADDING_ID for none.
      found: The records to write to.

    Returns:
      The first event that was not counted because there was no room; `end` if all were.
    """
    distance = before_nr.shape[1]
    offset = len(before_nr) - end
    room = len(found.owner_r) - (2 * (1 + distance) + 2 * distance)
    for event in range(start, end):
        if found.used[0] > room:
            return event
        item, time = log.item_n[event], log.time_n[event]
        if item < FIRST_ITEM_ID:
            continue
        for r in range(1, distance + 1):
            other = before_nr[offset + event, r - 1]
            if other == PADDING_ID:
                break
            if other >= FIRST_ITEM_ID and other != item:
                _change(other, item, 1.0 / r, time, found)
                _change(item, other, BACKWARD / r, time, found)
    return end
