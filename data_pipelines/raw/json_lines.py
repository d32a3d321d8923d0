"""Reads JSON lines block by block; checks single lines if a block cannot be read."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.bad_rows import SKIP_HINT, BadRows
from data_pipelines.raw.byte_streams import read_pieces
from data_pipelines.raw.headers import require_columns

BLOCK_BYTES = 16 << 20
"""Bytes read at once. No line may be longer."""

_INFERRED_LINES = 1_000


def json_frames(
    path: Path, columns: list[str], encoding: str, bad_rows: BadRows
) -> Iterator[pl.DataFrame]:
    """Yields the rows of each block: `columns`, `row` and `line` as Int64, both from 1.

    Columns have the types of the first lines of a block, or text if those differ.

    Raises:
      DataError: The file is empty or cannot be decompressed; a line is no object and the action is
        `error`; none of the first lines has a column.
    """
    line, row = 0, 0
    for block in _blocks(path, encoding):
        lines = [(line + number, text) for number, text in enumerate(block, 1) if text.strip()]
        line += len(block)
        if not lines:
            continue
        if row == 0:
            head = _parsed([text for _, text in lines[:_INFERRED_LINES]], None)
            if head is not None:
                require_columns(str(path), head.columns, columns)
        numbered = [(row + number, *both) for number, both in enumerate(lines, 1)]
        row += len(lines)
        yield _frame(path, numbered, columns, bad_rows)
    if row == 0:
        raise DataError(f"{path}: the file is empty; expected one JSON object per line")


def _blocks(path: Path, encoding: str) -> Iterator[list[bytes]]:
    rest = b""
    for piece in read_pieces(path, BLOCK_BYTES, encoding):
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > BLOCK_BYTES:
            raise DataError(f"{path}: a line is longer than {BLOCK_BYTES} bytes; is it JSON lines?")
        if whole:
            yield whole
    if rest:
        yield [rest]


def _frame(
    path: Path, numbered: list[tuple[int, int, bytes]], columns: list[str], bad_rows: BadRows
) -> pl.DataFrame:
    texts = [text for _, _, text in numbered]
    as_text: dict[str, pl.DataType] = dict.fromkeys(columns, pl.String())
    frame = _parsed(texts, _inferred(texts, columns))
    if frame is None:
        # Some lines are no objects; or a later number is text, or has a fraction.
        bad = np.array([_parsed([text], as_text) is None for text in texts])

        def describe_first() -> str:
            row, line, text = numbered[int(np.argmax(bad))]
            shown = text[:80].decode("utf-8", "replace")
            where = f"{path}: row {row} (line {line})"
            return f"{where}: expected a JSON object, got {shown!r}{SKIP_HINT}"

        bad_rows.report("no JSON object", int(bad.sum()), describe_first)
        numbered = [one for one, is_bad in zip(numbered, bad.tolist(), strict=True) if not is_bad]
        texts = [text for _, _, text in numbered]
        frame = _parsed(texts, _inferred(texts, columns))
        frame = _parsed(texts, as_text) if frame is None else frame
        if frame is None:
            raise AssertionError(f"{path}: lines that are read one by one, but not together")
    return frame.with_columns(
        row=pl.Series([row for row, _, _ in numbered], dtype=pl.Int64),
        line=pl.Series([line for _, line, _ in numbered], dtype=pl.Int64),
    )


def _inferred(texts: list[bytes], columns: list[str]) -> dict[str, pl.DataType]:
    """The types of columns in the first lines; text if they have none."""
    head = _parsed(texts[:_INFERRED_LINES], None)
    found = {} if head is None else dict(head.schema)
    types = {name: found.get(name, pl.Null()) for name in columns}
    return {name: pl.String() if dtype == pl.Null else dtype for name, dtype in types.items()}


def _parsed(texts: list[bytes], schema: dict[str, pl.DataType] | None) -> pl.DataFrame | None:
    """The objects in lines; None if polars does not find one in each."""
    if not texts:
        return pl.DataFrame(schema=schema)
    if any(not text.strip().startswith(b"{") for text in texts):
        return None
    try:
        frame = pl.read_ndjson(io.BytesIO(b"\n".join(texts)), schema=schema)
    except pl.exceptions.PolarsError:
        return None
    return frame if len(frame) == len(texts) else None
