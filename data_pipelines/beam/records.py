"""The last stage: writes histories sorted by user id, as a single machine does."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import polars as pl

from data_pipelines.beam.stages import Stages, read_json, write_json
from data_pipelines.errors import DataError
from data_pipelines.histories.record import History, Split
from data_pipelines.histories.store import RECORDS_PER_SHARD, join_histories, write_histories
from data_pipelines.impressions.files import encode_impressions
from data_pipelines.impressions.negatives import add_impressions
from data_pipelines.sessions.parts import part_dataset
from data_pipelines.sessions.splits import describe_empty
from data_pipelines.sessions.vocabulary import Vocabulary
from hiertcn_jax.batch import FIRST_ITEM_ID


def write_records(stages: Stages, directory: Path) -> None:
    """Writes the histories, users sorted by id."""
    ids = [pl.read_parquet(stages.path(number, "users")) for number in range(stages.parts)]
    users = pl.concat([frame.with_columns(part=pl.lit(number)) for number, frame in enumerate(ids)])
    users = users.sort("user_id").with_row_index("place")
    for number in range(stages.parts):
        own = users.filter(pl.col("part") == number)
        own.select("place").write_parquet(stages.path(number, "places"))
    with stages.pipeline() as pipeline:
        (
            stages.each_part(pipeline)
            | beam.FlatMap(_records, stages, RECORDS_PER_SHARD)
            | beam.GroupByKey()
            | beam.Map(_write_shard, stages.work)
        )
    shards = -(-len(users) // RECORDS_PER_SHARD)
    join_histories(directory, [stages.work / f"shard-{number}" for number in range(shards)])


def sum_counts(stages: Stages, vocabulary: Vocabulary) -> dict[str, Any]:
    """The manifest's counts. With impressions, "impressions" holds the counts for their report.

    Raises:
      DataError: A part of the data is left empty.
    """
    total: dict[str, Any] = {}
    for number in range(stages.parts):
        _add(total, read_json(stages.path(number, "counts")))
    total["items"] = vocabulary.fitted_size - FIRST_ITEM_ID
    total["later_items"] = vocabulary.size - vocabulary.fitted_size
    for split in Split:
        if not total["splits"][split.name.lower()]["sessions"]:
            raise DataError(
                describe_empty(
                    split, stages.config.split_options(), total["sessions"], total["users"]
                )
            )
    return total


def _records(number: int, stages: Stages, shard: int) -> Iterator[tuple[int, tuple[int, History]]]:
    part = stages.filtered(number)
    dataset = part_dataset(part, stages.split, Vocabulary.load(stages.work))
    counts = dataset.counts()
    if stages.config.impressions:
        shown = encode_impressions([stages.impressions(number)], part.log)
        dataset, counts["impressions"] = add_impressions(
            dataset, part.events, shown, stages.config.impression_options()
        )
    write_json(counts, stages.path(number, "counts"))
    ranks = pl.read_parquet(stages.path(number, "places"))["place"]
    for rank, history in zip(ranks, dataset.histories(), strict=True):
        yield rank // shard, (rank, history)


def _write_shard(grouped: tuple[int, Iterable[tuple[int, History]]], work: Path) -> None:
    number, records = grouped
    directory = work / f"shard-{number}"
    # A runner may repeat its work.
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    ordered = sorted(records, key=lambda record: record[0])
    write_histories(directory, (history for _, history in ordered))


def _add(total: dict[str, Any], more: dict[str, Any]) -> None:
    """Adds numbers in place, also in nested dicts."""
    for name, value in more.items():
        if isinstance(value, dict):
            _add(total.setdefault(name, {}), value)
        else:
            total[name] = total.get(name, 0) + value
