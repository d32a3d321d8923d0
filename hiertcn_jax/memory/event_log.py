"""The log of counted events: for any item and any time, how often it was picked before.

With half-lives h_k, in seconds, and the events e of item i,

    c_k(i, t) = sum over t_e < t of 2^(-(t - t_e) / h_k)

Events of time t itself are not known at t. Events come in order of time, many at once when a
prepared log is read, one by one when a service runs: the same function takes them in, so the counts
are equal bit for bit.

Each event keeps the sums of its item up to it, and where the event of the same item before it
stands. Then a count at any time takes one search and one decay. After every `snapshot_events`
events the log notes which items are picked most, by each half-life, with their counts.
"""

from typing import NamedTuple

import numba
import numpy as np

from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.memory.config import SIZES, WORLD_HALF_LIVES, MemorySizes

HALF_LIVES_K = np.asarray(WORLD_HALF_LIVES)
LOG_2 = float(np.log(2.0))
_RATIO = 4.0
"""Of a half-life to the one before it; `decays` relies on it."""
_LISTED = 32
"""Items that are kept of each half-life's most picked ones."""

njit = numba.njit(cache=True, nogil=True)


class LogArrays(NamedTuple):
    """The arrays of an `EventLog`; n counted events, v items, k half-lives, q snapshots.

    Attributes:
      item_n: int32. Item of each event.
      time_n: int64. Seconds; never decreases.
      session_before_n: int32. The event before it in its session, -1 at the first.
      item_before_n: int32. The event of the same item before it, -1 at the first.
      sums_nk: float32. c_k of its item just after it.
      last_v: int32. Newest event of each item, -1 for none.
      first_time_v: int64. Time of each item's first event.
      top_qm: int32. Items of each snapshot, 0 for none.
      top_counts_qmk: float32. Their counts at the time of the snapshot's last event.
      listed_kj: int32. The most picked items by each half-life, now.
      listed_score_kj: float64. log2 of their counts, plus t / h_k: it does not change with time.
      rank_kv: int16. Where an item stands in `listed_kj`, -1 where it does not.
    """

    item_n: np.ndarray
    time_n: np.ndarray
    session_before_n: np.ndarray
    item_before_n: np.ndarray
    sums_nk: np.ndarray
    last_v: np.ndarray
    first_time_v: np.ndarray
    top_qm: np.ndarray
    top_counts_qmk: np.ndarray
    listed_kj: np.ndarray
    listed_score_kj: np.ndarray
    rank_kv: np.ndarray


@njit
def decays(seconds: float, decay_k: np.ndarray) -> None:
    """Writes 2^(-seconds / h_k) for all half-lives: one exponential, then powers of 4."""
    last = len(decay_k) - 1
    x = np.exp(-LOG_2 * seconds / HALF_LIVES_K[last])
    for k in range(last, -1, -1):
        decay_k[k] = x
        x = x * x
        x = x * x


@njit
def _enter(item: int, time: int, sums_k: np.ndarray, log: LogArrays) -> None:
    """Puts an item that was just picked where it belongs among the most picked ones."""
    listed = log.listed_kj.shape[1]
    for k in range(len(sums_k)):
        score = np.log2(np.float64(sums_k[k])) + time / HALF_LIVES_K[k]
        place = log.rank_kv[k, item]
        if place < 0:
            if score <= log.listed_score_kj[k, listed - 1]:
                continue
            place = listed - 1
            left = log.listed_kj[k, place]
            if left > 0:
                log.rank_kv[k, left] = -1
        while place > 0 and log.listed_score_kj[k, place - 1] < score:
            moved = log.listed_kj[k, place - 1]
            log.listed_kj[k, place] = moved
            log.listed_score_kj[k, place] = log.listed_score_kj[k, place - 1]
            log.rank_kv[k, moved] = place
            place -= 1
        log.listed_kj[k, place] = item
        log.listed_score_kj[k, place] = score
        log.rank_kv[k, item] = place


@njit
def _take_snapshot(number: int, time: int, log: LogArrays, decay_k: np.ndarray) -> None:
    """Notes the most picked items, those that lead by any half-life first."""
    halves, listed = log.listed_kj.shape
    room = log.top_qm.shape[1]
    taken = 0
    for place in range(listed):
        for k in range(halves):
            item = log.listed_kj[k, place]
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
            decays(float(time - log.time_n[event]), decay_k)
            log.top_qm[number, taken] = item
            for j in range(halves):
                log.top_counts_qmk[number, taken, j] = log.sums_nk[event, j] * decay_k[j]
            taken += 1
    for m in range(taken, room):
        log.top_qm[number, m] = 0


@njit
def _count(event: int, item: int, time: int, log: LogArrays, decay_k: np.ndarray) -> None:
    """Adds an event to the sums of its item."""
    halves = len(decay_k)
    before = log.last_v[item]
    log.item_before_n[event] = before
    if before < 0:
        log.first_time_v[item] = time
        for k in range(halves):
            log.sums_nk[event, k] = 1
    else:
        decays(float(time - log.time_n[before]), decay_k)
        for k in range(halves):
            log.sums_nk[event, k] = log.sums_nk[before, k] * decay_k[k] + 1
    log.last_v[item] = event
    _enter(item, time, log.sums_nk[event], log)


@njit
def append_events(
    log: LogArrays,
    start: int,
    items: np.ndarray,
    times: np.ndarray,
    session_before: np.ndarray,
    snapshot_events: int,
) -> None:
    """Takes events in, after the first `start`. The arrays have room for them."""
    halves = log.sums_nk.shape[1]
    decay_k = np.empty(halves)
    for offset in range(len(items)):
        event, item, time = start + offset, items[offset], times[offset]
        log.item_n[event] = item
        log.time_n[event] = time
        log.session_before_n[event] = session_before[offset]
        log.item_before_n[event] = -1
        if item >= FIRST_ITEM_ID:
            _count(event, item, time, log, decay_k)
        if (event + 1) % snapshot_events == 0:
            _take_snapshot(event // snapshot_events, time, log, decay_k)


def empty_log(rows: int, events: int, sizes: MemorySizes = SIZES) -> LogArrays:
    """A log without events, with room for some.

    Args:
      rows: `v`, rows of the item table.
      events: Events that there is room for.
      sizes: `top_items` and `snapshot_events` are read.
    """
    halves = len(HALF_LIVES_K)
    snapshots = events // sizes.snapshot_events
    return LogArrays(
        item_n=np.zeros(events, np.int32),
        time_n=np.zeros(events, np.int64),
        session_before_n=np.full(events, -1, np.int32),
        item_before_n=np.full(events, -1, np.int32),
        sums_nk=np.zeros((events, halves), np.float32),
        last_v=np.full(rows, -1, np.int32),
        first_time_v=np.zeros(rows, np.int64),
        top_qm=np.zeros((snapshots, sizes.top_items), np.int32),
        top_counts_qmk=np.zeros((snapshots, sizes.top_items, halves), np.float32),
        listed_kj=np.zeros((halves, _LISTED), np.int32),
        listed_score_kj=np.full((halves, _LISTED), -np.inf),
        rank_kv=np.full((halves, rows), -1, np.int16),
    )
