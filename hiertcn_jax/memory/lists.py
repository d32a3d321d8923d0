"""Memory's short list of items for an event, with features of each.

The list holds the user's own last items, the items that followed the last ones, the items that
anybody picked last, and those picked most for any half-life. An item that is not on it has 0 in
every feature, like an item that nobody ever picked. Features are counts >= 0; `terms` takes their
logarithm.
"""

from typing import NamedTuple

import numba
import numpy as np

from hiertcn_jax.item_ids import FIRST_ITEM_ID
from hiertcn_jax.memory.config import FOLLOWER_HALF_LIVES, STARTING, WORLD_HALF_LIVES
from hiertcn_jax.memory.event_log import COUNTERS, HALVES, LOG_2, LogArrays, decays
from hiertcn_jax.memory.followers import HALF_LIVES_Z, FollowerArrays

njit = numba.njit(cache=True, nogil=True)

_FOLLOWER_HALVES = len(FOLLOWER_HALF_LIVES)
FEATURES = (
    *(f"world_{k}" for k in range(len(WORLD_HALF_LIVES))),
    *(f"world_starting_{k}" for k in STARTING),
    "age_hours",
    *(f"follows_last_{z}" for z in range(_FOLLOWER_HALVES)),
    "follows_last_count",
    *(f"follows_session_{z}" for z in range(_FOLLOWER_HALVES)),
    "follows_session_count",
    "own_count",
    "own_recency",
    "own_seen",
    "own_in_session",
)
"""Names of the f features, in order.

`world_k`: c_k, picks. `world_starting_k`: those that start a session. `age_hours`: hours since the
item's first pick; 0 if it has none.
`follows_last_z`: percent of what follows the user's last item, for each half-life; `_count`: how
often it did, for the longest. `follows_session_*`: the same summed over the last items, each with
0.7 of the weight of the one after it. `own_count`: the user's own picks, each worth 0.97 of the one
after it. `own_recency`: 1 / (1 + 0.2 n) for a last pick with n events after it. `own_seen`: 1 if it
is among the user's last picks. `own_in_session`: 1 if it is in the current session.
"""
AGE = COUNTERS
LAST = AGE + 1
SESSION = LAST + _FOLLOWER_HALVES + 1
OWN = SESSION + _FOLLOWER_HALVES + 1

_SESSION_FADE, _OWN_FADE, _RECENCY = 0.7, 0.97, 0.2


class ByItem(NamedTuple):
    """The events (or records) of each item, in order of time. Empty: follow the chains instead.

    Attributes:
      start_v: int64 [v+1]. Index of the first of each item.
      index_n: int32. Which event (or record) it is.
      time_n: int64. Its time.
    """

    start_v: np.ndarray
    index_n: np.ndarray
    time_n: np.ndarray


NO_INDEX = ByItem(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64))
"""For a log that still grows: search from the newest."""


def index_by_item(item_n: np.ndarray, time_n: np.ndarray, rows: int) -> ByItem:
    """Sorts events (or records) by item; those of one item stay in order."""
    order_n = np.argsort(item_n, kind="stable").astype(np.int32)
    start_v = np.searchsorted(item_n[order_n], np.arange(rows + 1)).astype(np.int64)
    return ByItem(start_v, order_n, np.ascontiguousarray(time_n[order_n]))


@njit
def count_before(time_n: np.ndarray, low: int, high: int, time: int) -> int:
    """The first index in low..high whose time is not before `time`."""
    while low < high:
        middle = (low + high) // 2
        if time_n[middle] < time:
            low = middle + 1
        else:
            high = middle
    return low


@njit
def _newest(
    item: int,
    time: int,
    index: ByItem,
    last_v: np.ndarray,
    before_n: np.ndarray,
    time_n: np.ndarray,
) -> int:
    """The newest event (or record) of an item before a time; -1 if there is none."""
    if len(index.start_v):
        first, end = index.start_v[item], index.start_v[item + 1]
        after = count_before(index.time_n, first, end, time)
        return index.index_n[after - 1] if after > first else -1
    newest = last_v[item]
    while newest >= 0 and time_n[newest] >= time:
        newest = before_n[newest]
    return newest


@njit
def _add_own(
    own_m: np.ndarray,
    position: int,
    most: int,
    slot_v: np.ndarray,
    ids_k: np.ndarray,
    features_kf: np.ndarray,
) -> int:
    """Lists the user's own last items; returns how many."""
    taken, worth = 0, 1.0
    for m in range(len(own_m)):
        item = own_m[m]
        if item == 0:
            break
        if item >= FIRST_ITEM_ID:
            slot = slot_v[item]
            if slot < 0 and taken < most:
                slot = taken
                slot_v[item] = slot
                ids_k[slot] = item
                taken += 1
                features_kf[slot, OWN + 1] = 1 / (1 + _RECENCY * m)
                features_kf[slot, OWN + 2] = 1
            if slot >= 0:
                features_kf[slot, OWN] += worth
                if m < position:
                    features_kf[slot, OWN + 3] = 1
        worth *= _OWN_FADE
    return taken


@njit
def _add_record(
    taken: int,
    record: int,
    is_last: bool,
    weight: float,
    time: int,
    most: int,
    found: FollowerArrays,
    slot_v: np.ndarray,
    ids_k: np.ndarray,
    features_kf: np.ndarray,
) -> int:
    """Lists what follows one item."""
    halves = len(HALF_LIVES_Z)
    seconds = float(time - found.time_r[record])
    longest = np.exp(-LOG_2 * seconds / HALF_LIVES_Z[halves - 1])
    for j in range(found.item_rj.shape[1]):
        other = found.item_rj[record, j]
        if other == 0:
            break
        slot = slot_v[other]
        if slot < 0:
            if taken == most:
                continue
            slot = taken
            slot_v[other] = slot
            ids_k[slot] = other
            taken += 1
        for z in range(halves):
            total = found.total_rz[record, z]
            share = 100 * found.count_rjz[record, j, z] / total if total > 0 else 0.0
            features_kf[slot, SESSION + z] += weight * share
            if is_last:
                features_kf[slot, LAST + z] = share
        count = found.count_rjz[record, j, halves - 1] * longest
        features_kf[slot, SESSION + halves] += weight * count
        if is_last:
            features_kf[slot, LAST + halves] = count
    return taken


@njit
def _add_followers(
    taken: int,
    own_m: np.ndarray,
    time: int,
    most: int,
    sources: int,
    found: FollowerArrays,
    index: ByItem,
    slot_v: np.ndarray,
    ids_k: np.ndarray,
    features_kf: np.ndarray,
) -> int:
    """Lists what follows the user's last items, of this session and of earlier ones."""
    weight = 1.0
    for m in range(min(sources, len(own_m))):
        item = own_m[m]
        if item == 0:
            break
        if item >= FIRST_ITEM_ID:
            record = _newest(item, time, index, found.newest_v, found.before_r, found.time_r)
            if record >= 0:
                taken = _add_record(
                    taken, record, m == 0, weight, time, most, found, slot_v, ids_k, features_kf
                )
        weight *= _SESSION_FADE
    return taken


@njit
def _add_item(taken: int, item: int, slot_v: np.ndarray, ids_k: np.ndarray) -> int:
    """Lists an item if it is not listed yet and there is room."""
    if item >= FIRST_ITEM_ID and slot_v[item] < 0 and taken < len(ids_k):
        slot_v[item] = taken
        ids_k[taken] = item
        return taken + 1
    return taken


@njit
def _count_top(
    snapshot: int,
    fresh: int,
    before: int,
    time: int,
    log: LogArrays,
    slot_v: np.ndarray,
    top_v: np.ndarray,
    features_kf: np.ndarray,
    decay_c: np.ndarray,
) -> None:
    """Counts the listed items that a snapshot contains: its counts, plus the events after it."""
    counts = len(decay_c)
    decays(float(time - log.time_n[fresh - 1]), decay_c)
    for m in range(log.top_qm.shape[1]):
        item = log.top_qm[snapshot, m]
        slot = slot_v[item] if item > 0 else -1
        if slot >= 0:
            for c in range(counts):
                features_kf[slot, c] = log.top_counts_qmc[snapshot, m, c] * decay_c[c]
    for event in range(fresh, before):
        item = log.item_n[event]
        if item >= FIRST_ITEM_ID and top_v[item] >= 0 and slot_v[item] >= 0:
            decays(float(time - log.time_n[event]), decay_c)
            for c in range(counts if log.starts_n[event] else HALVES):
                features_kf[slot_v[item], c] += decay_c[c]


@njit
def _count_others(
    taken: int,
    time: int,
    log: LogArrays,
    index: ByItem,
    top_v: np.ndarray,
    ids_k: np.ndarray,
    features_kf: np.ndarray,
    decay_c: np.ndarray,
) -> None:
    """Counts the listed items that are in no snapshot, each by a search; and the age of all."""
    for slot in range(taken):
        item = ids_k[slot]
        if top_v[item] < 0:
            event = _newest(item, time, index, log.last_v, log.item_before_n, log.time_n)
            if event >= 0:
                decays(float(time - log.time_n[event]), decay_c)
                for c in range(len(decay_c)):
                    features_kf[slot, c] = log.sums_nc[event, c] * decay_c[c]
        if log.last_v[item] >= 0 and log.first_time_v[item] < time:
            features_kf[slot, AGE] = (time - log.first_time_v[item]) / 3600


@njit
def _add_world(
    taken: int,
    time: int,
    events: int,
    snapshot_events: int,
    log: LogArrays,
    index: ByItem,
    slot_v: np.ndarray,
    top_v: np.ndarray,
    ids_k: np.ndarray,
    features_kf: np.ndarray,
    decay_c: np.ndarray,
) -> int:
    """Lists the items picked last and picked most, and counts all listed items."""
    before = count_before(log.time_n, 0, events, time)
    snapshot = before // snapshot_events - 1
    fresh = (snapshot + 1) * snapshot_events
    for event in range(before - 1, fresh - 1, -1):
        taken = _add_item(taken, log.item_n[event], slot_v, ids_k)
    if snapshot < 0:
        _count_others(taken, time, log, index, top_v, ids_k, features_kf, decay_c)
        return taken
    for m in range(log.top_qm.shape[1]):
        top_v[log.top_qm[snapshot, m]] = m
        taken = _add_item(taken, log.top_qm[snapshot, m], slot_v, ids_k)
    top_v[0] = -1
    _count_top(snapshot, fresh, before, time, log, slot_v, top_v, features_kf, decay_c)
    _count_others(taken, time, log, index, top_v, ids_k, features_kf, decay_c)
    for m in range(log.top_qm.shape[1]):
        top_v[log.top_qm[snapshot, m]] = -1
    return taken


@njit
def fill_lists(
    log: LogArrays,
    events: int,
    event_index: ByItem,
    found: FollowerArrays,
    record_index: ByItem,
    snapshot_events: int,
    sources: int,
    own_most: int,
    follower_most: int,
    time_n: np.ndarray,
    own_nm: np.ndarray,
    position_n: np.ndarray,
    slot_n: np.ndarray,
    ids_pk: np.ndarray,
    features_pkf: np.ndarray,
    slot_v: np.ndarray,
    top_v: np.ndarray,
) -> None:
    """Writes the lists of n events, to n of p slots.

    Args:
      log: The counted events, of which the first `events` count.
      events: See `log`.
      event_index: Index of the log's events.
      found: Followers.
      record_index: Index of their records.
      snapshot_events: See `MemorySizes`.
      sources: See `MemorySizes`.
      own_most: `own_items` of `MemorySizes`.
      follower_most: `follower_items` of `MemorySizes`.
      time_n: int64. Time of each event; only earlier events are known.
      own_nm: int32. The user's own items before it, newest first; 0 for none.
      position_n: int32. How many of them are in the current session.
      slot_n: int64. Where to write each.
      ids_pk: int32, zeros: receives the lists.
      features_pkf: float32, zeros: receives the features.
      slot_v: int32, -1: scratch space, an item's index on the current list. Restored at the end.
      top_v: int32, -1: scratch space, an item's index in the snapshot.
    """
    decay_c = np.empty(COUNTERS)
    for n in range(len(time_n)):
        ids_k, features_kf = ids_pk[slot_n[n]], features_pkf[slot_n[n]]
        time, position = time_n[n], position_n[n]
        taken = _add_own(own_nm[n], position, own_most, slot_v, ids_k, features_kf)
        taken = _add_followers(
            taken,
            own_nm[n],
            time,
            taken + follower_most,
            sources,
            found,
            record_index,
            slot_v,
            ids_k,
            features_kf,
        )
        taken = _add_world(
            taken,
            time,
            events,
            snapshot_events,
            log,
            event_index,
            slot_v,
            top_v,
            ids_k,
            features_kf,
            decay_c,
        )
        for slot in range(taken):
            slot_v[ids_k[slot]] = -1
