"""Log files: CSV, TSV (gzipped or not) and Parquet, one or many."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.bad_rows import BadRows
from data_pipelines.raw.delimited import DelimitedFile
from data_pipelines.raw.drops import Drop
from data_pipelines.raw.ingest import RawRows, ReadOptions, collect_log, require_columns
from data_pipelines.raw.log import Log
from data_pipelines.raw.parquet import read_parquet
from data_pipelines.raw.paths import expand_paths

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_files(paths: Sequence[str], options: ReadOptions) -> tuple[Log, list[Drop]]:
    """Reads the files of a log, one after the other.

    Args:
      paths: Files, directories, or patterns such as "log/part-*.parquet", see
        `paths.expand_paths`. The type goes by the name: .csv, .tsv, either with .gz, or .parquet.
      options: How to read them.

    Returns:
      The events in the order of the input, and what was dropped for which reason.

    Raises:
      DataError: A file is missing, empty, has a header only, is of an unknown type, cannot be
        unzipped or parsed, or lacks a column; a row cannot be used and `options.on_bad_row` is
        `error`; no rows are left.
    """
    bad_rows = BadRows(options.on_bad_row)
    frames = read_frames(paths, options.needed(), options.separator, bad_rows)
    return collect_log(frames, options, bad_rows)


def read_frames(
    paths: Sequence[str],
    columns: list[str],
    separator: str | None,
    bad_rows: BadRows,
    lists: bool = False,
) -> Iterator[RawRows]:
    """Yields the raw rows of files, one after the other.

    Args:
      paths: As for `read_files`.
      columns: Those to read, each once.
      separator: Between the fields of a text file; None: comma in .csv, tab in .tsv.
      bad_rows: What to do with rows of a text file that cannot be parsed.
      lists: Whether columns of Parquet files may hold lists.

    Raises:
      DataError: As `read_files`, for what is wrong with a file.
    """
    for file in expand_paths(paths):
        yield from _rows(file, columns, separator, bad_rows, lists)


def _rows(
    file: Path, columns: list[str], separator: str | None, bad_rows: BadRows, lists: bool
) -> Iterator[RawRows]:
    """The raw rows of one file."""
    suffix = Path(file.name.removesuffix(".gz")).suffix.lower()
    if suffix in _SEPARATORS:
        text_file = DelimitedFile(file, separator or _SEPARATORS[suffix], bad_rows)
        require_columns(str(file), text_file.columns, columns)
        return (RawRows(str(file), frame, False) for frame in text_file.frames(columns))
    if file.suffix.lower() == ".parquet":
        return (RawRows(str(file), frame, True) for frame in _parquet(file, columns, lists))
    raise DataError(f"{file}: unknown file type; expected .csv, .tsv, .csv.gz, .tsv.gz or .parquet")


def _parquet(file: Path, columns: list[str], lists: bool) -> Iterator[pl.DataFrame]:
    frame = read_parquet(
        file, columns, lambda found: require_columns(str(file), found, columns), lists, octets=True
    )
    if frame.is_empty():
        raise DataError(f"{file}: no rows in it")
    yield frame.with_columns(row=pl.int_range(1, pl.len() + 1, dtype=pl.Int64))
