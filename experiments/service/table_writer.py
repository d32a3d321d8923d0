"""Writes a long table part by part."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import polars as pl

from experiments.runs.files import whole_file


@contextlib.contextmanager
def written_in_parts(path: Path) -> Iterator[Callable[[pl.DataFrame], None]]:
    """A function that adds rows to a table, which appears whole or not at all.

    Args:
      path: .parquet, .csv or .jsonl.

    Raises:
      OSError: It cannot be written.
    """
    with whole_file(path) as aside, contextlib.ExitStack() as stack:
        if path.suffix.lower() == ".parquet":
            yield _parquet(aside, stack)
        else:
            file = stack.enter_context(aside.open("wb"))
            yield _text(file, path.suffix.lower())


def _parquet(aside: Path, stack: contextlib.ExitStack) -> Callable[[pl.DataFrame], None]:
    import pyarrow.parquet

    writer: pyarrow.parquet.ParquetWriter | None = None

    def add(frame: pl.DataFrame) -> None:
        nonlocal writer
        table = frame.to_arrow()
        if writer is None:
            writer = stack.enter_context(pyarrow.parquet.ParquetWriter(aside, table.schema))
        writer.write_table(table)

    return add


def _text(file: BinaryIO, suffix: str) -> Callable[[pl.DataFrame], None]:
    started = False

    def add(frame: pl.DataFrame) -> None:
        nonlocal started
        if suffix == ".csv":
            frame.write_csv(file, include_header=not started)
        else:
            frame.write_ndjson(file)
        started = True

    return add
