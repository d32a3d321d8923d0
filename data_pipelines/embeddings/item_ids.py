"""Reads files of ids: the item of each row of an embedding file, users to recommend for."""

from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.parquet import read_parquet

COLUMN = "item_id"


def read_item_ids(path: Path | str) -> pl.Series:
    """The ids of items in a file: `read_ids` with the column `item_id`.

    `vocabulary.parquet` of a prepared directory is such a file.
    """
    return read_ids(path, COLUMN)


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
        ids, place = _from_parquet(path, column), "row"
    elif path.suffix == ".txt":
        ids, place = _from_lines(path, column), "line"
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
            raise DataError(f"{path}: {place} {bad + 1}: {shown}{problem}")
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
