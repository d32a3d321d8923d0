"""Stages that count over the whole log: the items that filters drop, and the vocabulary."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import polars as pl

from data_pipelines.beam.stages import Stages, read_json, write_json
from data_pipelines.embeddings.item_ids import read_listed
from data_pipelines.errors import DataError
from data_pipelines.raw.drops import Drop
from data_pipelines.sessions.filters import describe_nothing, user_rules
from data_pipelines.sessions.log_report import identical_rows
from data_pipelines.sessions.overlaps import Merged
from data_pipelines.sessions.parts import item_counts, split_counts
from data_pipelines.sessions.vocabulary import ItemCounts, Vocabulary, build_vocabulary


def find_dropped_items(stages: Stages) -> None:
    """Finds the items to drop, round by round, until a round finds none."""
    least = stages.config.min_item_events
    if least == 1:
        _write_dropped([], stages.next_round())
        return
    while True:
        path = stages.next_round()
        with stages.pipeline() as pipeline:
            (
                stages.each_part(pipeline)
                | beam.FlatMap(_item_counts, stages)
                | beam.CombinePerKey(sum)
                | beam.Filter(lambda item: item[1] < least)
                | beam.Keys()
                | beam.combiners.ToList()
                | beam.Map(_write_dropped, path)
            )
        none = not len(pl.read_parquet(path))
        if none and len(stages.dropped_items()) > 1:
            path.unlink()
            return


def count(stages: Stages) -> None:
    """Counts what the vocabulary and the manifest need."""
    with stages.pipeline() as pipeline:
        counted = stages.each_part(pipeline) | beam.FlatMap(_counts, stages).with_outputs(
            "items", main="stages"
        )
        (
            counted.items
            | "SumItems" >> beam.CombinePerKey(_add_counts)
            | "Items" >> beam.combiners.ToList()
            | "WriteItems" >> beam.Map(_write_counts, stages.work / "items.parquet")
        )
        (
            counted.stages
            | beam.Distinct()
            | beam.Map(lambda stage: (stage[0], 1))
            | "SumStages" >> beam.CombinePerKey(sum)
            | "Stages" >> beam.combiners.ToList()
            | "WriteStages" >> beam.Map(write_json, stages.work / "stages.json")
        )


def sum_merged(stages: Stages) -> Merged:
    """Sums the counts of overlapping sessions over all parts."""
    reports = [read_json(stages.path(number, "report")) for number in range(stages.parts)]
    sums = {
        field.name: sum(report["merged"][field.name] for report in reports)
        for field in dataclasses.fields(Merged)
    }
    return Merged(**sums)


def count_identical(stages: Stages) -> int:
    """Counts the events, over all parts, that repeat an earlier one."""
    return sum(
        read_json(stages.path(number, "report"))["identical"] for number in range(stages.parts)
    )


def filter_drops(stages: Stages) -> tuple[int, list[Drop]]:
    """Number of events that `collapse_repeats` dropped, and what each filter dropped.

    Raises:
      DataError: Nothing is left.
    """
    names = [f"min_item_events={stages.config.min_item_events}"]
    names += list(user_rules(stages.config.filter_options()))
    items_at = {tuple(stage): items for stage, items in read_json(stages.work / "stages.json")}
    sums = {name: np.zeros(3, np.int64) for name in names}
    collapsed, events = 0, 0
    for number in range(stages.parts):
        report = read_json(stages.path(number, "report"))
        collapsed, events = collapsed + report["collapsed"], events + report["events"]
        for name, both in report["dropped"].items():
            sums[name][:2] += both
    before = items_at.get((0, 0), 0)
    for number in range(len(stages.dropped_items())):
        for rule_number, name in enumerate(names, 1):
            after = items_at.get((number, rule_number), 0)
            sums[name][2] += before - after
            before = after
    drops = [Drop(name, *sums[name].tolist()) for name in names if sums[name][0]]
    if not events:
        raise DataError(describe_nothing(drops))
    return collapsed, drops


def make_vocabulary(stages: Stages) -> Vocabulary:
    """Builds the vocabulary of the whole log.

    Raises:
      DataError: The file of the catalogue cannot be used.
    """
    counts = pl.read_parquet(stages.work / "items.parquet").sort("item_id")
    catalogue = stages.config.catalogue
    listed = None if catalogue is None else read_listed(catalogue)
    columns = (counts[name].to_numpy() for name in ("train", "valid", "first_seen"))
    vocabulary, _ = build_vocabulary(
        ItemCounts(counts["item_id"], *columns), listed, stages.facts.ids_of("item_id")
    )
    vocabulary.save(stages.work)
    return vocabulary


def _item_counts(number: int, stages: Stages) -> Iterator[tuple[str, int]]:
    return item_counts(stages.filtered(number), stages.split.valid_after_ms).iter_rows()


def _counts(number: int, stages: Stages) -> Iterator[Any]:
    part = stages.filtered(number)
    items, users, too_short = split_counts(part, stages.split)
    users.rename("user_id").to_frame().write_parquet(stages.path(number, "users"))
    report = {
        "collapsed": part.collapsed,
        "identical": identical_rows(part.log),
        "merged": dataclasses.asdict(part.merged),
        "dropped": part.dropped,
        "events": len(part.events),
        "users_too_short": too_short,
    }
    write_json(report, stages.path(number, "report"))
    for item, *counts in items.iter_rows():
        yield beam.pvalue.TaggedOutput("items", (item, tuple(counts)))
    for stage, ids in part.items.items():
        for item in ids:
            yield stage, item


def _add_counts(counts: Iterable[tuple[int, int, int]]) -> tuple[int, int, int]:
    train, valid, first_seen = zip(*counts, strict=True)
    return sum(train), sum(valid), min(first_seen)


def _write_dropped(items: list[str], path: Path) -> None:
    pl.DataFrame({"item_id": sorted(items)}, schema={"item_id": pl.String}).write_parquet(path)


def _write_counts(items: list[tuple[str, tuple[int, int, int]]], path: Path) -> None:
    rows = [(item, *counts) for item, counts in items]
    schema = {"item_id": pl.String, **dict.fromkeys(("train", "valid", "first_seen"), pl.Int64)}
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(path)
