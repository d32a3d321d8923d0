"""Reads files of ids: the item of each row of an embedding file, users to recommend for."""

from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.parquet import read_parquet
from data_pipelines.sessions.vocabulary import FROM_THE_START, Listed

COLUMN = "item_id"
_AVAILABLE = "available_from"


def read_item_ids(path: Path | str) -> pl.Series:
    """The ids of items in a file: `read_ids` with the column `item_id`.

    `vocabulary.parquet` of a prepared directory is such a file.
    """
    return read_ids(path, COLUMN)


def read_listed(path: Path | str) -> Listed:
    """The items of a file, to add to a catalogue.

    A Parquet file may have a column `available_from`: from when on each item can be recommended, a
    time or whole seconds since 1970.

    Raises:
      DataError: As for `read_ids`, or a time is missing or none.
    """
    ids = read_item_ids(path)
    if Path(path).suffix != ".parquet" or _AVAILABLE not in pl.read_parquet_schema(path):
        return Listed(ids, np.full(len(ids), FROM_THE_START))
    times = read_parquet(Path(path), [_AVAILABLE], lambda found: None)[_AVAILABLE]
    if times.dtype.is_temporal():
        times = times.cast(pl.Datetime("ms")).dt.epoch("s")
    if not times.dtype.is_integer() or times.null_count() or (times < 0).any():
        raise DataError(
            f"{path}: column {_AVAILABLE!r}: expected times, or whole seconds since 1970, without "
            "nulls"
        )
    return Listed(ids, times.cast(pl.Int64).to_numpy())


def read_ids(path: Path | str, column: str) -> pl.Series:
    """The ids in a file, in its order, as text.

    Args:
      path: .txt with one id per line, or .parquet with a column of text or integers.
      column: Its name.

    Raises:
      DataError: The file is missing, has another type, or is not readable; an id is empty or occurs
        twice.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path")
    if path.suffix == ".parquet":
        ids, unit = _from_parquet(path, column), "row"
    elif path.suffix == ".txt":
        ids, unit = _from_lines(path, column), "line"
    else:
        raise DataError(f"{path}: unknown file type; expected .txt or .parquet")
    ids = ids.fill_null("")
    for is_bad, problem in (
        (ids == "", "the id is empty"),
        (~ids.is_first_distinct(), "occurs twice"),
    ):
        if is_bad.any():
            bad = int(np.argmax(is_bad))
            shown = f"{ids[bad]!r} " if ids[bad] else ""
            raise DataError(f"{path}: {unit} {bad + 1}: {shown}{problem}")
    return ids


def _from_parquet(path: Path, column: str) -> pl.Series:
    def check_header(found: list[str]) -> None:
        if found.count(column) != 1:
            raise DataError(f"{path}: expected one column {column!r}, got {', '.join(found)}")

    ids = read_parquet(path, [column], check_header)[column]
    if not (ids.dtype.is_integer() or ids.dtype in (pl.String, pl.Categorical)):
        raise DataError(f"{path}: column {column!r}: expected text or integers")
    return ids.cast(pl.String)


def _from_lines(path: Path, column: str) -> pl.Series:
    try:
        # No text contains this separator, so each line is one column.
        frame = pl.read_csv(
            path,
            has_header=False,
            separator="\x01",
            quote_char=None,
            schema={column: pl.String},
            raise_if_empty=False,
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"{path}: not readable as lines of text: {reason}") from error
    return frame[column]
