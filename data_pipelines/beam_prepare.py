"""Preparing a log on many machines: an Apache Beam pipeline that makes what one machine would.

    python -m data_pipelines.prepare --input=... --output_dir=D --runner=FlinkRunner

The log is dealt to parts by a hash of the user, and each part goes through the functions of one
machine. What has to be known of the whole log is counted by Beam, and passes through here: items
with their counts, and the ids of users. Files between the stages lie beside D, so all workers must
see its disk.
"""

import collections
import io
import json
import shlex
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.options.pipeline_options import PipelineOptions

from data_pipelines.bad_rows import BadRows
from data_pipelines.config import PrepareConfig
from data_pipelines.drops import Drop
from data_pipelines.errors import DataError
from data_pipelines.filters import user_rules
from data_pipelines.histories.record import History, Split
from data_pipelines.histories.store import (
    RECORDS_PER_SHARD,
    join_histories,
    open_histories,
    write_histories,
)
from data_pipelines.history_hash import hash_histories
from data_pipelines.ingest import read_drops, typed_frames
from data_pipelines.item_ids import read_item_ids
from data_pipelines.log import TYPED_SCHEMA
from data_pipelines.parts import (
    Part,
    filter_part,
    item_counts,
    part_dataset,
    part_of_users,
    split_counts,
)
from data_pipelines.readers import expand_paths, read_frames
from data_pipelines.vocabulary import Vocabulary, build_vocabulary

_PART_BYTES = 1 << 25
"""Of the input, for a part: a few times that in the memory of a worker."""

_LEAST_PARTS, _MOST_PARTS = 4, 1 << 14


class Preparation:
    """The stages of a preparation, and the files between them.

    Args:
      config: What to prepare.
      work: A directory for the files between the stages.
    """

    def __init__(self, config: PrepareConfig, work: Path) -> None:
        self._config, self._work = config, work
        self._files = expand_paths(config.input)
        size = sum(file.stat().st_size for file in self._files)
        self._parts = int(np.clip(size // _PART_BYTES, _LEAST_PARTS, _MOST_PARTS))
        self._rounds = 0

    def read(self) -> list[Drop]:
        """Deals the events to parts; returns what was dropped on the way.

        Raises:
          DataError: As `readers.read_files`.
        """
        with self._pipeline() as pipeline:
            read = (
                pipeline
                | beam.Create(list(enumerate(map(str, self._files))))
                | beam.Reshuffle()
                | beam.ParDo(_Read(self._config, self._parts)).with_outputs("dropped", main="rows")
            )
            read.rows | beam.GroupByKey() | beam.MapTuple(self._write_part)
            dropped = read.dropped | beam.CombinePerKey(sum)
            dropped | beam.combiners.ToDict() | beam.Map(_write_json, self._work / "dropped.json")
        dropped = _read_json(self._work / "dropped.json")
        rows = dropped.pop("")
        return read_drops(rows, {reason: dropped[reason] for reason in sorted(dropped)})

    def filter(self) -> None:
        """Finds the items that are dropped, round by round, until a round finds none."""
        least = self._config.min_item_events
        while True:
            path = self._work / f"round-{self._rounds}.parquet"
            if least == 1:
                _write_dropped([], path)
                self._rounds += 1
                return
            with self._pipeline() as pipeline:
                (
                    self._each_part(pipeline)
                    | beam.FlatMap(self._item_counts)
                    | beam.CombinePerKey(sum)
                    | beam.Filter(lambda item: item[1] < least)
                    | beam.Keys()
                    | beam.combiners.ToList()
                    | beam.Map(_write_dropped, path)
                )
            none = not len(pl.read_parquet(path))
            if none and self._rounds:
                path.unlink()
                return
            self._rounds += 1

    def count(self) -> None:
        """Counts what the vocabulary and the manifest are made of."""
        with self._pipeline() as pipeline:
            counted = self._each_part(pipeline) | beam.FlatMap(self._counts).with_outputs(
                "items", main="stages"
            )
            (
                counted.items
                | "SumItems" >> beam.CombinePerKey(_add_pairs)
                | "Items" >> beam.combiners.ToList()
                | "WriteItems" >> beam.Map(_write_counts, self._work / "items.parquet")
            )
            (
                counted.stages
                | beam.Distinct()
                | beam.Map(lambda stage: (stage[0], 1))
                | "SumStages" >> beam.CombinePerKey(sum)
                | "Stages" >> beam.combiners.ToList()
                | "WriteStages" >> beam.Map(_write_json, self._work / "stages.json")
            )

    def filter_drops(self) -> tuple[int, list[Drop]]:
        """Events that `collapse_repeats` dropped, and what each filter did.

        Raises:
          DataError: Nothing is left.
        """
        names = [f"min_item_events={self._config.min_item_events}"]
        names += list(user_rules(self._config.filter_options()))
        stages = {tuple(stage): items for stage, items in _read_json(self._work / "stages.json")}
        sums = {name: np.zeros(3, np.int64) for name in names}
        collapsed, events = 0, 0
        for number in range(self._parts):
            report = self._report(number)
            collapsed, events = collapsed + report["collapsed"], events + report["events"]
            for name, both in report["dropped"].items():
                sums[name][:2] += both
        before = stages.get((0, 0), 0)
        for number in range(self._rounds):
            for place, name in enumerate(names, 1):
                after = stages.get((number, place), 0)
                sums[name][2] += before - after
                before = after
        drops = [Drop(name, *sums[name].tolist()) for name in names if sums[name][0]]
        if not events:
            reasons = ", ".join(f"{drop.reason} dropped {drop.events} events" for drop in drops)
            raise DataError(f"the filters leave nothing: {reasons}")
        return collapsed, drops

    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the whole log.

        Raises:
          DataError: The file of the catalogue cannot be used.
        """
        counts = pl.read_parquet(self._work / "items.parquet").sort("item_id")
        listed = None if self._config.catalogue is None else read_item_ids(self._config.catalogue)
        vocabulary, _ = build_vocabulary(
            counts["item_id"], counts["train"].to_numpy(), counts["valid"].to_numpy(), listed
        )
        vocabulary.save(self._work)
        return vocabulary

    def write(self, directory: Path) -> None:
        """Writes the histories, users in order of their ids, as one machine would."""
        ids = [pl.read_parquet(self._path(number, "users")) for number in range(self._parts)]
        users = pl.concat(
            [frame.with_columns(part=pl.lit(number)) for number, frame in enumerate(ids)]
        )
        users = users.sort("user_id").with_row_index("place")
        for number in range(self._parts):
            own = users.filter(pl.col("part") == number)
            own.select("place").write_parquet(self._path(number, "places"))
        with self._pipeline() as pipeline:
            (
                self._each_part(pipeline)
                | beam.FlatMap(self._records, RECORDS_PER_SHARD)
                | beam.GroupByKey()
                | beam.MapTuple(self._write_shard)
            )
        shards = -(-len(users) // RECORDS_PER_SHARD)
        join_histories(directory, [self._work / f"shard-{number}" for number in range(shards)])

    def counts(self, vocabulary: Vocabulary) -> dict[str, Any]:
        """The manifest's counts.

        Raises:
          DataError: A part of the data is left empty.
        """
        total: dict[str, Any] = {}
        for number in range(self._parts):
            _add(total, _read_json(self._path(number, "counts")))
        total["items"] = len(vocabulary.item_ids)
        for split in Split:
            if not total["splits"][split.name.lower()]["sessions"]:
                raise DataError(
                    f"split={self._config.split}: the {split.name.lower()} part is left empty "
                    f"({total['sessions']} sessions of {total['users']} users)"
                )
        return total

    def _pipeline(self) -> beam.Pipeline:
        arguments = shlex.split(self._config.pipeline_options)
        return beam.Pipeline(self._config.runner, options=PipelineOptions(arguments))

    def _each_part(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return pipeline | beam.Create(list(range(self._parts))) | beam.Reshuffle()

    def _path(self, part: int, name: str) -> Path:
        return self._work / f"part-{part:05d}.{name}"

    def _report(self, part: int) -> dict[str, Any]:
        return _read_json(self._path(part, "report"))

    def _write_part(self, part: int, pieces: Iterable[tuple[tuple[int, int], bytes]]) -> None:
        frames = [pl.read_ipc(io.BytesIO(data)) for _, data in sorted(pieces)]
        pl.concat(frames).write_parquet(self._path(part, "events"))

    def _filtered(self, part: int) -> Part:
        path = self._path(part, "events")
        frame = pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=TYPED_SCHEMA)
        dropped = [
            pl.read_parquet(self._work / f"round-{number}.parquet")["item_id"]
            for number in range(self._rounds)
        ]
        return filter_part(frame, self._config, dropped)

    def _item_counts(self, part: int) -> Iterator[tuple[str, int]]:
        return item_counts(self._filtered(part)).iter_rows()

    def _counts(self, number: int) -> Iterator[Any]:
        part = self._filtered(number)
        items, users, too_short = split_counts(part, self._config)
        users.rename("user_id").to_frame().write_parquet(self._path(number, "users"))
        report = {
            "collapsed": part.collapsed,
            "dropped": part.dropped,
            "events": len(part.events),
            "users_too_short": too_short,
        }
        _write_json(report, self._path(number, "report"))
        for item, train, valid in items.iter_rows():
            yield beam.pvalue.TaggedOutput("items", (item, (train, valid)))
        for stage, ids in part.items.items():
            for item in ids:
                yield stage, item

    def _records(self, number: int, shard: int) -> Iterator[tuple[int, tuple[int, History]]]:
        dataset = part_dataset(self._filtered(number), self._config, Vocabulary.load(self._work))
        _write_json(dataset.counts(), self._path(number, "counts"))
        places = pl.read_parquet(self._path(number, "places"))["place"]
        for place, history in zip(places, dataset.histories(), strict=True):
            yield place // shard, (place, history)

    def _write_shard(self, number: int, records: Iterable[tuple[int, History]]) -> None:
        directory = self._work / f"shard-{number}"
        # A runner may do its work twice.
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        ordered = sorted(records, key=lambda record: record[0])
        write_histories(directory, (history for _, history in ordered))


class _Read(beam.DoFn):
    """Files to pieces of parts: (part, ((file, piece), frame)); and what was dropped, by reason."""

    def __init__(self, config: PrepareConfig, parts: int) -> None:
        self._config, self._parts = config, parts

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


def prepare_with_beam(config: PrepareConfig, directory: Path) -> tuple[list[Drop], dict[str, Any]]:
    """Prepares a log by a pipeline.

    Args:
      config: What to prepare.
      directory: Gets the vocabulary and the histories.

    Returns:
      What was dropped, and the manifest's content hash and counts.

    Raises:
      DataError: The data cannot be used, or the pipeline failed; the message is one line.
    """
    work = directory / ".parts"
    work.mkdir()
    try:
        preparation = Preparation(config, work)
        drops = preparation.read()
        preparation.filter()
        preparation.count()
        collapsed, filter_drops = preparation.filter_drops()
        vocabulary = preparation.vocabulary()
        vocabulary.save(directory)
        preparation.write(directory)
        counts = preparation.counts(vocabulary)
        histories = open_histories(directory, vocabulary.size)
        report = {
            "content_hash": hash_histories(work, histories, vocabulary),
            "counts": counts,
        }
    except (DataError, OSError):
        raise
    # A worker's error comes as the runner wraps it.
    except Exception as error:
        raise DataError(f"runner={config.runner}: {_cause(error)}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if collapsed:
        drops.append(Drop("collapse_repeats", collapsed))
    return drops + filter_drops, report


def _cause(error: BaseException) -> str:
    """What a worker said, of all that a runner says."""
    text = str(error)
    _, found, said = text.rpartition("DataError: ")
    return said.partition(" [while running")[0] if found else " ".join(text.split())[-600:]


def _add_pairs(pairs: Iterable[tuple[int, int]]) -> tuple[int, int]:
    train, valid = zip(*pairs, strict=True)
    return sum(train), sum(valid)


def _add(total: dict[str, Any], more: dict[str, Any]) -> None:
    """Adds numbers, also those in dicts in dicts."""
    for name, value in more.items():
        if isinstance(value, dict):
            _add(total.setdefault(name, {}), value)
        else:
            total[name] = total.get(name, 0) + value


def _write_dropped(items: list[str], path: Path) -> None:
    pl.DataFrame({"item_id": sorted(items)}, schema={"item_id": pl.String}).write_parquet(path)


def _write_counts(items: list[tuple[str, tuple[int, int]]], path: Path) -> None:
    rows = [(item, *counts) for item, counts in items]
    schema = {"item_id": pl.String, "train": pl.Int64, "valid": pl.Int64}
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(path)


def _write_json(value: Any, path: Path) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
