"""Reads files that name the item of each row of an embedding file."""

from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.parquet import read_parquet

COLUMN = "item_id"


def read_item_ids(path: Path | str) -> pl.Series:
    """The ids in a file, in its order, as text.

    Args:
      path: .txt with one id per line, or .parquet with a column `item_id` of text or integers, such
        as `vocabulary.parquet` of a prepared directory.

    Raises:
      DataError: The file is missing, has another type, or is not readable; an id is empty or occurs
        twice.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix == ".parquet":
        item_ids, place = _from_parquet(path), "row"
    elif path.suffix == ".txt":
        item_ids, place = _from_lines(path), "line"
    else:
        raise DataError(f"{path}: unknown file type; expected .txt or .parquet")
    item_ids = item_ids.fill_null("")
    for is_bad, problem in (
        (item_ids == "", "the id is empty"),
        (~item_ids.is_first_distinct(), "occurs twice"),
    ):
        if is_bad.any():
            bad = int(np.argmax(is_bad))
            shown = f"{item_ids[bad]!r} " if item_ids[bad] else ""
            raise DataError(f"{path}: {place} {bad + 1}: {shown}{problem}")
    return item_ids


def _from_parquet(path: Path) -> pl.Series:
    def check_header(found: list[str]) -> None:
        if found.count(COLUMN) != 1:
            raise DataError(f"{path}: expected one column {COLUMN!r}, got {', '.join(found)}")

    item_ids = read_parquet(path, [COLUMN], check_header)[COLUMN]
    if not (item_ids.dtype.is_integer() or item_ids.dtype in (pl.String, pl.Categorical)):
        raise DataError(f"{path}: column {COLUMN!r}: expected text or integers")
    return item_ids.cast(pl.String)


def _from_lines(path: Path) -> pl.Series:
    try:
        # No text contains this separator, so each line is one column.
        frame = pl.read_csv(
            path,
            has_header=False,
            separator="\x01",
            quote_char=None,
            schema={COLUMN: pl.String},
            raise_if_empty=False,
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"{path}: not readable as lines of text: {reason}") from error
    return frame[COLUMN]
