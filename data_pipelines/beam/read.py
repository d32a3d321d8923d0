"""Stages that read events and impressions, and assign them to parts by a hash of the user."""

import collections
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import polars as pl

from data_pipelines.beam.stages import Stages, read_json, write_json
from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.impressions.files import typed_impressions
from data_pipelines.raw.bad_rows import BadRows
from data_pipelines.raw.drops import Drop
from data_pipelines.raw.ingest import read_drops, typed_frames
from data_pipelines.raw.log_facts import LogFacts
from data_pipelines.raw.paths import expand_paths
from data_pipelines.raw.readers import read_frames
from data_pipelines.raw.tfds_source import TfdsRange, tfds_frames, tfds_ranges
from data_pipelines.sessions.parts import part_of_users

_Typed = Callable[
    [Any, PrepareConfig, BadRows, collections.Counter[str], LogFacts], Iterator[pl.DataFrame]
]
"""Reads a source: frames with a column `user_id`; counts what conditions drop; records facts."""

_ROWS, _DROPPED, _PROBLEMS, _FACTS = "rows", "dropped", "problems", "facts"


class _Dealt(NamedTuple):
    """The result of assigning rows to parts.

    Attributes:
      rows: Number of rows.
      dropped: Number of dropped rows, by reason.
      facts: Types of ids and units of times over all rows.
    """

    rows: int
    dropped: dict[str, int]
    facts: LogFacts


def read_log(stages: Stages) -> tuple[list[Drop], int, LogFacts]:
    """Assigns the events to parts; returns what was dropped, the number of events, and facts.

    Raises:
      DataError: As `readers.read_files` and `tfds_source.read_tfds`.
    """
    config = stages.config
    if config.tfds is None:
        dealt = _deal(stages, "events", _file_names(config.input), _typed_events)
    else:
        ranges = tfds_ranges(config.tfds, config.tfds_data_dir, config.read_options())
        dealt = _deal(stages, "events", ranges, _typed_records)
    return read_drops(dealt.rows, dealt.dropped), dealt.rows, dealt.facts


def read_impressions(stages: Stages) -> dict[str, int]:
    """Assigns the lists to their users' parts; returns the rows skipped for each reason.

    Raises:
      DataError: As `files.typed_impressions`.
    """
    files = _file_names(stages.config.impressions)
    return _deal(stages, "impressions", files, _typed_impressions).dropped


def _file_names(paths: Sequence[str]) -> list[str]:
    return [str(file) for file in expand_paths(paths)]


def _typed_events(
    file: str,
    config: PrepareConfig,
    bad_rows: BadRows,
    dropped: collections.Counter[str],
    facts: LogFacts,
) -> Iterator[pl.DataFrame]:
    options = config.read_options()
    raw = read_frames([file], options.needed(), options.text, bad_rows)
    return typed_frames(raw, options, bad_rows, dropped, facts)


def _typed_records(
    records: TfdsRange,
    config: PrepareConfig,
    bad_rows: BadRows,
    dropped: collections.Counter[str],
    facts: LogFacts,
) -> Iterator[pl.DataFrame]:
    assert config.tfds is not None
    options = config.read_options()
    raw = tfds_frames(config.tfds, config.tfds_data_dir, [records], options)
    return typed_frames(raw, options, bad_rows, dropped, facts)


def _typed_impressions(
    file: str,
    config: PrepareConfig,
    bad_rows: BadRows,
    dropped: collections.Counter[str],
    facts: LogFacts,
) -> Iterator[pl.DataFrame]:
    columns, options = config.impression_columns(), config.read_options()
    return typed_impressions([file], columns, options, bad_rows, facts)


def _deal(stages: Stages, name: str, sources: Sequence[Any], typed: _Typed) -> _Dealt:
    """Assigns the rows of sources to the files `name` of the parts.

    Raises:
      DataError: A source or a row cannot be used; the first one in the order of the input.
    """
    report = {key: stages.work / f"{name}.{key}.json" for key in (_DROPPED, _PROBLEMS, _FACTS)}
    with stages.pipeline() as pipeline:
        read = (
            pipeline
            | beam.Create(list(enumerate(sources)))
            | beam.Reshuffle()
            | beam.ParDo(_Read(stages, typed)).with_outputs(_DROPPED, _PROBLEMS, _FACTS, main=_ROWS)
        )
        read[_ROWS] | beam.GroupByKey() | beam.Map(_write_part, stages, name)
        dropped = read[_DROPPED] | beam.CombinePerKey(sum) | "Dropped" >> beam.combiners.ToList()
        dropped | "WriteDropped" >> beam.Map(write_json, report[_DROPPED])
        problems = read[_PROBLEMS] | "Problems" >> beam.combiners.ToList()
        problems | "WriteProblems" >> beam.Map(write_json, report[_PROBLEMS])
        facts = read[_FACTS] | "Facts" >> beam.combiners.ToList()
        facts | "WriteFacts" >> beam.Map(write_json, report[_FACTS])
    problems = read_json(report[_PROBLEMS])
    of_all = _sum_facts(read_json(report[_FACTS]), problems)
    if problems:
        raise DataError(min(problems)[1])
    counts = dict(sorted(read_json(report[_DROPPED])))
    return _Dealt(counts.pop("", 0), counts, of_all)


def _sum_facts(found: list[tuple[int, Any]], problems: list[tuple[int, str]]) -> LogFacts:
    """Facts that hold for all sources; adds a problem if a source contradicts those before it."""
    of_all = LogFacts()
    for number, facts in sorted(found, key=lambda numbered: numbered[0]):
        try:
            of_all.add(LogFacts.from_json(facts))
        except DataError as error:
            problems.append((number, str(error)))
    return of_all


class _Read(beam.DoFn):
    """Splits sources into pieces of parts: (part, ((source, piece), frame)).

    Side outputs: dropped rows (reason, rows), with "" for the rows that are left; problems (source,
    message), which wait for what other workers find in earlier sources; and facts about ids and
    times (source, facts).
    """

    def __init__(self, stages: Stages, typed: _Typed) -> None:
        self._config, self._parts, self._typed = stages.config, stages.parts, typed

    def process(self, numbered: tuple[int, Any]) -> Iterator[Any]:
        number, source = numbered
        bad_rows, dropped = BadRows(self._config.on_bad_row), collections.Counter[str]()
        facts = LogFacts()
        frames = enumerate(self._typed(source, self._config, bad_rows, dropped, facts))
        try:
            for piece, frame in frames:
                dropped[""] += len(frame)
                for part, own in self._dealt(frame):
                    yield part, ((number, piece), own)
        except DataError as error:
            yield beam.pvalue.TaggedOutput(_PROBLEMS, (number, str(error)))
        yield beam.pvalue.TaggedOutput(_FACTS, (number, facts.to_json()))
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
