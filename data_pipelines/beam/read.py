"""The stages that read: events, and impressions, dealt to parts by a hash of the user."""

import collections
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import polars as pl

from data_pipelines.beam.stages import Stages, read_json, write_json
from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.impressions.files import typed_impressions
from data_pipelines.raw.bad_rows import BadRows
from data_pipelines.raw.drops import Drop
from data_pipelines.raw.ingest import read_drops, typed_frames
from data_pipelines.raw.odd_times import Unit, UnitSeen
from data_pipelines.raw.paths import expand_paths
from data_pipelines.raw.readers import read_frames
from data_pipelines.raw.tfds_source import TfdsRange, tfds_frames, tfds_ranges
from data_pipelines.sessions.parts import part_of_users

_Typed = Callable[
    [Any, PrepareConfig, BadRows, collections.Counter[str], UnitSeen], Iterator[pl.DataFrame]
]
"""The frames of a source, each with a column `user_id`, what its conditions drop, and its unit."""

_ROWS, _DROPPED, _PROBLEMS, _UNITS = "rows", "dropped", "problems", "units"


def read_log(stages: Stages) -> list[Drop]:
    """Deals the events to parts; returns what was dropped on the way.

    Raises:
      DataError: As `readers.read_files` and `tfds_source.read_tfds`.
    """
    config = stages.config
    if config.tfds is None:
        rows, dropped = _deal(stages, "events", _file_names(config.input), _typed_events)
    else:
        ranges = tfds_ranges(config.tfds, config.tfds_data_dir, config.read_options())
        rows, dropped = _deal(stages, "events", ranges, _typed_records)
    return read_drops(rows, dropped)


def read_impressions(stages: Stages) -> dict[str, int]:
    """Deals the lists to the parts of their users; returns the rows skipped for each reason.

    Raises:
      DataError: As `impression_files.typed_impressions`.
    """
    files = _file_names(stages.config.impressions)
    return _deal(stages, "impressions", files, _typed_impressions)[1]


def _file_names(paths: Sequence[str]) -> list[str]:
    return [str(file) for file in expand_paths(paths)]


def _typed_events(
    file: str,
    config: PrepareConfig,
    bad_rows: BadRows,
    dropped: collections.Counter[str],
    seen: UnitSeen,
) -> Iterator[pl.DataFrame]:
    options = config.read_options()
    raw = read_frames([file], options.needed(), options.separator, bad_rows)
    return typed_frames(raw, options, bad_rows, dropped, seen)


def _typed_records(
    records: TfdsRange,
    config: PrepareConfig,
    bad_rows: BadRows,
    dropped: collections.Counter[str],
    seen: UnitSeen,
) -> Iterator[pl.DataFrame]:
    assert config.tfds is not None
    options = config.read_options()
    raw = tfds_frames(config.tfds, config.tfds_data_dir, [records], options)
    return typed_frames(raw, options, bad_rows, dropped, seen)


def _typed_impressions(
    file: str,
    config: PrepareConfig,
    bad_rows: BadRows,
    dropped: collections.Counter[str],
    seen: UnitSeen,
) -> Iterator[pl.DataFrame]:
    separator = config.read_options().separator
    return typed_impressions([file], config.impression_columns(), separator, bad_rows, seen)


def _deal(
    stages: Stages, name: str, sources: Sequence[Any], typed: _Typed
) -> tuple[int, dict[str, int]]:
    """Deals the rows of sources to the files `name` of the parts.

    Returns:
      How many there are, and how many were dropped by reason.

    Raises:
      DataError: A source or a row cannot be used. Of several, what is first in order of the input.
    """
    report = {key: stages.work / f"{name}.{key}.json" for key in (_DROPPED, _PROBLEMS, _UNITS)}
    with stages.pipeline() as pipeline:
        read = (
            pipeline
            | beam.Create(list(enumerate(sources)))
            | beam.Reshuffle()
            | beam.ParDo(_Read(stages, typed)).with_outputs(_DROPPED, _PROBLEMS, _UNITS, main=_ROWS)
        )
        read[_ROWS] | beam.GroupByKey() | beam.Map(_write_part, stages, name)
        dropped = read[_DROPPED] | beam.CombinePerKey(sum) | "Dropped" >> beam.combiners.ToList()
        dropped | "WriteDropped" >> beam.Map(write_json, report[_DROPPED])
        problems = read[_PROBLEMS] | "Problems" >> beam.combiners.ToList()
        problems | "WriteProblems" >> beam.Map(write_json, report[_PROBLEMS])
        units = read[_UNITS] | "Units" >> beam.combiners.ToList()
        units | "WriteUnits" >> beam.Map(write_json, report[_UNITS])
    problems = read_json(report[_PROBLEMS]) + _unit_problems(read_json(report[_UNITS]))
    if problems:
        raise DataError(min(problems)[1])
    counts = dict(sorted(read_json(report[_DROPPED])))
    return counts.pop("", 0), counts


def _unit_problems(units: list[tuple[int, Unit, str]]) -> list[tuple[int, str]]:
    """The first source whose times count another unit than those of the sources before it."""
    seen = UnitSeen()
    for number, unit, place in sorted(units):
        try:
            seen.require(unit, place)
        except DataError as error:
            return [(number, str(error))]
    return []


class _Read(beam.DoFn):
    """Sources to pieces of parts: (part, ((source, piece), frame)).

    Beside them what was dropped, (reason, rows), with "" for the rows that are left; what cannot be
    used, (source, message): it waits for what other workers find in sources before; and the unit of
    its times, (source, unit, where it was seen).
    """

    def __init__(self, stages: Stages, typed: _Typed) -> None:
        self._config, self._parts, self._typed = stages.config, stages.parts, typed

    def process(self, numbered: tuple[int, Any]) -> Iterator[Any]:
        number, source = numbered
        bad_rows, dropped = BadRows(self._config.on_bad_row), collections.Counter[str]()
        seen = UnitSeen()
        frames = enumerate(self._typed(source, self._config, bad_rows, dropped, seen))
        try:
            for piece, frame in frames:
                dropped[""] += len(frame)
                for part, own in self._dealt(frame):
                    yield part, ((number, piece), own)
        except DataError as error:
            yield beam.pvalue.TaggedOutput(_PROBLEMS, (number, str(error)))
        if seen.unit is not None:
            yield beam.pvalue.TaggedOutput(_UNITS, (number, seen.unit, seen.place))
        for reason, rows in {"": 0, **(dropped + bad_rows.counts)}.items():
            yield beam.pvalue.TaggedOutput(_DROPPED, (reason, rows))

    def _dealt(self, frame: pl.DataFrame) -> Iterator[tuple[int, bytes]]:
        """The rows of each part's users, as bytes."""
        part_n = pl.Series("part", part_of_users(frame["user_id"], self._parts))
        for (part,), own in frame.with_columns(part_n).group_by("part", maintain_order=True):
            buffer = io.BytesIO()
            own.drop("part").write_ipc(buffer)
            yield part, buffer.getvalue()


def _write_part(
    grouped: tuple[int, Iterable[tuple[tuple[int, int], bytes]]], stages: Stages, name: str
) -> None:
    part, pieces = grouped
    frames = [pl.read_ipc(io.BytesIO(data)) for _, data in sorted(pieces)]
    pl.concat(frames).write_parquet(stages.path(part, name))
