"""Finds the exact times at which split=time cuts by fractions, without sorting the log anywhere.

It counts sessions by the time span in which they start. The sums tell in which span each cut lies;
then it counts the single start times within that span only.
"""

from collections.abc import Callable, Iterator

import apache_beam as beam
import numpy as np
import polars as pl

from data_pipelines.beam.stages import Stages, read_json, write_json
from data_pipelines.sessions.splits import SplitOptions, at_cuts, places_of_cuts, sessions_of

_SPAN_MS = 1 << 22
"""About 70 minutes: a log of ten years has 75,000 spans, and a span at most 4 million starts."""


def find_cuts(stages: Stages) -> SplitOptions:
    """The options of the split, with the fractions of `time` replaced by times."""
    options = stages.split
    if options.split != "time" or options.has_cuts:
        return options
    spans, counts = _counted(stages, "spans", _count_spans)
    if not len(spans):
        # Nothing is left of the log. The check of drops reports that.
        return at_cuts(options, 0, 0)
    ranks = places_of_cuts(int(counts.sum()), options).tolist()
    found = [value_at(rank, spans, counts) for rank in ranks]
    starts, counts = _counted(stages, "starts", _count_starts, [span for span, _ in found])
    cuts = []
    for span, rank in found:
        within = starts // _SPAN_MS == span
        cuts.append(value_at(rank, starts[within], counts[within])[0])
    return at_cuts(options, *cuts)


def value_at(rank: int, values_n: np.ndarray, counts_n: np.ndarray) -> tuple[int, int]:
    """Looks up an index in a sorted sequence given as values with counts.

    Args:
      rank: The index, from 0, below the sum of the counts.
      values_n: The distinct values, in order.
      counts_n: How often each occurs.

    Returns:
      The value at that index, and its index among the values equal to it, from 0.
    """
    end_n = np.cumsum(counts_n)
    index = int(np.searchsorted(end_n, rank, side="right"))
    return int(values_n[index]), rank - int(end_n[index] - counts_n[index])


def _counted(
    stages: Stages,
    name: str,
    count: Callable[..., Iterator[tuple[int, int]]],
    *arguments: list[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Sums counts over the parts: the values in order, and how often each occurs; int64 [n]."""
    path = stages.work / f"{name}.json"
    with stages.pipeline() as pipeline:
        (
            stages.each_part(pipeline)
            | beam.FlatMap(count, stages, *arguments)
            | beam.CombinePerKey(sum)
            | beam.combiners.ToList()
            | beam.Map(write_json, path)
        )
    values_n, counts_n = np.array(sorted(read_json(path)), np.int64).reshape(-1, 2).T
    return values_n, counts_n


def _count_spans(number: int, stages: Stages) -> Iterator[tuple[int, int]]:
    """Counts a part's sessions by the span in which they start; saves their starts for later."""
    starts = pl.Series("start_ms", sessions_of(stages.filtered(number).events).starts_ms)
    starts.to_frame().write_parquet(stages.path(number, "starts"))
    return (starts // _SPAN_MS).value_counts().iter_rows()


def _count_starts(number: int, stages: Stages, spans: list[int]) -> Iterator[tuple[int, int]]:
    """Counts a part's sessions that start in these spans, by their start."""
    starts = pl.read_parquet(stages.path(number, "starts"))["start_ms"]
    return starts.filter((starts // _SPAN_MS).is_in(spans)).value_counts().iter_rows()
