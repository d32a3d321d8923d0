"""Reads a TFDS dataset that is already prepared."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.bad_rows import BadRows
from data_pipelines.raw.drops import Drop
from data_pipelines.raw.headers import require_columns
from data_pipelines.raw.ingest import RawRows, ReadOptions, collect_log
from data_pipelines.raw.log import Log
from data_pipelines.raw.tfds_metadata import require_plain_metadata

_RECORDS_AT_ONCE = 10_000
_RECORDS_OF_RANGE = 1_000_000


class TfdsRange(NamedTuple):
    """Records `start` to `end` - 1 of a split."""

    split: str
    start: int
    end: int


def read_tfds(name: str, data_dir: str | None, options: ReadOptions) -> tuple[Log, list[Drop]]:
    """Reads every split of a prepared TFDS dataset, one event per record.

    TensorFlow is not needed: the dataset is opened from its files, not from its code.

    Args:
      name: Such as "movielens/100k-ratings" or "movielens/100k-ratings:0.1.1".
      data_dir: Directory of datasets; None for the default of TFDS.
      options: How to read it; columns name its features.

    Returns:
      The events, splits by name and records in order, and what was dropped.

    Raises:
      DataError: It is not prepared there, or in a file format without random access; a feature is
        missing; a record is unusable and `options.on_bad_row` is `error`.
    """
    bad_rows = BadRows(options.on_bad_row)
    ranges = tfds_ranges(name, data_dir, options)
    return collect_log(tfds_frames(name, data_dir, ranges, options), options, bad_rows)


def tfds_ranges(name: str, data_dir: str | None, options: ReadOptions) -> list[TfdsRange]:
    """All records of a dataset, in the order of `read_tfds`, in ranges that can be read separately.

    Raises:
      DataError: As `read_tfds`, except for faults of records.
    """
    builder = _opened(name, data_dir, options)
    return [
        TfdsRange(split, start, min(start + _RECORDS_OF_RANGE, records))
        for split in sorted(builder.info.splits)
        for records in [len(_source(builder, name, split))]
        for start in range(0, records, _RECORDS_OF_RANGE)
    ]


def tfds_frames(
    name: str, data_dir: str | None, ranges: Iterable[TfdsRange], options: ReadOptions
) -> Iterator[RawRows]:
    """Yields the records of ranges, as `readers.read_frames` yields rows.

    Raises:
      DataError: As `read_tfds`, except for faults of values.
    """
    builder = _opened(name, data_dir, options)
    for split, start, end in ranges:
        records = _source(builder, name, split)
        for first in range(start, end, _RECORDS_AT_ONCE):
            indices = range(first, min(first + _RECORDS_AT_ONCE, end))
            try:
                read = records.__getitems__(list(indices))
                frame = _frame(read, first, options, builder.info.features)
            except Exception as error:
                raise DataError(
                    f"TFDS dataset {name!r}: split {split!r}: one of the records "
                    f"{first + 1}..{indices[-1] + 1} cannot be read: {_one_line(error)}; "
                    "prepare it again"
                ) from error
            yield RawRows(f"{name} {split}", frame, True)


def _opened(name: str, data_dir: str | None, options: ReadOptions) -> Any:
    """The builder of a dataset that has the features to read."""
    # Slow to import, and not needed for other sources.
    import tensorflow_datasets as tfds

    directory = data_dir or tfds.core.constants.DATA_DIR
    found = Path(directory).expanduser() / name.partition(":")[0]
    for info in sorted(found.rglob("dataset_info.json")):
        require_plain_metadata(info.parent)
    try:
        builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, FileNotFoundError) as error:
        raise DataError(
            f"TFDS dataset {name!r} is not prepared in {directory}; prepare it where TensorFlow is "
            f"installed (tfds build {name} --file_format=array_record), then give --tfds_data_dir"
        ) from error
    # TFDS has no error class for unreadable datasets.
    except Exception as error:
        raise DataError(
            f"TFDS dataset {name!r} cannot be opened: {_one_line(error)}; prepare it again"
        ) from error
    require_columns(f"TFDS dataset {name!r}", list(builder.info.features), options.needed())
    return builder


def _source(builder: Any, name: str, split: str) -> Any:
    """Random access to the records of a split."""
    try:
        return builder.as_data_source(split)
    except Exception as error:
        raise DataError(
            f"TFDS dataset {name!r}: split {split!r} cannot be read without TensorFlow; "
            f"prepare it with --file_format=array_record ({_one_line(error)})"
        ) from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__


def _frame(records: list[dict], start: int, options: ReadOptions, features: Any) -> pl.DataFrame:
    values = {
        name: pl.Series([_plain(record[name]) for record in records]) for name in options.needed()
    }
    frame = pl.DataFrame(
        {
            # TFDS returns them as Python's floats, which have 64 bits.
            name: column.cast(pl.Float32) if _has_32_bits(features[name]) else column
            for name, column in values.items()
        }
    )
    return frame.with_columns(row=pl.int_range(start + 1, start + 1 + pl.len(), dtype=pl.Int64))


def _has_32_bits(feature: Any) -> bool:
    return feature.np_dtype in (np.float32, np.float16)


def _plain(value: object) -> object:
    """Converts TFDS's bytes to text and numpy scalars to Python's."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value.item() if hasattr(value, "item") else value
