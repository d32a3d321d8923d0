"""Logs in the other formats: packed by other programs, RecBole's .inter, other encodings, JSON."""

import bz2
import datetime
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from random import Random
from typing import NamedTuple

import zstandard

from tests.hostile.log_files import log_file

_TYPES = {b"user_id": b":token", b"item_id": b":token", b"timestamp": b":float"}


class PackedFile(NamedTuple):
    """A delimited file, and how to read it."""

    name: str
    data: bytes
    separator: str
    encoding: str


def _zip(text: bytes, name: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return data.getvalue()


PACKERS: dict[str, Callable[[bytes, str], bytes]] = {
    "": lambda text, name: text,
    ".bz2": lambda text, name: bz2.compress(text),
    ".xz": lambda text, name: lzma.compress(text),
    # As the program zstd does; without a checksum nobody can tell damage.
    ".zst": lambda text, name: zstandard.ZstdCompressor(write_checksum=True).compress(text),
    ".zip": _zip,
}


def packed_file(rng: Random, damage: Callable[[Random, bytes], bytes] | None = None) -> PackedFile:
    """A log of `log_files`, in another format.

    Args:
      rng: Decides everything.
      damage: Damages the text, or the packed bytes.
    """
    log = log_file(rng, bad_rows=rng.choice((0.0, 0.3)))
    text = gzip.decompress(log.data) if log.name.endswith(".gz") else log.data
    name, encoding = log.name.removesuffix(".gz"), "utf-8"
    if log.separator == "\t" and rng.random() < 0.6:
        name = "log.inter"
        for column, kind in _TYPES.items():
            text = text.replace(column, column + kind, 1)
    packing = rng.choice([*PACKERS])
    inside = damage is not None and (not packing or rng.random() < 0.4)
    if damage is not None and inside:
        text = damage(rng, text)
    if rng.random() < 0.3:
        # In Latin-1 all bytes are characters; UTF-16 is made of characters alone.
        encoding = "latin-1" if inside or rng.random() < 0.5 else "utf-16"
        if encoding == "utf-16":
            text = text.decode("utf-8", "replace").encode("utf-16")
    data = PACKERS[packing](text, name)
    if damage is not None and packing and not inside:
        data = damage(rng, data)
    return PackedFile(name + packing, data, log.separator, encoding)


class JsonFile(NamedTuple):
    """JSON lines: the rows as text, and the events in them; None for a row that is bad."""

    rows: list[str]
    events: list[tuple[str, str, int] | None]


def json_file(rng: Random) -> JsonFile:
    """Rows whose columns have one type each, with bad ones between."""
    whole = rng.random() < 0.5, rng.random() < 0.5
    written = rng.choice((_seconds, _decimals, _iso))
    rows: list[str] = []
    events: list[tuple[str, str, int] | None] = []
    for _ in range(rng.randint(1, 8)):
        user, item = (_json_id(rng, is_whole) for is_whole in whole)
        seconds = rng.randrange(800_000_000, 1_700_000_000)
        row = {"user_id": user, "item_id": item, "timestamp": written(seconds)}
        more = {"more": rng.choice((None, [1, "a"], {"b": {}}, "é\n", True))}
        row = {**more, **row} if rng.random() < 0.3 else row
        if rng.random() < 0.2:
            bad = {**row, rng.choice(("user_id", "item_id", "timestamp")): None}
            rows.append(json.dumps(bad) if rng.random() < 0.5 else rng.choice(_NO_OBJECTS))
            events.append(None)
            continue
        rows.append(json.dumps(row, ensure_ascii=rng.random() < 0.5))
        events.append((str(user), str(item), seconds * 1000))
    return JsonFile(rows, events)


_NO_OBJECTS = ("7", '"text"', "[1, 2]", "null", "{", '{"user_id": 7', "nonsense", "}{")


def _json_id(rng: Random, is_whole: bool) -> int | str:
    if is_whole:
        return rng.choice((0, 7, -12, 10**18))
    return rng.choice(("a", "é", "日本", "a b", 'x"y', "back\\slash", "new\nline", "\u2028x", "🎈"))


def _seconds(seconds: int) -> int:
    return seconds


def _decimals(seconds: int) -> float:
    return float(seconds)


def _iso(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()
