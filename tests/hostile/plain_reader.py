"""A second reader of delimited logs, byte by byte and field by field, as a reference.

It shares no code with the reader: no numpy, no polars, no csv module.
"""

import datetime
import decimal
import gzip
import re
import zlib
from typing import NamedTuple

NULL_WORDS = (
    "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "Null", "null", "None", "undefined",
    "\\N",
)  # fmt: skip
BLANKS = "".join(
    map(
        chr,
        (
            *range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
            0x202F, 0x205F, 0x3000,
        ),
    )
)  # fmt: skip
"""Unicode's white space."""

LATEST_MS = 253_402_300_799_999
EARLIEST_MS = 788_918_400_000


class PlainRow(NamedTuple):
    """A row after the header.

    Attributes:
      row, line: Its numbers, from 1.
      problem: Why it cannot be used; None if it can.
      event: (user, item, milliseconds) if it can.
      rounded: Its time has decimals, so that a reader may be a millisecond off.
    """

    row: int
    line: int
    problem: str | None
    event: tuple[str, str, int] | None
    rounded: bool = False


class PlainFile(NamedTuple):
    """A file as the plain reader sees it: a fault of the whole file, or its rows."""

    problem: str | None
    rows: list[PlainRow]
    unclosed: bool = False


def read_plain(
    data: bytes, *, gzipped: bool, separator: str = ",", odd_times: bool = True
) -> PlainFile:
    """Reads the columns user_id, item_id and timestamp (seconds).

    Args:
      data: The bytes of the file.
      gzipped: Whether they are to be unzipped.
      separator: Between fields.
      odd_times: Whether times before 1995 or later than tomorrow are good ones.
    """
    if gzipped:
        try:
            data = gzip.decompress(data)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            return PlainFile("unzip", [])
    data = data.removeprefix(b"\xef\xbb\xbf")
    rows, unclosed = _split_rows(data)
    if not rows:
        return PlainFile("unclosed" if unclosed else "empty", [])
    header_bytes, _ = rows.pop(0)
    names, problem = header_fields(header_bytes, separator)
    if problem is not None:
        return PlainFile(f"header {problem}", [])
    for name in ("user_id", "item_id", "timestamp"):
        if names.count(name) != 1:
            return PlainFile("column", [])
    places = [names.index(name) for name in ("user_id", "item_id", "timestamp")]
    plain = [
        _row(number, line, content, separator, len(names), places, odd_times)
        for number, (content, line) in enumerate(rows, 1)
    ]
    if not plain and not unclosed:
        return PlainFile("no rows", [])
    return PlainFile(None, plain, unclosed)


def _split_rows(data: bytes) -> tuple[list[tuple[bytes, int]], bool]:
    """Rows that are not blank, each with its line; and whether a quote is left open."""
    rows, content, quoted, line, start_line = [], bytearray(), False, 1, 1
    for octet in data + b"\n":
        if octet == 0x22:
            quoted = not quoted
        if octet == 0x0A:
            line += 1
        if octet == 0x0A and not quoted:
            if content not in (b"", b"\r"):
                rows.append((bytes(content), start_line))
            content, start_line = bytearray(), line
        else:
            content.append(octet)
    return rows, quoted


def header_fields(data: bytes, separator: str) -> tuple[list[str], str | None]:
    """The names in a header, and its problem, if any."""
    data = data.rstrip(b"\r")
    names, problem = _fields(data, separator)
    if problem is None:
        raw = _raw_fields(data.decode(), separator)
        if any("\r" in field and not field.startswith('"') for field in raw):
            problem = "carriage return"
    return names, problem


def _raw_fields(text: str, separator: str) -> list[str]:
    """The fields of a row, their quotes as they stand."""
    raw, quoted = [""], False
    for character in text:
        if character == '"':
            quoted = not quoted
        if character == separator and not quoted:
            raw.append("")
        else:
            raw[-1] += character
    return raw


def _fields(content: bytes, separator: str) -> tuple[list[str], str | None]:
    """The fields of a row, or what is wrong with it."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return [], "not UTF-8"
    raw = _raw_fields(text, separator)
    fields = []
    for place, field in enumerate(raw, 1):
        is_last = place == len(raw)
        if field.startswith('"'):
            field = field.removesuffix("\r") if is_last else field
            if not re.fullmatch(r'"(?:[^"]|"")*"', field):
                return [], "misplaced quote"
            fields.append(field[1:-1].replace('""', '"'))
        elif separator in field or "\n" in field:
            return [], "misplaced quote"
        else:
            fields.append(field.removesuffix("\r"))
    return fields, None


def _row(
    number: int,
    line: int,
    content: bytes,
    separator: str,
    columns: int,
    places: list[int],
    odd_times: bool,
) -> PlainRow:
    fields, problem = _fields(content, separator)
    if problem is None and len(fields) != columns:
        problem = "too few fields" if len(fields) < columns else "too many fields"
    if problem is not None:
        return PlainRow(number, line, problem, None)
    user, item, time = (fields[place] for place in places)
    for name, value in (("user_id", user), ("item_id", item), ("timestamp", time)):
        if is_nothing(value):
            return PlainRow(number, line, f"null {name}", None)
    milliseconds = plain_time(time)
    if milliseconds is None:
        return PlainRow(number, line, "unparsable time", None)
    if milliseconds < 0:
        return PlainRow(number, line, "negative time", None)
    if milliseconds > LATEST_MS:
        return PlainRow(number, line, "time out of range", None)
    if not odd_times and milliseconds < EARLIEST_MS:
        return PlainRow(number, line, "time before 1995", None)
    tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    if not odd_times and milliseconds > tomorrow.timestamp() * 1000:
        return PlainRow(number, line, "time in the future", None)
    return PlainRow(number, line, None, (user, item, milliseconds), not time.isdigit())


def is_nothing(value: str) -> bool:
    """Whether a field is blank, or a null word."""
    return value.strip(BLANKS) in ("", *NULL_WORDS)


def merge_floats(events: list[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """The events of a text file with 7 for 7.0, in a column that has no number with a fraction."""
    columns = [list(column) for column in zip(*events, strict=True)]
    for place, ids in enumerate(columns[:2]):
        if not any(re.fullmatch(r"-?[0-9]*\.[0-9]*[1-9][0-9]*", name) for name in ids):
            whole = [re.fullmatch(r"(0|-?[1-9][0-9]*)\.0+", name) for name in ids]
            pairs = zip(ids, whole, strict=True)
            columns[place] = [match[1] if match else name for name, match in pairs]
    return list(zip(*columns, strict=True))


def plain_time(text: str) -> int | None:
    """Whole milliseconds since the epoch of seconds or ISO 8601, rounded down; None for neither."""
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text) * 1000
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", text):
        return int((decimal.Decimal(text) * 1000).to_integral_value(decimal.ROUND_FLOOR))
    if re.fullmatch(r"[+-]?(inf|infinity)", text, re.IGNORECASE):
        return -1 if text.startswith("-") else LATEST_MS + 1
    try:
        moment = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
