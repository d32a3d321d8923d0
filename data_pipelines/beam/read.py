"""The first stage: files of events, dealt to parts by a hash of the user."""

import collections
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import polars as pl

from data_pipelines.bad_rows import BadRows
from data_pipelines.beam.stages import Stages, read_json, write_json
from data_pipelines.drops import Drop
from data_pipelines.ingest import read_drops, typed_frames
from data_pipelines.parts import part_of_users
from data_pipelines.readers import read_frames


def read_log(stages: Stages, files: list[Path]) -> list[Drop]:
    """Deals the events to parts; returns what was dropped on the way.

    Raises:
      DataError: As `readers.read_files`.
    """
    dropped_path = stages.work / "dropped.json"
    with stages.pipeline() as pipeline:
        read = (
            pipeline
            | beam.Create(list(enumerate(map(str, files))))
            | beam.Reshuffle()
            | beam.ParDo(_Read(stages)).with_outputs("dropped", main="rows")
        )
        read.rows | beam.GroupByKey() | beam.Map(_write_part, stages)
        dropped = read.dropped | beam.CombinePerKey(sum)
        dropped | beam.combiners.ToDict() | beam.Map(write_json, dropped_path)
    dropped = read_json(dropped_path)
    rows = dropped.pop("")
    return read_drops(rows, {reason: dropped[reason] for reason in sorted(dropped)})


class _Read(beam.DoFn):
    """Files to pieces of parts: (part, ((file, piece), frame)); and what was dropped, by reason."""

    def __init__(self, stages: Stages) -> None:
        self._config, self._parts = stages.config, stages.parts

    def process(self, numbered: tuple[int, str]) -> Iterator[Any]:
        number, file = numbered
        options = self._config.read_options()
        bad_rows, dropped = BadRows(options.on_bad_row), collections.Counter[str]()
        raw = read_frames([file], options.needed(), options.separator, bad_rows)
        rows = 0
        for piece, frame in enumerate(typed_frames(raw, options, bad_rows, dropped)):
            rows += len(frame)
            part_n = pl.Series("part", part_of_users(frame["user_id"], self._parts))
            for (part,), own in frame.with_columns(part_n).group_by("part", maintain_order=True):
                buffer = io.BytesIO()
                own.drop("part").write_ipc(buffer)
                yield part, ((number, piece), buffer.getvalue())
        for reason, count in (dropped + bad_rows.counts).items():
            yield beam.pvalue.TaggedOutput("dropped", (reason, count))
        yield beam.pvalue.TaggedOutput("dropped", ("", rows))


def _write_part(
    grouped: tuple[int, Iterable[tuple[tuple[int, int], bytes]]], stages: Stages
) -> None:
    part, pieces = grouped
    frames = [pl.read_ipc(io.BytesIO(data)) for _, data in sorted(pieces)]
    pl.concat(frames).write_parquet(stages.path(part, "events"))
