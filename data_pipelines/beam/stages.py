"""Shared by all stages of a preparation: the parts of the log, and the files between stages."""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.options.pipeline_options import PipelineOptions

from data_pipelines.config import PrepareConfig
from data_pipelines.impressions.files import IMPRESSION_SCHEMA
from data_pipelines.raw.log import TYPED_SCHEMA
from data_pipelines.raw.log_facts import LogFacts
from data_pipelines.raw.paths import expand_paths
from data_pipelines.raw.tfds_source import tfds_ranges
from data_pipelines.sessions.parts import Part, filter_part
from data_pipelines.sessions.splits import SplitOptions

_PART_BYTES = 1 << 25
"""Input bytes per part. A worker needs a few times as much memory."""

_RECORD_BYTES = 32
"""Bytes assumed for an event of a TFDS dataset."""

_LEAST_PARTS, _MOST_PARTS = 4, 1 << 14


@dataclasses.dataclass(frozen=True)
class Stages:
    """What each stage receives, in the process that starts it and on workers.

    Attributes:
      config: What to prepare.
      work: A directory for the files between the stages, visible to all workers.
      parts: Number of parts.
      split: How to split sessions. For `time` by fractions: by the cuts, once `cuts.find_cuts` has
        found them.
      facts: Types and units of the whole log, once it has been read.
    """

    config: PrepareConfig
    work: Path
    parts: int
    split: SplitOptions
    facts: LogFacts = dataclasses.field(default_factory=LogFacts)

    def pipeline(self) -> beam.Pipeline:
        """A pipeline on the configured runner. It runs at the end of its `with` block."""
        arguments = shlex.split(self.config.pipeline_options)
        return beam.Pipeline(self.config.runner, options=PipelineOptions(arguments))

    def each_part(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """The numbers of the parts, spread over the workers."""
        return pipeline | beam.Create(list(range(self.parts))) | beam.Reshuffle()

    def path(self, part: int, name: str) -> Path:
        """The path of one of a part's files."""
        return self.work / f"part-{part:05d}.{name}"

    def dropped_items(self) -> list[Path]:
        """Files of the items that each round of filters dropped, one per round so far."""
        return sorted(self.work.glob("round-*.parquet"))

    def next_round(self) -> Path:
        """The file of the next round."""
        return self.work / f"round-{len(self.dropped_items()):05d}.parquet"

    def filtered(self, part: int) -> Part:
        """The events of a part, filtered by the rounds so far."""
        dropped = [pl.read_parquet(path)["item_id"] for path in self.dropped_items()]
        events = self._read(part, "events", TYPED_SCHEMA)
        return filter_part(events, self.config, dropped, self.facts, self.split.valid_after_ms)

    def impressions(self, part: int) -> pl.DataFrame:
        """What a part's users were shown, `IMPRESSION_SCHEMA`, in the order of the input."""
        return self._read(part, "impressions", IMPRESSION_SCHEMA)

    def _read(self, part: int, name: str, schema: Mapping[str, Any]) -> pl.DataFrame:
        """A part's rows; a part without rows has no file."""
        path = self.path(part, name)
        return pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=schema)


def number_of_parts(config: PrepareConfig) -> int:
    """The number of parts for a log and its impressions.

    Raises:
      DataError: A file is missing, or the TFDS dataset cannot be read.
    """
    files = [*expand_paths(config.input), *expand_paths(config.impressions)]
    size = sum(file.stat().st_size for file in files)
    if config.tfds is not None:
        ranges = tfds_ranges(config.tfds, config.tfds_data_dir, config.read_options())
        size += _RECORD_BYTES * sum(end - start for _, start, end in ranges)
    return int(np.clip(size // _PART_BYTES, _LEAST_PARTS, _MOST_PARTS))


def write_json(value: Any, path: Path) -> None:
    """Writes a value for a later stage."""
    path.write_text(json.dumps(value), encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads a value that `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))
