"""Reads delimited text files block by block, and checks each row before it is parsed.

Polars fills missing fields with nulls, and does not tell where bytes are not UTF-8. So this module
first finds the rows (`text_rows`), reports bad ones, and passes the others to polars.
"""

import codecs
import csv
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.bad_rows import SKIP_HINT, BadRows
from data_pipelines.raw.byte_streams import read_pieces
from data_pipelines.raw.text_rows import TextRows, find_rows

_UNIT_SEPARATOR = "\x1f"

_MISQUOTED = 'a quote (") stands where none belongs'
_UNQUOTED_HINT = "--quote=none reads quotes as text"

Quote = Literal["double", "none"]
"""Whether text files quote fields with ", or not at all."""

BLOCK_BYTES = 16 << 20
"""Bytes read at once, so that memory does not grow with the file. No row may be longer."""


@dataclasses.dataclass(frozen=True)
class TextFormat:
    """The format of text files.

    Attributes:
      separator: One or more ASCII characters between fields; None: from the file's name.
      names: Names of the columns, for files without a header.
      encoding: Python's name of the encoding.
      quoted: Whether fields may be quoted ("); if not, quotes are text.
    """

    separator: str | None = None
    names: tuple[str, ...] = ()
    encoding: str = "utf-8"
    quoted: bool = True


class DelimitedFile:
    """A delimited text file, decompressed if its name says so.

    Attributes:
      columns: Names in the header, or those given.

    Args:
      path: The file.
      text: Its format, with a separator.
      bad_rows: What to do with rows that have the wrong number of fields, or are not UTF-8.

    Raises:
      DataError: The file is empty, its header is not UTF-8, or it cannot be unzipped.
    """

    def __init__(self, path: Path, text: TextFormat, bad_rows: BadRows) -> None:
        assert text.separator is not None
        self._path = path
        self._text = text
        # A separator of several characters, such as MovieLens' ::, becomes a byte no text has.
        self._separator = text.separator if len(text.separator) == 1 else _UNIT_SEPARATOR
        self._bad_rows = bad_rows
        self.columns = list(text.names) or self._header()

    def frames(self, columns: list[str]) -> Iterator[pl.DataFrame]:
        """Yields the rows of each block: `columns` as text, `row` and `line` as Int64.

        Both count from 1: `row` the rows after the header, `line` the lines of the file. They
        differ by more than the header if there are blank lines, or newlines in quoted fields.

        Raises:
          DataError: There are no rows; one is bad and the action is `error`; a quote is never
            closed or misplaced; the file cannot be unzipped.
        """
        row, line, header_rows = 1, 1, 0 if self._text.names else 1
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
            missing = "the file is empty" if self._text.names else "no rows after the header"
            raise DataError(f"{self._path}: {missing}; leave the file out, or write it again")

    def _header(self) -> list[str]:
        first = next(self._blocks(), None)
        if first is None:
            raise DataError(f"{self._path}: the file is empty; expected a header and rows")
        block, rows, _ = first
        try:
            text = rows[:1].text(block).decode("utf-8")
            if rows.misquoted[0]:
                raise csv.Error(f"{_MISQUOTED}; {_UNQUOTED_HINT}")
            return next(
                csv.reader(
                    [text],
                    delimiter=self._separator,
                    quoting=csv.QUOTE_MINIMAL if self._text.quoted else csv.QUOTE_NONE,
                )
            )
        except UnicodeDecodeError as error:
            got = error.object[error.start : error.start + 1].hex()
            raise DataError(
                f"{self._path}: header: expected UTF-8, got byte 0x{got}; --encoding=latin-1 (or "
                "utf-16, ...) reads others"
            ) from error
        except csv.Error as error:
            problem = str(error)
            if "new-line" in problem:
                problem = "a carriage return stands within a line; end lines with a newline"
            raise DataError(f"{self._path}: header: {problem}") from error

    def _blocks(self) -> Iterator[tuple[bytes, TextRows, int]]:
        """Yields blocks of whole rows with the rows in them and their number of lines."""
        rest = b""
        for number, piece in enumerate(read_pieces(self._path, BLOCK_BYTES, self._text.encoding)):
            chunk = piece.removeprefix(codecs.BOM_UTF8) if number == 0 else piece
            text = self._with_one_separator(rest + chunk)
            rows, used, lines = find_rows(text, self._separator, self._text.quoted)
            block, rest = text[:used], text[used:]
            self._check_length(rest)
            if len(rows):
                yield block, rows, lines
        rows, used, lines = find_rows(rest + b"\n", self._separator, self._text.quoted)
        if used <= len(rest):
            raise DataError(
                f'{self._path}: a quote (") in the last rows is never closed; close it, or '
                f"{_UNQUOTED_HINT}"
            )
        if len(rows):
            yield rest + b"\n", rows, lines

    def _with_one_separator(self, text: bytes) -> bytes:
        """Replaces the separator by a single byte; the start may have been converted before."""
        separator = self._text.separator
        if separator is None or len(separator) == 1:
            return text
        return text.replace(separator.encode(), _UNIT_SEPARATOR.encode())

    def _check_length(self, rest: bytes) -> None:
        if len(rest) > BLOCK_BYTES:
            start = rest[:40].decode("utf-8", "replace")
            cause = (
                f'is a quote (") not closed? Close it; or {_UNQUOTED_HINT}'
                if self._text.quoted
                else "is this the right file?"
            )
            raise DataError(f"{self._path}: no end to the row that starts {start!r}: {cause}")

    def _check(
        self, block: bytes, rows: TextRows, row_numbers: np.ndarray, line_numbers: np.ndarray
    ) -> np.ndarray:
        """Reports the bad rows of a block; bool [n], true for the good ones."""
        expected = len(self.columns)
        not_utf8 = rows.not_utf8(block)
        is_good = ~not_utf8

        def describe_first(wrong: np.ndarray) -> str:
            first = int(np.argmax(wrong))
            where = f"{self._path}: row {row_numbers[first]} (line {line_numbers[first]})"
            if not_utf8[first]:
                column = self._broken_column(rows[first : first + 1].text(block))
                return (
                    f"{where}, column {column!r}: expected UTF-8, got other bytes; "
                    "--encoding=latin-1 reads those of Western Europe"
                )
            if rows.misquoted[first]:
                return f"{where}: {_MISQUOTED}; {_UNQUOTED_HINT}{SKIP_HINT}"
            return f"{where}: expected {expected} fields, got {rows.fields[first]}{SKIP_HINT}"

        well_formed = ~not_utf8 & ~rows.misquoted
        for reason, wrong in (
            # Programs read a misquoted row differently; often it swallows the following lines,
            # which are then lost.
            ("not UTF-8", not_utf8),
            ("misplaced quote", rows.misquoted & ~not_utf8),
            ("too few fields", (rows.fields < expected) & well_formed),
            ("too many fields", (rows.fields > expected) & well_formed),
        ):
            self._bad_rows.report(reason, int(wrong.sum()), lambda w=wrong: describe_first(w))
            is_good &= ~wrong
        return is_good

    def _broken_column(self, row: bytes) -> str:
        """The first column of a row with bytes that are not UTF-8."""
        try:
            row.decode("utf-8")
        except UnicodeDecodeError as error:
            before = row[: error.start]
        # After an even number of quotes, text is outside quotes.
        parts = before.split(b'"')[::2] if self._text.quoted else [before]
        column = sum(part.count(self._separator.encode()) for part in parts)
        return [*self.columns, "after the last"][min(column, len(self.columns))]

    def _parse(self, block: bytes, rows: TextRows, columns: list[str]) -> pl.DataFrame:
        if not len(rows):
            return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
        indices = {column: self.columns.index(column) for column in columns}
        # Polars removes a byte order mark from the first row, so that row is a header of numbers.
        header = self._separator.join(map(str, range(len(self.columns)))).encode()
        frame = pl.read_csv(
            io.BytesIO(header + b"\n" + rows.text(block)),
            infer_schema=False,
            separator=self._separator,
            quote_char='"' if self._text.quoted else None,
            columns=[str(index) for index in indices.values()],
        )
        if len(frame) != len(rows):
            raise AssertionError(f"{self._path}: {len(rows)} rows, parsed as {len(frame)}")
        return frame.select(pl.col(str(index)).alias(name) for name, index in indices.items())
