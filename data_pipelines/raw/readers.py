"""Reads log files: delimited text or JSON lines, compressed or not, and Parquet; one or many."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.bad_rows import BadRows
from data_pipelines.raw.byte_streams import name_of
from data_pipelines.raw.delimited import DelimitedFile, TextFormat
from data_pipelines.raw.drops import Drop
from data_pipelines.raw.headers import require_columns
from data_pipelines.raw.ingest import RawRows, ReadOptions, collect_log
from data_pipelines.raw.json_lines import json_frames
from data_pipelines.raw.log import Log
from data_pipelines.raw.log_facts import LogFacts
from data_pipelines.raw.parquet import read_parquet
from data_pipelines.raw.paths import expand_paths, file_type

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}

_JSON_LINES = (".jsonl", ".ndjson", ".json")

_OTHER_TYPES = (".parquet", ".xlsx", ".xls", ".orc", ".avro", ".feather")
"""Never delimited text, whatever the flags."""

_RECBOLE_TYPE = re.compile(":(token|float)(_seq)?$")
"""RecBole appends the type to a column's name: user_id:token."""


def read_files(
    paths: Sequence[str], options: ReadOptions, earlier: LogFacts | None = None
) -> tuple[Log, list[Drop]]:
    """Reads the files of a log, one after the other.

    Args:
      paths: Files, directories, or patterns such as "log/part-*.parquet", see
        `paths.expand_paths`. The name decides the type.
      options: How to read them.
      earlier: See `collect_log`.

    Returns:
      The events in the order of the input, and what was dropped for which reason.

    Raises:
      DataError: A file is missing, empty, has a header only, has an unknown type, cannot be
        unzipped or parsed, or lacks a column; a row is unusable and `options.on_bad_row` is
        `error`; no rows are left.
    """
    bad_rows = BadRows(options.on_bad_row)
    frames = read_frames(paths, options.needed(), options.text, bad_rows)
    return collect_log(frames, options, bad_rows, earlier)


def read_frames(
    paths: Sequence[str],
    columns: list[str],
    text: TextFormat,
    bad_rows: BadRows,
    lists: bool = False,
) -> Iterator[RawRows]:
    """Yields the raw rows of files, one after the other.

    Args:
      paths: As for `read_files`.
      columns: Those to read, each once.
      text: The format of text files.
      bad_rows: What to do with rows of a text file that cannot be parsed.
      lists: Whether columns of Parquet files may hold lists.

    Raises:
      DataError: As `read_files`, for faults of a file.
    """
    for file in expand_paths(paths):
        yield from _rows(file, columns, text, bad_rows, lists)


def _rows(
    file: Path, columns: list[str], text: TextFormat, bad_rows: BadRows, lists: bool
) -> Iterator[RawRows]:
    """The raw rows of one file."""
    name = Path(name_of(file))
    suffix = file_type(name)
    if text.names and suffix in (".parquet", *_JSON_LINES):
        raise DataError(
            f"{file}: --columns names the columns of text without a header, but this file names "
            "its own; leave --columns out"
        )
    if suffix == ".parquet" and file.suffix.lower() == ".parquet":
        return (RawRows(str(file), frame, True) for frame in _parquet(file, columns, lists))
    if suffix in _JSON_LINES:
        frames = json_frames(file, columns, text.encoding, bad_rows)
        return (RawRows(str(file), frame, True) for frame in frames)
    separator = text.separator or _SEPARATORS.get(suffix)
    if separator is None or suffix in _OTHER_TYPES:
        hint = "" if suffix in _OTHER_TYPES else "; other text needs --separator"
        raise DataError(
            f"{file}: unknown file type; expected .csv, .tsv, .inter, .jsonl (or these with .gz, "
            f".bz2, .xz, .zst, .zip) or .parquet{hint}"
        )
    delimited = DelimitedFile(file, dataclasses.replace(text, separator=separator), bad_rows)
    if suffix == ".inter":
        delimited.columns = [_RECBOLE_TYPE.sub("", column) for column in delimited.columns]
    require_columns(str(file), delimited.columns, columns)
    return (RawRows(str(file), frame, False) for frame in delimited.frames(columns))


def _parquet(file: Path, columns: list[str], lists: bool) -> Iterator[pl.DataFrame]:
    frame = read_parquet(
        file, columns, lambda found: require_columns(str(file), found, columns), lists, octets=True
    )
    if frame.is_empty():
        raise DataError(f"{file}: no rows in it; leave the file out")
    yield frame.with_columns(row=pl.int_range(1, pl.len() + 1, dtype=pl.Int64))
