"""Other packings, endings and encodings, and JSON lines: read correctly, or refused by name."""

import bz2
import collections
import io
import lzma
import re
import zipfile
import zlib
from pathlib import PurePosixPath
from random import Random

import zstandard

from data_pipelines.errors import DataError
from data_pipelines.raw.delimited import TextFormat
from data_pipelines.raw.readers import read_files
from tests.data_pipelines.logs import small_times
from tests.hostile.damage import damaged
from tests.hostile.other_files import json_file, packed_file
from tests.hostile.outcomes import Outcomes
from tests.hostile.plain_reader import merge_floats, read_plain
from tests.hostile.test_readers import KINDS, PATH, ROW, SKIP, assert_events, events_of
from tests.volume import few

OTHER_KINDS = {
    "members": r"/\S+/log\.\S+\.zip: expected one file in it, got \d+ \(.*\); unzip it and .+",
    "type": r"/\S+/log\.\S+\.zip: unknown file type; expected .+",
    **{kind: line.replace(PATH, r"/\S+/log\.[a-z.]+[0-9]?") for kind, line in KINDS.items()},
}
JSON_KINDS = {
    **KINDS,
    "inexact": ROW + r", column '\w+': got .+, beyond which Float64 does not tell whole .+",
    "no object": ROW + r": expected a JSON object, got .+" + SKIP,
    "empty": PATH + ": the file is empty; expected one JSON object per line",
}


class DamageError(Exception):
    """A packed file that cannot be unpacked; the message is the kind of its refusal."""


def unpacked(name, data):
    """The text of a packed file, by other code than the reader's; and the name of the text."""
    base, suffix = name.removesuffix(PurePosixPath(name).suffix), PurePosixPath(name).suffix
    try:
        if suffix == ".bz2":
            return base, bz2.decompress(data or b"?")
        if suffix == ".xz":
            return base, lzma.decompress(data)
        if suffix == ".zst":
            return base, _zstd(data)
        if suffix == ".zip":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                inside = [name for name in archive.namelist() if not name.endswith("/")]
                if len(inside) != 1:
                    raise DamageError("members")
                return inside[0], archive.read(inside[0])
    except (
        OSError, ValueError, EOFError, NotImplementedError, RuntimeError, KeyError,
        lzma.LZMAError, zlib.error, zipfile.BadZipFile, zstandard.ZstdError,
    ) as error:  # fmt: skip
        raise DamageError("unzip") from error
    return name, data


def _zstd(data):
    text = b""
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        text += frame.decompress(data)
        if not frame.eof:
            raise EOFError
        data = frame.unused_data
    return text


def plain(log):
    """What the plain reader finds."""
    name, text = unpacked(log.name, log.data)
    if log.encoding != "utf-8":
        text = text.decode(log.encoding).encode()
    if name.endswith(".inter"):
        for column in (b"user_id:token", b"item_id:token", b"timestamp:float"):
            text = text.replace(column, column.partition(b":")[0], 1)
    return read_plain(text, gzipped=False, separator=log.separator)


def check(directory, log, outcomes):
    path = directory / log.name
    path.write_bytes(log.data)
    options = small_times(text=TextFormat(encoding=log.encoding), on_bad_row="skip")
    try:
        found, refused = plain(log), None
    except DamageError as error:
        found, refused = None, str(error)
    try:
        events, drops = read_files([str(path)], options)
    except DataError as error:
        kind = outcomes.refused(error)
        if kind == "type":
            with zipfile.ZipFile(io.BytesIO(log.data)) as archive:
                assert not re.fullmatch(r"log\.(csv|tsv|inter)", archive.namelist()[0])
        elif refused is None:
            wanted = found.problem or ("unclosed" if found.unclosed else "nothing left")
            assert kind == wanted, (kind, found)
        else:
            assert kind == refused
        return
    assert refused is None and found.problem is None and not found.unclosed, (refused, found)
    assert_events(events, [row for row in found.rows if row.event])
    counted = {drop.reason: drop.events for drop in drops}
    assert counted == collections.Counter(row.problem for row in found.rows if row.problem)
    outcomes.right()


def test_other_packings_endings_and_encodings(tmp_path):
    outcomes = Outcomes(OTHER_KINDS)
    inputs = few(60, of=1200)
    for seed in range(inputs):
        check(tmp_path, packed_file(Random(seed)), outcomes)
    outcomes.require(inputs, never=set(OTHER_KINDS) - {"nothing left"})


def test_damaged_ones(tmp_path):
    outcomes = Outcomes(OTHER_KINDS)
    inputs = few(120, of=3000)
    for seed in range(inputs):
        check(tmp_path, packed_file(Random(seed), damaged), outcomes)
    counts = outcomes.counts
    assert min(counts["right"], counts["unzip"], counts["column"]) > inputs / 100, counts


def test_json_lines_written_are_read(tmp_path):
    """Bad rows are counted, and the others are the events that were written."""
    path = tmp_path / "log.jsonl"
    outcomes = Outcomes(JSON_KINDS)
    inputs = few(60, of=1500)
    for seed in range(inputs):
        log = json_file(Random(seed))
        path.write_text("\n".join(log.rows) + "\n", encoding="utf-8")
        good = [event for event in log.events if event is not None]
        for on_bad_row in ("skip", "error"):
            try:
                events, drops = read_files([str(path)], small_times(on_bad_row=on_bad_row))
            except DataError as error:
                kind = outcomes.refused(error)
                assert len(good) < len(log.events)
                if on_bad_row == "error":
                    row = re.match(ROW.replace(PATH, r".+\.jsonl"), str(error))
                    assert row is None or log.events[int(row[0].split()[2]) - 1] is None
                else:
                    # A column that is null in all rows, or no row is an object.
                    assert kind in ("nothing left", "column"), kind
                continue
            assert events_of(events) == merge_floats(good)
            assert sum(drop.events for drop in drops) == len(log.events) - len(good)
            outcomes.right()
    assert (
        min(outcomes.counts[kind] for kind in ("right", "no object", "null item_id")) > inputs / 60
    )


def test_damaged_json_lines(tmp_path):
    """No more rows than lines, or a refusal of a known kind."""
    path = tmp_path / "log.jsonl"
    outcomes = Outcomes(JSON_KINDS)
    inputs = few(60, of=1500)
    for seed in range(inputs):
        rng = Random(seed)
        data = damaged(rng, ("\n".join(json_file(rng).rows) + "\n").encode())
        path.write_bytes(data)
        try:
            events, drops = read_files([str(path)], small_times(on_bad_row="skip"))
        except DataError as error:
            outcomes.refused(error)
            continue
        rows = len(events_of(events)) + sum(drop.events for drop in drops)
        assert rows == sum(bool(line.strip()) for line in data.split(b"\n"))
        outcomes.right()
    assert outcomes.counts["right"] > inputs / 5, outcomes.counts
