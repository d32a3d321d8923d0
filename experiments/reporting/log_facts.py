"""Counts a prepared log for the report: when, how many, how long apart, how often again."""

from typing import NamedTuple

import numpy as np

from data_pipelines.histories.events import HistorySource, blocks_of
from data_pipelines.histories.record import Split
from hiertcn_jax.batch import FIRST_ITEM_ID

_DAY = 86_400
_MOST_BINS = 30

COUNT_EDGES = (1, 2, 3, 4, 6, 11, 21, 51)
COUNT_LABELS = ("1", "2", "3", "4-5", "6-10", "11-20", "21-50", "51+")

GAP_EDGES = (1, 6, 24, 72, 168, 720)
GAP_LABELS = ("< 1 h", "1-6 h", "6-24 h", "1-3 d", "3-7 d", "7-30 d", "30 d +")


class LogCounts(NamedTuple):
    """What one pass over a log finds.

    Attributes:
      first: Seconds, the first event.
      last: The last one.
      starts: Seconds. Where the spans of time begin that events are counted in.
      span: Days of one.
      events_pb: int64 [parts, bins]. Events by part of the log and span.
      sessions_b: int64. Users by number of their sessions, in the bins of COUNT_LABELS.
      lengths_b: int64. Sessions by number of their events, likewise.
      gaps_b: int64. Pauses between a user's sessions, in the bins of GAP_LABELS.
      repeats: Events on a known item that their user had picked before.
      events: Events in all.
    """

    first: int
    last: int
    starts: np.ndarray
    span: int
    events_pb: np.ndarray
    sessions_b: np.ndarray
    lengths_b: np.ndarray
    gaps_b: np.ndarray
    repeats: int
    events: int


def count_log(source: HistorySource) -> LogCounts:
    """Counts all histories, at least one."""
    spans = [(one.times.min(), one.times.max()) for _, block in blocks_of(source) for one in block]
    first, last = int(min(spans)[0]), int(max(end for _, end in spans))
    day = first // _DAY * _DAY
    span = max(1, -(-(last - day + 1) // (_MOST_BINS * _DAY)))
    starts = np.arange(day, last + 1, span * _DAY)
    events_pb = np.zeros((len(Split), len(starts)), np.int64)
    sessions_b, lengths_b = (np.zeros(len(COUNT_LABELS), np.int64) for _ in range(2))
    gaps_b, repeats, events = np.zeros(len(GAP_LABELS), np.int64), 0, 0
    for _, histories in blocks_of(source):
        for one in histories:
            ends = np.cumsum(one.session_lengths)
            bin_n = (one.times - day) // (span * _DAY)
            np.add.at(events_pb, (np.repeat(one.session_splits, one.session_lengths), bin_n), 1)
            sessions_b[_bin(len(ends))] += 1
            np.add.at(lengths_b, np.digitize(one.session_lengths, COUNT_EDGES) - 1, 1)
            begins = ends - one.session_lengths
            pause_m = (one.times[begins[1:]] - one.times[ends[:-1] - 1]) / 3600
            np.add.at(gaps_b, np.digitize(pause_m, GAP_EDGES), 1)
            known = one.item_ids[one.item_ids >= FIRST_ITEM_ID]
            repeats += len(known) - len(np.unique(known))
            events += len(one.item_ids)
    return LogCounts(
        first, last, starts, span, events_pb, sessions_b, lengths_b, gaps_b, repeats, events
    )


def _bin(count: int) -> int:
    return int(np.digitize(count, COUNT_EDGES)) - 1
