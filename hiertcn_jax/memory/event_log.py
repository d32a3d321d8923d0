"""The log of counted events: how often any item was picked before any time.

With half-lives h_k, in seconds, and the events e of item i,

    c_k(i, t) = sum over t_e < t of 2^(-(t - t_e) / h_k)

For some of the half-lives, picks that start a session are also counted separately: users return for
other items than those with which they continue.

Events of time t itself are not known at t. Events come in order of time: many at once from a
prepared log, one by one in a service. The same function adds them, so the counts are equal bit for
bit.

Each event stores the sums of its item up to it, and the index of the item's previous event. So a
count at any time takes one search and one decay. After every `snapshot_events` events the log
stores which items are picked most, for each half-life, with their counts.
"""

from typing import NamedTuple

import numba
import numpy as np

from hiertcn_jax.item_ids import FIRST_ITEM_ID
from hiertcn_jax.memory.config import SIZES, STARTING, WORLD_HALF_LIVES, MemorySizes

HALF_LIVES_K = np.asarray(WORLD_HALF_LIVES)
HALVES = len(HALF_LIVES_K)
STARTING_F = np.asarray(STARTING)
COUNTERS = HALVES + len(STARTING)
"""Counters of an item: all its picks for each half-life, then those that start a session."""
HALF_LIVES_C = np.concatenate([HALF_LIVES_K, HALF_LIVES_K[STARTING_F]])
LOG_2 = float(np.log(2.0))
_RATIO = 4.0
"""Ratio of successive half-lives; `decays` relies on it."""
LISTED = 32
"""Number of most picked items kept for each half-life."""

njit = numba.njit(cache=True, nogil=True)


class LogArrays(NamedTuple):
    """The arrays of an `EventLog`; n counted events, v items, c counters, q snapshots.

    Attributes:
      item_n: int32. Item of each event.
      time_n: int64. Seconds; never decreases.
      starts_n: bool. Whether it starts a session.
      item_before_n: int32. The previous event of the same item, -1 at the first.
      sums_nc: float32. The counts of its item just after it.
      last_v: int32. Newest event of each item, -1 for none.
      first_time_v: int64. Time of each item's first event.
      top_qm: int32. Items of each snapshot, 0 for none.
      top_counts_qmc: float32. Their counts at the time of the snapshot's last event.
      listed_cj: int32. The items now picked most, for each counter.
      listed_score_cj: float64. log2 of their counts, plus t / h, which does not change with time.
      rank_cv: int16. Index of an item in `listed_cj`, -1 if it is not listed.
    """

    item_n: np.ndarray
    time_n: np.ndarray
    starts_n: np.ndarray
    item_before_n: np.ndarray
    sums_nc: np.ndarray
    last_v: np.ndarray
    first_time_v: np.ndarray
    top_qm: np.ndarray
    top_counts_qmc: np.ndarray
    listed_cj: np.ndarray
    listed_score_cj: np.ndarray
    rank_cv: np.ndarray


@njit
def decays(seconds: float, decay_c: np.ndarray) -> None:
    """Writes 2^(-seconds / h) for all counters: one exponential, then powers of 4."""
    x = np.exp(-LOG_2 * seconds / HALF_LIVES_K[HALVES - 1])
    for k in range(HALVES - 1, -1, -1):
        decay_c[k] = x
        x = x * x
        x = x * x
    for f in range(len(STARTING_F)):
        decay_c[HALVES + f] = decay_c[STARTING_F[f]]


@njit
def _enter(item: int, time: int, counted: int, sums_c: np.ndarray, log: LogArrays) -> None:
    """Updates the lists of the most picked items after a pick."""
    listed = log.listed_cj.shape[1]
    for c in range(counted):
        score = np.log2(np.float64(sums_c[c])) + time / HALF_LIVES_C[c]
        rank = log.rank_cv[c, item]
        if rank < 0:
            if score <= log.listed_score_cj[c, listed - 1]:
                continue
            rank = listed - 1
            left = log.listed_cj[c, rank]
            if left > 0:
                log.rank_cv[c, left] = -1
        while rank > 0 and log.listed_score_cj[c, rank - 1] < score:
            moved = log.listed_cj[c, rank - 1]
            log.listed_cj[c, rank] = moved
            log.listed_score_cj[c, rank] = log.listed_score_cj[c, rank - 1]
            log.rank_cv[c, moved] = rank
            rank -= 1
        log.listed_cj[c, rank] = item
        log.listed_score_cj[c, rank] = score
        log.rank_cv[c, item] = rank


@njit
def _take_snapshot(number: int, time: int, log: LogArrays, decay_c: np.ndarray) -> None:
    """Stores the most picked items, those that lead for any counter first."""
    counts, listed = log.listed_cj.shape
    room = log.top_qm.shape[1]
    taken = 0
    for rank in range(listed):
        for c in range(counts):
            item = log.listed_cj[c, rank]
            if item == 0 or taken == room:
                continue
            known = False
            for m in range(taken):
                if log.top_qm[number, m] == item:
                    known = True
                    break
            if known:
                continue
            event = log.last_v[item]
            decays(float(time - log.time_n[event]), decay_c)
            log.top_qm[number, taken] = item
            for j in range(counts):
                log.top_counts_qmc[number, taken, j] = log.sums_nc[event, j] * decay_c[j]
            taken += 1
    for m in range(taken, room):
        log.top_qm[number, m] = 0


@njit
def _count(event: int, item: int, time: int, log: LogArrays, decay_c: np.ndarray) -> None:
    """Adds an event to the sums of its item."""
    counts = len(decay_c)
    counted = counts if log.starts_n[event] else HALVES
    before = log.last_v[item]
    log.item_before_n[event] = before
    if before < 0:
        log.first_time_v[item] = time
        for c in range(counted):
            log.sums_nc[event, c] = 1
    else:
        decays(float(time - log.time_n[before]), decay_c)
        for c in range(counts):
            log.sums_nc[event, c] = log.sums_nc[before, c] * decay_c[c]
        for c in range(counted):
            log.sums_nc[event, c] += 1
    log.last_v[item] = event
    _enter(item, time, counted, log.sums_nc[event], log)


@njit
def append_events(
    log: LogArrays,
    start: int,
    items: np.ndarray,
    times: np.ndarray,
    starts: np.ndarray,
    snapshot_events: int,
) -> None:
    """Adds the events after the first `start`. The arrays must have room for them."""
    decay_c = np.empty(COUNTERS)
    for offset in range(len(items)):
        event, item, time = start + offset, items[offset], times[offset]
        log.item_n[event] = item
        log.time_n[event] = time
        log.starts_n[event] = starts[offset]
        log.item_before_n[event] = -1
        if item >= FIRST_ITEM_ID:
            _count(event, item, time, log, decay_c)
        if (event + 1) % snapshot_events == 0:
            _take_snapshot(event // snapshot_events, time, log, decay_c)


def empty_log(rows: int, events: int, sizes: MemorySizes = SIZES) -> LogArrays:
    """A log without events, with room for some.

    Args:
      rows: `v`, rows of the item table.
      events: Number of events to make room for.
      sizes: Uses `top_items` and `snapshot_events`.
    """
    snapshots = events // sizes.snapshot_events
    return LogArrays(
        item_n=np.zeros(events, np.int32),
        time_n=np.zeros(events, np.int64),
        starts_n=np.zeros(events, np.bool_),
        item_before_n=np.full(events, -1, np.int32),
        sums_nc=np.zeros((events, COUNTERS), np.float32),
        last_v=np.full(rows, -1, np.int32),
        first_time_v=np.zeros(rows, np.int64),
        top_qm=np.zeros((snapshots, sizes.top_items), np.int32),
        top_counts_qmc=np.zeros((snapshots, sizes.top_items, COUNTERS), np.float32),
        listed_cj=np.zeros((COUNTERS, LISTED), np.int32),
        listed_score_cj=np.full((COUNTERS, LISTED), -np.inf),
        rank_cv=np.full((COUNTERS, rows), -1, np.int16),
    )
