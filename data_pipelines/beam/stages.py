"""What the stages of a preparation share: the parts of the log, and the files between stages."""

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
"""Of the input, for a part: a few times that in the memory of a worker."""

_RECORD_BYTES = 32
"""What an event of a TFDS dataset counts for."""

_LEAST_PARTS, _MOST_PARTS = 4, 1 << 14


@dataclasses.dataclass(frozen=True)
class Stages:
    """What each stage is given, on the machine that starts it and on workers.

    Attributes:
      config: What to prepare.
      work: A directory for the files between the stages, which all workers see.
      parts: How many parts the log is dealt to.
      split: How sessions are split; of `time` by fractions, once `cuts.find_cuts` found them, by
        the cuts.
      facts: What the ids of the whole log are like, once it was read.
    """

    config: PrepareConfig
    work: Path
    parts: int
    split: SplitOptions
    facts: LogFacts = dataclasses.field(default_factory=LogFacts)

    def pipeline(self) -> beam.Pipeline:
        """A pipeline on the runner that the config names; runs at the end of its `with` block."""
        arguments = shlex.split(self.config.pipeline_options)
        return beam.Pipeline(self.config.runner, options=PipelineOptions(arguments))

    def each_part(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """The numbers of the parts, dealt to the workers."""
        return pipeline | beam.Create(list(range(self.parts))) | beam.Reshuffle()

    def path(self, part: int, name: str) -> Path:
        """A file of a part."""
        return self.work / f"part-{part:05d}.{name}"

    def dropped_items(self) -> list[Path]:
        """Files of the items that each round of filters dropped, as many as there were rounds."""
        return sorted(self.work.glob("round-*.parquet"))

    def next_round(self) -> Path:
        """The file of the round that comes next."""
        return self.work / f"round-{len(self.dropped_items()):05d}.parquet"

    def filtered(self, part: int) -> Part:
        """The events of a part, as far as the rounds have come."""
        dropped = [pl.read_parquet(path)["item_id"] for path in self.dropped_items()]
        events = self._read(part, "events", TYPED_SCHEMA)
        return filter_part(events, self.config, dropped, self.facts)

    def impressions(self, part: int) -> pl.DataFrame:
        """What was shown to the users of a part, `IMPRESSION_SCHEMA`, in the order of the input."""
        return self._read(part, "impressions", IMPRESSION_SCHEMA)

    def _read(self, part: int, name: str, schema: Mapping[str, Any]) -> pl.DataFrame:
        """A part's rows; there is no file where there are none."""
        path = self.path(part, name)
        return pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=schema)


def number_of_parts(config: PrepareConfig) -> int:
    """How many parts a log and its impressions are dealt to.

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
    """Leaves a value to a later stage."""
    path.write_text(json.dumps(value), encoding="utf-8")


def read_json(path: Path) -> Any:
    """What `write_json` left."""
    return json.loads(path.read_text(encoding="utf-8"))
