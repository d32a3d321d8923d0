"""Counts what everybody did, for times from the end of a log on.

Histories come user by user, counts need the order of time. So events are sorted in runs, which wait
in temporary files, and merged. Counts are compacted on the way. What is in memory at a time does
not grow with the log, only with the catalogue.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines.histories.events import HistorySource, blocks_of
from data_pipelines.histories.record import History, Split
from data_pipelines.lanes.memory_lists import items_before
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.memory.memory import Memory

_RUN = 1 << 19
"""Events that are sorted at a time."""
_AT_ONCE = 1 << 16
"""Events that are counted at a time."""

_EVENT = np.dtype([("item", "<i4"), ("position", "<i4"), ("before", "<i4", (SIZES.distance,))])


class _Run(NamedTuple):
    """Events in order of time.

    Attributes:
      time_n: int64. Seconds.
      event_n: What else is counted of each.
    """

    time_n: np.ndarray
    event_n: np.ndarray


def count_live(source: HistorySource, rows: int, last: Split) -> Memory:
    """The counts that `remember` makes, known from their newest event on.

    Args:
      source: All histories.
      rows: `v`, rows of the item table.
      last: Counts sessions of this part and of those before it.

    Raises:
      OSError: A temporary file cannot be written.
    """
    memory, kept = Memory(rows), _AT_ONCE
    with tempfile.TemporaryDirectory(prefix="hiertcn_counts_") as folder:
        for time_n, event_n in _merged(_on_disk(_runs(source, last), Path(folder))):
            memory.observe(event_n["item"], time_n, event_n["before"], event_n["position"])
            if memory.events > 2 * kept:
                memory = memory.compacted()
                kept = max(kept, memory.events)
    return memory.compacted()


def _runs(source: HistorySource, last: Split) -> Iterator[_Run]:
    """The events that count, some users' at a time."""
    parts: list[_Run] = []
    for _, histories in blocks_of(source):
        parts.append(_events(histories, last))
        if sum(len(part.time_n) for part in parts) >= _RUN:
            yield _in_order(parts)
            parts = []
    if parts:
        yield _in_order(parts)


def _in_order(parts: Sequence[_Run]) -> _Run:
    time_n = np.concatenate([part.time_n for part in parts])
    order_n = np.argsort(time_n, kind="stable")
    return _Run(time_n[order_n], np.concatenate([part.event_n for part in parts])[order_n])


def _events(histories: Sequence[History], last: Split) -> _Run:
    """The events of users, user by user."""
    item_n = np.concatenate([one.item_ids for one in histories])
    length_m = np.concatenate([one.session_lengths for one in histories]).astype(np.int64)
    number_n = np.arange(len(item_n))
    position_n = number_n - np.repeat(np.cumsum(length_m) - length_m, length_m)
    length_u = np.array([len(one.item_ids) for one in histories])
    start_n = np.repeat(np.cumsum(length_u) - length_u, length_u)
    split_m = np.concatenate([one.session_splits for one in histories])
    counted_n = np.flatnonzero(np.repeat(split_m <= last, length_m))
    event_n = np.empty(len(counted_n), _EVENT)
    event_n["item"], event_n["position"] = item_n[counted_n], position_n[counted_n]
    event_n["before"] = items_before(item_n, start_n[counted_n], counted_n, SIZES.distance)
    return _Run(np.concatenate([one.times for one in histories])[counted_n], event_n)


def _on_disk(runs: Iterable[_Run], folder: Path) -> list[_Run]:
    """The runs in two files, of which only the parts that are read come into memory."""
    lengths, kinds = [], (np.dtype(np.int64), _EVENT)
    files = [folder / name for name in _Run._fields]
    for run in runs:
        for array, file in zip(run, files, strict=True):
            with file.open("ab") as end:
                array.tofile(end)
        lengths.append(len(run.time_n))
    if not sum(lengths):
        return []
    mapped = [np.memmap(file, kind, "r") for file, kind in zip(files, kinds, strict=True)]
    parts = [np.split(array, np.cumsum(lengths)[:-1]) for array in mapped]
    return [_Run(*both) for both in zip(*parts, strict=True)]


def _merged(runs: Sequence[_Run]) -> Iterator[_Run]:
    """All events in order of time, many at a time; of equal times those of the first run first."""
    place_r = [0] * len(runs)
    while left := [r for r, run in enumerate(runs) if place_r[r] < len(run.time_n)]:
        share = max(1, _AT_ONCE // len(left))
        until = min(runs[r].time_n[min(place_r[r] + share, len(runs[r].time_n)) - 1] for r in left)
        parts = []
        for r in left:
            end = int(np.searchsorted(runs[r].time_n, until, side="right"))
            part = slice(place_r[r], end)
            parts.append(_Run(runs[r].time_n[part], runs[r].event_n[part]))
            place_r[r] = end
        yield _in_order(parts)
