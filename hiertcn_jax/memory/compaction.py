"""Drops what counts no longer need: from now on nobody asks for a time before the newest event.

Of the log stay the newest event of each item and the events since the last snapshot that is still
read; of the followers each item's newest record and its open one. Numbers of events stay the same
modulo `snapshot_events`, so that later snapshots are taken at the same events: all later lists are
equal to the last bit.
"""

import numpy as np

from hiertcn_jax.item_ids import UNKNOWN_ID
from hiertcn_jax.memory.config import SIZES, MemorySizes
from hiertcn_jax.memory.event_log import LogArrays, empty_log
from hiertcn_jax.memory.followers import FollowerArrays


def compact_log(log: LogArrays, events: int, sizes: MemorySizes = SIZES) -> tuple[LogArrays, int]:
    """The log with the events that are still read, and their number.

    Args:
      log: The log.
      events: How many of its events count.
      sizes: Uses `snapshot_events`.
    """
    every = sizes.snapshot_events
    if not events:
        return LogArrays(*(array.copy() for array in log)), 0
    newest = np.searchsorted(log.time_n[:events], log.time_n[events - 1])
    # The snapshot before the newest events, and the events before which it was taken.
    first = max(int(newest) // every - 1, 0) * every
    last_v = log.last_v
    while np.any(later := last_v >= first):
        last_v = np.where(later, log.item_before_n[last_v], last_v)
    kept_n = np.unique(last_v[last_v >= 0])
    # Events of the unknown item, which no count holds, fill up to a whole number of snapshots.
    fill = -len(kept_n) % every
    old_n = np.concatenate([np.full(fill, -1), kept_n, np.arange(first, events)])
    shift_n = np.full(events + 1, -1, np.int32)  # The last entry answers for -1.
    shift_n[old_n[fill:]] = np.arange(fill, len(old_n))
    compact = empty_log(len(log.last_v), len(old_n), sizes)
    for name in ("item_n", "time_n", "starts_n", "sums_nc"):
        getattr(compact, name)[fill:] = getattr(log, name)[old_n[fill:]]
    compact.item_n[:fill] = UNKNOWN_ID
    compact.time_n[:fill] = log.time_n[old_n[fill]]
    compact.item_before_n[fill:] = shift_n[log.item_before_n[old_n[fill:]]]
    snapshots = events // every - first // every
    if snapshots:
        for name in ("top_qm", "top_counts_qmc"):
            getattr(compact, name)[-snapshots:] = getattr(log, name)[first // every :][:snapshots]
    return (
        compact._replace(
            last_v=shift_n[log.last_v],
            first_time_v=log.first_time_v.copy(),
            listed_cj=log.listed_cj.copy(),
            listed_score_cj=log.listed_score_cj.copy(),
            rank_cv=log.rank_cv.copy(),
        ),
        len(old_n),
    )


def compact_followers(found: FollowerArrays, time: int) -> FollowerArrays:
    """The records that are read from this time on.

    Args:
      found: The records.
      time: Seconds; nobody asks for an earlier one.
    """
    if not len(found.owner_r):
        return FollowerArrays(*(array.copy() for array in found))
    kept = [found.open_v]
    newest_v = found.newest_v
    while True:
        kept.append(newest_v)
        late = (newest_v >= 0) & (found.time_r[newest_v] >= time)
        if not late.any():
            break
        newest_v = np.where(late, found.before_r[newest_v], newest_v)
    record_r = np.unique(np.concatenate(kept))
    record_r = record_r[record_r >= 0]
    shift_r = np.full(len(found.owner_r) + 1, -1, np.int32)  # The last entry answers for -1.
    shift_r[record_r] = np.arange(len(record_r))
    names = ("owner_r", "time_r", "item_rj", "count_rjz", "total_rz")
    return found._replace(
        used=np.array([len(record_r)], np.int64),
        before_r=shift_r[found.before_r[record_r]],
        newest_v=shift_r[found.newest_v],
        open_v=shift_r[found.open_v],
        changes_v=found.changes_v.copy(),
        unwritten_v=found.unwritten_v.copy(),
        **{name: getattr(found, name)[record_r] for name in names},
    )
