"""What is known of the items besides their ids: titles, for people, and other columns.

`prepare --items` reads a table with a row for each item, and keeps those of the catalogue, in the
order of its rows. An item that the table lacks has no title; of rows with one id the first counts;
rows of other items are left out. All of this is counted.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from data_pipelines.errors import DataError
from data_pipelines.raw.ids import is_id, without_fraction
from data_pipelines.raw.parquet import read_parquet
from data_pipelines.raw.text_rows import is_utf8
from data_pipelines.sessions.vocabulary import Vocabulary
from hiertcn_jax.batch import FIRST_ITEM_ID

FILE_NAME = "items.parquet"

_ID, _TITLE = "item_id", "title"

_EXACT = 2**53
"""Up to this, every whole number has its own float."""


@dataclasses.dataclass(frozen=True)
class ItemColumns:
    """Which columns of the table have a meaning.

    Attributes:
      item: The ids.
      title: The titles.
    """

    item: str
    title: str


def write_items(
    directory: Path, path: str, columns: ItemColumns, vocabulary: Vocabulary
) -> dict[str, Any]:
    """Writes items.parquet: item_id, title and the other columns, a row for each item.

    Args:
      directory: Where.
      path: The table: .parquet, .csv, .tsv or .jsonl.
      columns: Which are what.
      vocabulary: The catalogue.

    Returns:
      The manifest's `items`: rows of the table; items of the catalogue with a title; items without;
      rows of items outside the catalogue; rows whose id came before; rows without an id.

    Raises:
      DataError: The table is missing or not readable, or lacks a column.
    """
    table = _with_names(Path(path), _read(Path(path), columns), columns)
    ids = _as_text(path, table[_ID], columns.item)
    if vocabulary.id_type != "string":
        ids = without_fraction(ids)
    without_id = ids.is_null() | (ids == "")
    table = table.with_columns(ids.alias(_ID)).filter(~without_id)
    is_first = table[_ID].is_first_distinct()
    repeated, table = int((~is_first).sum()), table.filter(is_first)
    row_n = vocabulary.encode(table[_ID])
    is_item_n = row_n >= FIRST_ITEM_ID
    place_v = np.full(vocabulary.size, len(table), np.int64)
    place_v[row_n[is_item_n]] = np.flatnonzero(is_item_n)
    place = pl.Series(place_v[FIRST_ITEM_ID:]).replace(len(table), None)
    rows = np.arange(FIRST_ITEM_ID, vocabulary.size)
    known = table.drop(_ID).select(pl.all().gather(place))
    known = known.with_columns(pl.col(_TITLE).str.strip_chars().replace("", None))
    known.insert_column(0, pl.Series(_ID, vocabulary.decode(rows)))
    known.write_parquet(directory / FILE_NAME)
    titled = len(known) - known[_TITLE].null_count()
    return {
        "rows": len(ids),
        "titled": titled,
        "untitled": len(known) - titled,
        "unknown": int((~is_item_n).sum()),
        "repeated": repeated,
        "without_id": int(without_id.sum()),
    }


def read_items(directory: Path, vocabulary: Vocabulary) -> pl.DataFrame | None:
    """The items of a vocabulary, as `write_items` wrote them; None without titles.

    Raises:
      DataError: The file is damaged, or not of this catalogue.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        return None

    def check_header(found: list[str]) -> None:
        if found[:2] != [_ID, _TITLE]:
            raise DataError(f"{path}: expected the columns item_id, title; prepare it again")

    frame = read_parquet(path, pq.read_schema(path).names, check_header)
    # Items that only valid and test have come after those of the vocabulary that is fitted.
    frame = frame.head(len(vocabulary.item_ids))
    if not frame[_ID].cast(pl.String).equals(vocabulary.item_ids):
        raise DataError(f"{path}: holds other items than vocabulary.parquet; prepare it again")
    return frame


def items_line(report: dict[str, Any]) -> str:
    """What `prepare` prints of the table."""
    others = {
        "of other items": report["unknown"],
        "repeat an id": report["repeated"],
        "have no id": report["without_id"],
    }
    left_out = ", ".join(f"{rows:,} {what}" for what, rows in others.items() if rows)
    line = (
        f"titles: {report['titled']:,} of {report['titled'] + report['untitled']:,} items have one"
    )
    return f"{line}; of {report['rows']:,} rows of --items {left_out}" if left_out else line


def _read(path: Path, columns: ItemColumns) -> pl.DataFrame:
    if not path.is_file():
        raise DataError(f"items={path}: {'is a directory' if path.is_dir() else 'no such file'}")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path, columns)
    try:
        if suffix in (".csv", ".tsv"):
            separator = "," if suffix == ".csv" else "\t"
            # As text: an id such as 007 stays as it is.
            return pl.read_csv(path, separator=separator, infer_schema=False)
        if suffix == ".jsonl":
            return pl.read_ndjson(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"{path}: not readable as {suffix}: {reason}") from error
    raise DataError(f"items={path}: must end with .parquet, .csv, .tsv or .jsonl")


def _read_parquet(path: Path, columns: ItemColumns) -> pl.DataFrame:
    names: list[str] = []

    def check_header(found: list[str]) -> None:
        _require_columns(path, found, columns)
        names.extend(found)

    wanted = [columns.item, columns.title]
    read_parquet(path, wanted, check_header, octets=True)
    return read_parquet(path, names, lambda _: None, lists=True, octets=True)


def _require_columns(path: Path, found: Sequence[str], columns: ItemColumns) -> None:
    """Checks that the columns are there, and that none has the name of another's role."""
    for flag, name in (("item_id_column", columns.item), ("item_title_column", columns.title)):
        if list(found).count(name) != 1:
            raise DataError(
                f"{path}: no column {name!r} ({flag}), got {', '.join(found)}; name it by --{flag}"
            )
    for name, role in ((_ID, columns.item), (_TITLE, columns.title)):
        if name != role and name in found and name not in (columns.item, columns.title):
            raise DataError(
                f"{path}: column {name!r}: the result has one of that name too; rename or drop it"
            )


def _with_names(path: Path, table: pl.DataFrame, columns: ItemColumns) -> pl.DataFrame:
    _require_columns(path, table.columns, columns)
    if table[columns.title].dtype.is_nested():
        kind = table[columns.title].dtype
        raise DataError(
            f"{path}: column {columns.title!r}: expected text, numbers or times, got {kind}"
        )
    title = table[columns.title].cast(pl.String, strict=False).alias(_TITLE)
    ids = table[columns.item].alias(_ID)
    others = [one for one in table if one.name not in (columns.item, columns.title)]
    return pl.DataFrame([ids, title, *others])


def _as_text(path: str, ids: pl.Series, column: str) -> pl.Series:
    """Ids of the types that a log may have, as text.

    Raises:
      DataError: They have another type, or are numbers that are not whole.
    """
    expected = f"{path}: column {column!r}: expected text or whole numbers"
    if ids.dtype == pl.Binary:
        if not all(map(is_utf8, ids.unique().drop_nulls())):
            raise DataError(f"{expected}, got bytes that are not UTF-8")
    elif ids.dtype.is_float() or ids.dtype.is_decimal():
        # Programs write whole numbers with a missing value among them as floats.
        numbers = ids.cast(pl.Float64).fill_nan(None)
        if not ((numbers == numbers.floor()) & (numbers.abs() <= _EXACT)).fill_null(True).all():
            raise DataError(f"{expected} of at most 2^53")
        ids = numbers.cast(pl.Int64)
    elif not is_id(ids.dtype):
        raise DataError(f"{expected}, got {ids.dtype}")
    return ids.cast(pl.String)
