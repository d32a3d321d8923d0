"""Prepares a log for training.

    python -m data_pipelines.prepare --input=log.csv --output_dir=D

Reads events (user, item, time) from files, a prepared TFDS dataset or the synthetic generator.
Groups them into sessions, applies the filters, splits into train, valid and test, and writes

    D/manifest.json          what the data contains, what was dropped, the flags
    D/vocabulary.parquet     the catalogue: rows of the item table, ids, counts
    D/log/                   the events as read, for --previous
    D/items.parquet          with --items: titles and other columns
    D/item_embeddings.npy    with --svd_embeddings: those of the catalogue
    D/histories/             a TFDS dataset in ArrayRecord, one record per user

With --previous=D0 the events of --input, which are later than those of D0, are added to D0's; the
result D is what preparing all of them at once gives (docs/continual.md).

D appears complete or not at all. Exit codes: 0 done, 1 failed with one line on standard error, 2
bad flags, 143 and 130 stopped by SIGTERM and SIGINT.
"""

import dataclasses
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from data_pipelines.appending.changed import write_changed
from data_pipelines.appending.earlier import Earlier, why_not_kept
from data_pipelines.appending.fingerprints import fingerprints
from data_pipelines.appending.joining import Joined
from data_pipelines.appending.kept_log import KeptLog, save_kept_log, sorted_for_keeping
from data_pipelines.commands import settings_flags
from data_pipelines.commands.aside import require_vacant, written_aside
from data_pipelines.commands.command import run_command
from data_pipelines.commands.prepare_lines import log_lines
from data_pipelines.config import PrepareConfig
from data_pipelines.embeddings.item_ids import read_listed
from data_pipelines.embeddings.svd_embeddings import write_svd_embeddings
from data_pipelines.errors import DataError
from data_pipelines.histories.manifest import load_manifest, save_manifest
from data_pipelines.histories.prepared_files import describe_files
from data_pipelines.histories.store import write_histories
from data_pipelines.impressions.files import encode_impressions, typed_impressions
from data_pipelines.impressions.negatives import add_impressions, impression_report
from data_pipelines.outputs import check_directory
from data_pipelines.progress import watched
from data_pipelines.raw.bad_rows import BadRows
from data_pipelines.raw.drops import Drop
from data_pipelines.raw.ingest import RawRows, collect_log
from data_pipelines.raw.log import Log
from data_pipelines.raw.log_facts import LogFacts
from data_pipelines.raw.readers import read_files
from data_pipelines.raw.tfds_source import read_tfds
from data_pipelines.raw.times import TimeOptions
from data_pipelines.sessions.dataset import Dataset, build_dataset
from data_pipelines.sessions.filters import apply_filters
from data_pipelines.sessions.item_titles import items_line, read_items, write_items
from data_pipelines.sessions.log_report import LogReport, id_types, identical_rows
from data_pipelines.sessions.sessionize import Events, to_sessions
from data_pipelines.sessions.splits import sessions_of, split_report, with_cuts
from data_pipelines.sessions.vocabulary import Vocabulary
from data_pipelines.synthetic import synthetic_log
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.settings import fields_of


def prepare(config: PrepareConfig, given: Collection[str] = ()) -> dict[str, Any]:
    """Prepares a log.

    Args:
      config: What to prepare.
      given: See `Earlier.settings`.

    Returns:
      The manifest, see `manifest.load_manifest`.

    Raises:
      DataError: The data cannot be used; the message is one line. Nothing is written.
      OSError: The output cannot be written; none of it remains.
    """
    output_dir = Path(config.output_dir)
    check_directory("output_dir", output_dir)
    require_vacant(output_dir)
    earlier = None
    if config.previous is not None:
        earlier = Earlier(Path(config.previous))
        config = earlier.settings(config, given)
    if config.runner is not None:
        return _prepare_with_beam(config, output_dir)
    log, drops = _read(config, earlier)
    joined = None
    if earlier is not None:
        joined = earlier.join(log, config)
        log, drops = joined.log, earlier.drops(drops, joined.late)
    events, collapsed, merged = to_sessions(log, config.gap_minutes, config.collapse_repeats)
    session_drops = [Drop("collapse_repeats", collapsed)] if collapsed else []
    asked = config.split_options()
    split = with_cuts(sessions_of(events), asked)
    if earlier is not None:
        earlier.require_later_cuts(split)
    events, filter_drops = apply_filters(events, config.filter_options(), split.valid_after_ms)
    previous = None
    if earlier is not None:
        earlier.require_users(log, np.unique(events.users))
        previous = earlier.vocabulary
    listed = read_listed(config.catalogue) if config.catalogue and previous is None else None
    dataset = build_dataset(log, events, split, listed, asked, previous)
    report: dict[str, Any] = {
        **split_report(split),
        "merged_sessions": dataclasses.asdict(merged),
        "counts": dataset.counts(),
        "ids": id_types(log.facts, dataset.vocabulary),
        "log": _report_log(log, dataset, earlier, joined),
    }
    if config.impressions:
        dataset, report["impressions"] = _join_impressions(dataset, log, events, config)
    report["content_hash"] = dataset.content_hash()
    with written_aside(output_dir) as beside:
        report |= _write_histories(beside, dataset, earlier, joined)
        dataset.vocabulary.save(beside)
        if why_not_kept(config) is None:
            kept = sorted_for_keeping(log, np.unique(events.users))
            save_kept_log(beside, KeptLog(kept, fingerprints(dataset)))
        if config.svd_embeddings:
            write_svd_embeddings(
                beside,
                dataset.histories(),
                dataset.vocabulary,
                config.svd_embeddings,
                split.valid_after_ms and split.valid_after_ms // 1000,
            )
        _add_items(beside, dataset.vocabulary, report, config)
        _write_manifest(beside, drops + session_drops + filter_drops, report, config)
    return load_manifest(output_dir)


def _write_histories(
    directory: Path, dataset: Dataset, earlier: Earlier | None, joined: Joined | None
) -> dict[str, Any]:
    """Writes the histories; returns what the manifest says of events that were appended."""
    if earlier is None or joined is None:
        users = len(dataset.user_ids)
        write_histories(directory, watched(dataset.histories(), "writing", "users", users))
        return {}
    appended = {
        "events": len(joined.new),
        "duplicates": joined.duplicates,
        "rewritten_histories": write_changed(directory, earlier, dataset),
    }
    return {"ancestors": earlier.ancestors, "appended": appended}


def _prepare_with_beam(config: PrepareConfig, output_dir: Path) -> dict[str, Any]:
    try:
        from data_pipelines.beam.prepare import prepare_with_beam
    except ImportError as error:
        raise DataError(
            f"runner={config.runner}: needs the extra beam: pip install 'hiertcn_jax[beam]' "
            f"({error})"
        ) from error
    with written_aside(output_dir) as beside:
        drops, report = prepare_with_beam(config, beside)
        _add_items(beside, Vocabulary.load(beside), report, config)
        _write_manifest(beside, drops, report, config)
    return load_manifest(output_dir)


def _add_items(
    directory: Path, vocabulary: Vocabulary, report: dict[str, Any], config: PrepareConfig
) -> None:
    """Writes items.parquet if there are titles, and reports them."""
    if config.items is None:
        return
    report["items"] = write_items(directory, config.items, config.item_columns(), vocabulary)
    items = read_items(directory, vocabulary)
    assert items is not None
    for frequent in report["log"]["frequent_items"]:
        row = vocabulary.encode([frequent["id"]])[0] - FIRST_ITEM_ID
        if row >= 0 and items["title"][int(row)] is not None:
            frequent["title"] = items["title"][int(row)]


def _report_log(
    log: Log, dataset: Dataset, earlier: Earlier | None, joined: Joined | None
) -> dict[str, Any]:
    report = LogReport(dataset.vocabulary)
    report.add(
        dataset.user_ids,
        dataset.user_sessions,
        dataset.session_lengths,
        dataset.item_ids,
        dataset.times,
    )
    if earlier is None or joined is None:
        identical = identical_rows(log)
    else:
        identical = earlier.manifest["log"]["identical_rows"] + identical_rows(joined.new)
    return report.result(log.facts, len(log), identical)


def _read(config: PrepareConfig, earlier: Earlier | None) -> tuple[Log, list[Drop]]:
    options = config.read_options()
    if config.input:
        return read_files(config.input, options, None if earlier is None else earlier.facts)
    if config.tfds is not None:
        return read_tfds(config.tfds, config.tfds_data_dir, options)
    frame = synthetic_log(config.synthetic_config()).with_row_index("row", offset=1)
    # Long synthetic histories extend into the future.
    times = TimeOptions(unit="s", allow_odd=True)
    options = dataclasses.replace(
        options, columns=dataclasses.replace(options.columns, times=times)
    )
    return collect_log(iter([RawRows("synthetic log", frame, True)]), options, BadRows("error"))


def _join_impressions(
    dataset: Dataset, log: Log, events: Events, config: PrepareConfig
) -> tuple[Dataset, dict[str, Any]]:
    bad_rows = BadRows(config.on_bad_row)
    frames = typed_impressions(
        config.impressions, config.impression_columns(), config.read_options(), bad_rows, LogFacts()
    )
    options = config.impression_options()
    dataset, counts = add_impressions(dataset, events, encode_impressions(frames, log), options)
    return dataset, impression_report(counts, bad_rows.counts, options)


def _write_manifest(
    directory: Path, drops: Sequence[Drop], report: dict[str, Any], config: PrepareConfig
) -> None:
    manifest = {
        "drops": [dataclasses.asdict(drop) for drop in drops],
        "files": describe_files(directory),
        "flags": dataclasses.asdict(config),
        **report,
    }
    save_manifest(directory, manifest)


def _print_summary(manifest: dict[str, Any], output_dir: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    counts = manifest["counts"]
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), show_edge=False)
    for column in ("part", "users", "sessions", "events", "first", "next", "unknown"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for name, part in counts["splits"].items():
        events = part["events"]
        unknown = part["unknown_items"]["all"]
        cells = (part["users"], part["sessions"], *events.values(), unknown)
        table.add_row(name, *(f"{cell:,}" for cell in cells))
    # rich would read brackets in a path as markup.
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(f"\n{output_dir}\n")
    console.print(table)
    console.print("unknown: events of items not seen in training, which are not scored\n")
    if counts["later_items"]:
        unseen = sum(part["unseen"]["all"] for part in list(counts["splits"].values())[1:])
        console.print(
            f"{counts['later_items']:,} items occur only in valid or test; evaluate "
            f"--catalogue=live scores all but their first events ({unseen:,})\n"
        )
    console.print(
        f"{counts['users']:,} users, {counts['items']:,} items, {counts['sessions']:,} sessions, "
        f"{counts['events']:,} events; {counts['users_too_short']:,} users too short to split"
    )
    for drop in manifest["drops"]:
        console.print(f"dropped by {drop['reason']}: {drop['events']:,} events")
    titles = [items_line(manifest["items"])] if "items" in manifest else []
    lines = (
        log_lines(manifest)
        + _appended_lines(manifest)
        + titles
        + _merged_lines(manifest)
        + _impression_lines(manifest)
    )
    for line in lines:
        console.print(line)
    # One line, to be copied.
    console.print(
        f"\nto train on it: hiertcn train --data_dir={shlex.quote(output_dir)} --workdir=RUN",
        soft_wrap=True,
    )


def _appended_lines(manifest: dict[str, Any]) -> list[str]:
    """A line about appended events, if there are any."""
    if "appended" not in manifest:
        return []
    appended, previous = manifest["appended"], manifest["flags"]["previous"]
    doubles = ""
    if appended["duplicates"]:
        doubles = f"; {appended['duplicates']:,} others are there already, and were left out"
    return [
        f"appended: {appended['events']:,} events to {previous}, "
        f"{appended['rewritten_histories']:,} histories changed{doubles}"
    ]


def _merged_lines(manifest: dict[str, Any]) -> list[str]:
    """A line about merged sessions, if there are any."""
    merged = manifest["merged_sessions"]
    if not merged["sessions"]:
        return []
    hint = (
        ""
        if manifest["flags"]["gap_minutes"] is not None
        else ("; if the log reuses ids after a while, --gap_minutes splits them")
    )
    return [
        f"overlapping sessions: {merged['sessions']:,} of {merged['users']:,} users "
        f"({merged['events']:,} events) became {merged['into']:,}, in order of time{hint}"
    ]


def _impression_lines(manifest: dict[str, Any]) -> list[str]:
    """Lines about the impressions, if there are any."""
    if "impressions" not in manifest:
        return []
    report = manifest["impressions"]
    matched = ", ".join(
        f"{part['matched']:,} of {part['matched'] + part['unmatched']:,} {name}"
        for name, part in report["splits"].items()
    )
    negatives = sum(part["negatives"] for part in report["splits"].values())
    lines = [
        f"impressions: {report['rows_used']:,} of {report['rows']:,} lists match events "
        f"({report['rows_of_other_users']:,} are of other users)",
        f"events with a list: {matched}; {negatives:,} items kept, {report['unknown_items']:,} "
        f"unknown, {report['capped_events']:,} events capped at {report['cap']}",
    ]
    return lines + [
        f"impressions dropped: {rows:,} rows, {reason}" for reason, rows in report["drops"].items()
    ]


class Asked(NamedTuple):
    """What the command line asks for.

    Attributes:
      config: The settings.
      given: The names of those that are on the command line.
    """

    config: PrepareConfig
    given: frozenset[str] = frozenset()


def define_flags() -> None:
    """Defines the flags of this command."""
    settings_flags.define_flags(fields_of(PrepareConfig))


def read_config() -> Asked:
    """What the parsed flags give."""
    names = {field.flag: field.name for field in fields_of(PrepareConfig)}
    given = frozenset(name for flag, name in names.items() if flags.FLAGS[flag].present)
    return Asked(settings_flags.read_settings(PrepareConfig), given)


def main(asked: Asked) -> None:
    """Prepares a log and prints a summary."""
    _print_summary(prepare(*asked), asked.config.output_dir)


if __name__ == "__main__":
    define_flags()
    run_command(read_config, main, (DataError, OSError))
