"""Prepares a log on many machines: an Apache Beam pipeline with the result of a single machine.

    python -m data_pipelines.prepare --input=... --output_dir=D --runner=FlinkRunner

A hash of the user assigns the log and its impressions to parts, and each part goes through the
functions of a single machine. Beam counts what depends on the whole log; item counts and user ids
pass through this process. Files between the stages lie beside D, so all workers must see its disk.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from data_pipelines.beam.counts import (
    count,
    count_identical,
    filter_drops,
    find_dropped_items,
    make_vocabulary,
    sum_merged,
)
from data_pipelines.beam.cuts import find_cuts
from data_pipelines.beam.read import read_impressions, read_log
from data_pipelines.beam.records import sum_counts, write_records
from data_pipelines.beam.stages import Stages, number_of_parts
from data_pipelines.config import PrepareConfig
from data_pipelines.embeddings.svd_embeddings import write_svd_embeddings
from data_pipelines.errors import DataError
from data_pipelines.histories.content_hash import hash_histories
from data_pipelines.histories.events import blocks_of
from data_pipelines.histories.store import open_histories
from data_pipelines.impressions.negatives import impression_report
from data_pipelines.raw.drops import Drop
from data_pipelines.sessions.log_report import LogReport, id_types
from data_pipelines.sessions.splits import split_report


def prepare_with_beam(config: PrepareConfig, directory: Path) -> tuple[list[Drop], dict[str, Any]]:
    """Prepares a log by a pipeline.

    Args:
      config: What to prepare.
      directory: Receives the vocabulary, the histories and, if asked for, item embeddings.

    Returns:
      What was dropped, and the manifest's content hash, counts, merged sessions and report of
      impressions.

    Raises:
      DataError: The data cannot be used, or the pipeline failed; the message is one line.
    """
    work = directory / ".parts"
    work.mkdir()
    try:
        return _prepare(config, directory, work)
    except (DataError, OSError):
        raise
    # The runner wraps a worker's error in its own.
    except Exception as error:
        raise DataError(f"runner={config.runner}: {_cause(error)}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _prepare(
    config: PrepareConfig, directory: Path, work: Path
) -> tuple[list[Drop], dict[str, Any]]:
    stages = Stages(config, work, number_of_parts(config), config.split_options())
    drops, rows, facts = read_log(stages)
    stages = dataclasses.replace(stages, facts=facts)
    # Before any filter, because filters look only at what is before the first cut.
    stages = dataclasses.replace(stages, split=find_cuts(stages))
    find_dropped_items(stages)
    count(stages)
    collapsed, dropped_by_filters = filter_drops(stages)
    vocabulary = make_vocabulary(stages)
    vocabulary.save(directory)
    lists_dropped = read_impressions(stages) if config.impressions else {}
    write_records(stages, directory)
    counts = sum_counts(stages, vocabulary)
    report: dict[str, Any] = {"merged_sessions": dataclasses.asdict(sum_merged(stages))}
    if config.impressions:
        report["impressions"] = impression_report(
            counts.pop("impressions"), lists_dropped, config.impression_options()
        )
    histories = open_histories(directory, vocabulary.size)
    if config.svd_embeddings:
        in_order = (history for _, block in blocks_of(histories) for history in block)
        cut = stages.split.valid_after_ms
        write_svd_embeddings(
            directory, in_order, vocabulary, config.svd_embeddings, cut and cut // 1000
        )
    log_report = LogReport(vocabulary)
    report |= {
        "content_hash": hash_histories(work, histories, vocabulary, log_report.add_histories),
        "counts": counts,
        "ids": id_types(facts, vocabulary),
        "log": log_report.result(facts, rows, count_identical(stages)),
    }
    report |= split_report(stages.split)
    if collapsed:
        drops.append(Drop("collapse_repeats", collapsed))
    return drops + dropped_by_filters, report


def _cause(error: BaseException) -> str:
    """The worker's own message, extracted from the runner's."""
    text = str(error)
    _, found, said = text.rpartition("DataError: ")
    return said.partition(" [while running")[0] if found else " ".join(text.split())[-600:]
