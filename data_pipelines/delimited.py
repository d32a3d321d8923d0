"""Delimited text files, block by block, each row checked before it is parsed.

Polars fills missing fields with nulls and does not tell where bytes are not UTF-8. So the rows are
found here first (`text_rows`), the bad ones reported, and polars gets the others.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.bad_rows import BadRows
from data_pipelines.errors import DataError
from data_pipelines.text_rows import TextRows, find_rows

BLOCK_BYTES = 16 << 20
"""Bytes read at once, so that memory does not grow with the file. No row may be longer."""


class DelimitedFile:
    """A CSV or TSV file with a header, gzipped where its name ends in .gz.

    Attributes:
      columns: Names in the header.

    Args:
      path: The file.
      separator: One character of ASCII.
      bad_rows: What to do with rows of the wrong number of fields, or that are not UTF-8.

    Raises:
      DataError: The file is empty, its header is not UTF-8, or it cannot be unzipped.
    """

    def __init__(self, path: Path, separator: str, bad_rows: BadRows) -> None:
        self._path = path
        self._separator = separator
        self._bad_rows = bad_rows
        self.columns = self._header()

    def frames(self, columns: list[str]) -> Iterator[pl.DataFrame]:
        """Yields the rows of each block: `columns` as text, `row` and `line` as Int64.

        Both count from 1: `row` the rows behind the header, `line` the lines of the file. They
        differ by more than the header where there are blank lines, or newlines inside quotes.

        Raises:
          DataError: There are no rows; one is bad and the action is `error`; a quote is never
            closed or stands where none belongs; the file cannot be unzipped.
        """
        row, line, header_rows = 1, 1, 1
        for block, rows, block_lines in self._blocks():
            data_rows = rows[header_rows:] if len(rows) else rows
            row_numbers = row + np.arange(len(data_rows))
            line_numbers = line + data_rows.lines
            is_good = self._check(block, data_rows, row_numbers, line_numbers)
            frame = self._parse(block, data_rows[is_good], columns)
            yield frame.with_columns(
                row=pl.Series(row_numbers[is_good], dtype=pl.Int64),
                line=pl.Series(line_numbers[is_good], dtype=pl.Int64),
            )
            row += len(data_rows)
            line += block_lines
            header_rows = 0
        if row == 1:
            raise DataError(f"{self._path}: no rows behind the header")

    def _header(self) -> list[str]:
        first = next(self._blocks(), None)
        if first is None:
            raise DataError(f"{self._path}: the file is empty; expected a header and rows")
        block, rows, _ = first
        try:
            text = rows[:1].text(block).removeprefix(b"\xef\xbb\xbf").decode("utf-8")
        except UnicodeDecodeError as error:
            got = error.object[error.start : error.start + 1].hex()
            raise DataError(f"{self._path}: header: expected UTF-8, got byte 0x{got}") from error
        return next(csv.reader([text], delimiter=self._separator))

    def _blocks(self) -> Iterator[tuple[bytes, TextRows, int]]:
        """Yields blocks of whole rows with the rows in them and their number of lines."""
        opener = gzip.open if self._path.suffix == ".gz" else open
        rest = b""
        try:
            with opener(self._path, "rb") as file:
                while chunk := file.read(BLOCK_BYTES):
                    rows, used, lines = find_rows(rest + chunk, self._separator)
                    block, rest = (rest + chunk)[:used], (rest + chunk)[used:]
                    self._check_length(rest)
                    if len(rows):
                        yield block, rows, lines
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{self._path}: cannot be unzipped: {error}") from error
        rows, used, lines = find_rows(rest + b"\n", self._separator)
        if used <= len(rest):
            raise DataError(f'{self._path}: a quote (") in the last rows is never closed')
        if len(rows):
            yield rest + b"\n", rows, lines

    def _check_length(self, rest: bytes) -> None:
        if len(rest) > BLOCK_BYTES:
            start = rest[:40].decode("utf-8", "replace")
            raise DataError(
                f'{self._path}: no end to the row that starts {start!r}: is a quote (") not closed?'
            )

    def _check(
        self, block: bytes, rows: TextRows, row_numbers: np.ndarray, line_numbers: np.ndarray
    ) -> np.ndarray:
        """Reports the bad rows of a block; bool [n], true for the good ones."""
        expected = len(self.columns)
        not_utf8 = rows.not_utf8(block)
        is_good = ~not_utf8

        def describe_first(wrong: np.ndarray) -> str:
            first = int(np.argmax(wrong))
            place = f"{self._path}: row {row_numbers[first]} (line {line_numbers[first]})"
            if not_utf8[first]:
                column = self._broken_column(rows[first : first + 1].text(block))
                return f"{place}, column {column!r}: expected UTF-8, got other bytes"
            return f"{place}: expected {expected} fields, got {rows.fields[first]}"

        for reason, wrong in (
            ("not UTF-8", not_utf8),
            ("too few fields", (rows.fields < expected) & ~not_utf8),
            ("too many fields", (rows.fields > expected) & ~not_utf8),
        ):
            self._bad_rows.report(reason, int(wrong.sum()), lambda w=wrong: describe_first(w))
            is_good &= ~wrong
        return is_good

    def _broken_column(self, row: bytes) -> str:
        """The first column of a row with bytes that are not UTF-8."""
        # Each such byte becomes a surrogate, which no UTF-8 gives.
        text = row.decode("utf-8", "surrogateescape")
        fields = next(csv.reader([text], delimiter=self._separator))
        is_broken = [_has_surrogate(field) for field in fields]
        return (self.columns + ["behind the last"] * len(fields))[is_broken.index(True)]

    def _parse(self, block: bytes, rows: TextRows, columns: list[str]) -> pl.DataFrame:
        if not len(rows):
            return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
        places = sorted({self.columns.index(column) for column in columns})
        malformed = f'{self._path}: a quote (") stands where none belongs'
        try:
            frame = pl.read_csv(
                io.BytesIO(rows.text(block)),
                has_header=False,
                infer_schema=False,
                separator=self._separator,
                columns=places,
            )
        except pl.exceptions.ComputeError as error:
            raise DataError(malformed) from error
        if len(frame) != len(rows):
            raise DataError(malformed)
        frame.columns = [self.columns[place] for place in places]
        return frame


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
