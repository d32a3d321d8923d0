"""Reads Parquet files that may be damaged or come from anyone.

Uses Arrow instead of polars, which panics on some damaged files. Arrow also checks the checksums of
pages, if a file has them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.errors import DataError


def read_parquet(
    path: Path,
    columns: Sequence[str],
    check_header: Callable[[list[str]], None],
    lists: bool = False,
    octets: bool = False,
) -> pl.DataFrame:
    """Reads columns of text, numbers or times.

    Args:
      path: The file.
      columns: Those to read, each once.
      check_header: Receives the names of all columns; raises if they are not acceptable.
      lists: Whether a column may also hold lists of them.
      octets: Whether a column may also hold bytes. Bytes of a fixed length become text, two
        hexadecimal digits per byte; UUIDs become their usual text.

    Raises:
      DataError: The file is empty, damaged or no Parquet file, or holds another type.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; expected Parquet")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            check_header(file.schema_arrow.names)
            # Arrow also returns columns whose names continue after a dot.
            table = file.read(columns=list(columns)).select(list(columns))
        table.validate(full=True)
    except DataError:
        raise
    # UnicodeDecodeError: a column's name. Arrow's errors are also KeyError and others.
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        line = str(error).strip().partition("\n")[0]
        raise DataError(f"{path}: not readable as Parquet: {line}; write it again") from error
    fixed = {field.name: field.type for field in table.schema if octets and _is_fixed(field.type)}
    table = pa.table([_storage(column) for column in table.columns], table.schema.names)
    for field in table.schema:
        if not (
            _is_plain(field.type)
            or (lists and _is_plain_list(field.type))
            or (octets and _is_octets(field.type))
        ):
            raise DataError(
                f"{path}: column {field.name!r}: expected text, numbers or times, got {field.type}"
            )
    # Metadata may be any bytes, and polars may not know a time zone.
    bare = pa.schema([pa.field(field.name, _in_utc(field.type)) for field in table.schema])
    frame = pl.from_arrow(table.cast(bare))
    assert isinstance(frame, pl.DataFrame)
    return frame.with_columns(_hexadecimal(name, dtype) for name, dtype in fixed.items())


def _is_fixed(dtype: pa.DataType) -> bool:
    return pa.types.is_fixed_size_binary(dtype) or dtype == pa.uuid()


def _is_octets(dtype: pa.DataType) -> bool:
    types = pa.types
    return (
        types.is_binary(dtype)
        or types.is_large_binary(dtype)
        or types.is_binary_view(dtype)
        or types.is_fixed_size_binary(dtype)
    )


def _storage(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column with UUIDs as plain bytes."""
    return column.cast(column.type.storage_type) if column.type == pa.uuid() else column


def _hexadecimal(name: str, dtype: pa.DataType) -> pl.Expr:
    digits = pl.col(name).bin.encode("hex")
    if dtype != pa.uuid():
        return digits
    # 8-4-4-4-12, the usual text of a UUID.
    parts = [digits.str.slice(*span) for span in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
    return pl.concat_str(parts, separator="-").alias(name)


def _is_plain(dtype: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(dtype):
        return _is_plain(dtype.value_type)
    return (
        (types.is_primitive(dtype) and not types.is_duration(dtype))
        or types.is_decimal128(dtype)
        or types.is_null(dtype)
        or types.is_string(dtype)
        or types.is_large_string(dtype)
        or types.is_string_view(dtype)
    )


def _is_plain_list(dtype: pa.DataType) -> bool:
    return (pa.types.is_list(dtype) or pa.types.is_large_list(dtype)) and _is_plain(
        dtype.value_type
    )


def _in_utc(dtype: pa.DataType) -> pa.DataType:
    """The type for the same moments, without the zone in which they are shown."""
    has_zone = pa.types.is_timestamp(dtype) and dtype.tz is not None
    return pa.timestamp(dtype.unit, "UTC") if has_zone else dtype
