"""Delimited logs with every oddity that a valid file may have, and with invalid rows."""

import datetime
import gzip
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tests.hostile.plain_reader import is_nothing, merge_floats

NAMES = ("user_id", "item_id", "timestamp")
_ODD = ("é", "ß", "日本", "\u200f", "🎈", "\x00", "\ufeff", " ", "'", ";", "#", "\\", "\x1b[31m")
_QUOTED_ONLY = ('"', '""', ",", "\t", "\n", "\r\n", '","')


class LogFile(NamedTuple):
    """A file, and the events written into it: (user, item, milliseconds)."""

    name: str
    data: bytes
    separator: str
    events: list[tuple[str, str, int]]


def log_file(
    rng: Random,
    bad_rows: float = 0.0,
    damage: Callable[[Random, bytes], bytes] | None = None,
    rows: int = 8,
) -> LogFile:
    """A log of at most `rows` rows.

    Args:
      rng: Decides everything.
      bad_rows: Share of rows that are broken in some way; they are not among the events.
      damage: Then damages the bytes: those of the text, or of the compressed file.
      rows: The most rows.
    """
    separator, suffix = rng.choice(((",", "csv"), ("\t", "tsv")))
    names = [*NAMES, *("extra", 'of "all"', "a\nb", "")[: rng.randint(0, 4)]]
    rng.shuffle(names)
    newline = rng.choice((b"\n", b"\n", b"\r\n"))
    lines = [_line(rng, [(name, False) for name in names], separator)]
    events = []
    for _ in range(rng.randint(1, rows)):
        user, item, (time, milliseconds) = _id(rng), _id(rng), _time(rng)
        values = dict(zip(NAMES, (user, item, time), strict=True))
        fields = [(values.get(name, _text(rng)), name in NAMES) for name in names]
        if rng.random() < bad_rows:
            lines.append(_bad_line(rng, fields, separator))
        else:
            lines.append(_line(rng, fields, separator))
            events.append((user, item, milliseconds))
        lines += [b""] * (rng.random() < 0.1)
    data = newline.join(lines) + (newline if rng.random() < 0.7 else b"")
    data = (b"\xef\xbb\xbf" if rng.random() < 0.2 else b"") + data
    zipped, inside = rng.random() < 0.25, rng.random() < 0.5
    if damage is not None and (inside or not zipped):
        data = damage(rng, data)
    if zipped:
        data, suffix = gzip.compress(data, rng.randint(0, 9), mtime=0), f"{suffix}.gz"
    if damage is not None and zipped and not inside:
        data = damage(rng, data)
    return LogFile(f"log.{suffix}", data, separator, merge_floats(events))


def _id(rng: Random) -> str:
    """An id that is not blank."""
    kind = rng.random()
    if kind < 0.5:
        return str(rng.choice((0, 7, 12, 10**18, 10**30)))
    if kind < 0.6:
        return rng.choice(("7.0", "12.00", "007", "-7", "-7.0", "0.0", "1.5", "7.", "1e3", ".0"))
    text = _text(rng)
    return "x" * rng.choice((1, 3000)) if is_nothing(text) else text


def _text(rng: Random) -> str:
    parts = ("", "a", "7", *_ODD, *_QUOTED_ONLY)
    return "".join(rng.choice(parts) for _ in range(rng.randint(0, 3)))


def _time(rng: Random) -> tuple[str, int]:
    """A time as text, and its milliseconds."""
    milliseconds = rng.choice((0, 999, rng.randrange(2 * 10**12), 253_402_300_799_999))
    seconds, rest = divmod(milliseconds, 1000)
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(
        milliseconds=milliseconds
    )
    shown = moment.astimezone(datetime.timezone(datetime.timedelta(hours=-5, minutes=-30)))
    texts = [f"{seconds}", f"+{seconds}", f"00{seconds}"] if rest == 0 else []
    if milliseconds < 10**13:
        texts += [f"{seconds}.{rest:03d}", f"{seconds}.{rest:03d}0"]
    texts += [moment.isoformat(), moment.isoformat().replace("+00:00", ""), shown.isoformat()]
    texts += [f" {moment.isoformat(sep=' ')} "]
    return rng.choice(texts), milliseconds


def _line(rng: Random, fields: list[tuple[str, bool]], separator: str) -> bytes:
    return separator.join(_quoted(rng, text, separator) for text, _ in fields).encode()


def _quoted(rng: Random, text: str, separator: str) -> str:
    """A field as it may occur in a file: quoted if necessary, or at random."""
    plain = not set(text) & {'"', separator, "\n", "\r"}
    if plain and rng.random() < 0.7:
        return text
    return '"' + text.replace('"', '""') + '"'


_BAD_VALUES = (
    "", " ", "\u2003", "NA", " NULL", "\\N", "nan", "noon", "1e", "-5", "-0.001", "1e400",
    "99999999999999", "2020-13-01",
)  # fmt: skip


def _bad_line(rng: Random, fields: list[tuple[str, bool]], separator: str) -> bytes:
    """A row with one fault, or none after all: the plain reader decides."""
    kind = rng.choice((0, 1, 2, 2, 2, 2, 3, 4))
    if kind == 0:
        fields = fields[: rng.randrange(len(fields))]
    elif kind == 1:
        fields = [*fields, (_text(rng), False)]
    elif kind == 2:
        place = rng.choice([place for place, (_, needed) in enumerate(fields) if needed])
        fields = [*fields]
        fields[place] = (rng.choice(_BAD_VALUES), True)
    line = _line(rng, fields, separator)
    place = rng.randint(0, len(line))
    if kind == 3:
        return line[:place] + rng.choice((b"\xff", b"\xc3", b"\xed\xa0\x80")) + line[place:]
    if kind == 4:
        return line[:place] + rng.choice((b'"', b'"x"', b'""')) + line[place:]
    return line
