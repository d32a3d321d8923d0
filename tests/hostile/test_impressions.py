"""Files of impressions: odd, bad and damaged ones, compared with a plain second reader."""

import collections
import gzip
import zlib
from random import Random

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.errors import DataError
from data_pipelines.impressions.files import ImpressionColumns, typed_impressions
from data_pipelines.raw.bad_rows import BadRows
from data_pipelines.raw.ingest import ReadOptions
from data_pipelines.raw.log_facts import LogFacts
from tests.data_pipelines.logs import SMALL_TIMES
from tests.hostile.damage import damaged
from tests.hostile.log_files import _bad_line, _id, _line, _text, _time
from tests.hostile.outcomes import Outcomes
from tests.hostile.plain_reader import (
    BLANKS,
    LATEST_MS,
    _fields,
    _split_rows,
    header_fields,
    is_nothing,
    plain_time,
)
from tests.hostile.test_readers import BAD_ROWS, ROW, SKIP, WHOLE_FILES
from tests.volume import few

NAMES = ("user_id", "timestamp", "shown", "clicked")
OF_LISTS = {
    "nothing was shown": ROW + r", column 'shown': expected items, got nothing" + SKIP,
    "clicked but not shown": ROW + r", column 'clicked': expected items of 'shown', got .+" + SKIP,
}
ELSEWHERE = ("nothing left",)
"""Kinds that only logs have, or that are rare here and covered by the test of readers."""

FILES = {name: pattern for name, pattern in WHOLE_FILES.items() if name not in ELSEWHERE}
ROWS = {name: pattern for name, pattern in BAD_ROWS.items() if name != "null item_id"} | OF_LISTS
IDS = ("a", "7", "é", "i-1", "日本", "x;y", "(b)", "\x00")
BETWEEN = {*BLANKS, *",[]'\""}
"""Characters that no id in a text has: Unicode's white space, commas, brackets and quotes."""


def list_text(rng, ids):
    """A list of ids in some form."""
    form = rng.choice(("{}", "{}", "[{}]", "['{}']", '["{}"]', " {} ", "[ {}\n]"))
    between = rng.choice((" ", ",", ", ", "\u00a0", "\n", "' '", '", "'))
    return form.format(between.join(ids)) if ids or rng.random() < 0.5 else ""


def text_file(rng, bad_rows, damage):
    """A file of at most 8 lists, and its separator and suffix."""
    separator, suffix = rng.choice(((",", "csv"), ("\t", "tsv")))
    names = [*NAMES, *("extra", "a\nb")[: rng.randint(0, 2)]]
    rng.shuffle(names)
    lines = [_line(rng, [(name, False) for name in names], separator)]
    for _ in range(rng.randint(0, 8)):
        shown = rng.sample(IDS, rng.choice((0, 1, 2, 2, 3)) if bad_rows else rng.randint(1, 4))
        clicked = rng.sample(shown, rng.randint(0, len(shown)))
        clicked += [rng.choice(IDS)] * (rng.random() < bad_rows / 2)
        texts = (_id(rng), _time(rng)[0], list_text(rng, shown), list_text(rng, clicked))
        values = dict(zip(NAMES, texts, strict=True))
        fields = [(values.get(name, _text(rng)), name in NAMES[:3]) for name in names]
        make = _bad_line if rng.random() < bad_rows else _line
        lines.append(make(rng, fields, separator))
    data = rng.choice((b"\n", b"\r\n")).join(lines) + rng.choice((b"", b"\n"))
    data = damage(rng, data) if damage else data
    if rng.random() < 0.15:
        data, suffix = gzip.compress(data, mtime=0), f"{suffix}.gz"
        data = damaged(rng, data) if damage and rng.random() < 0.5 else data
    return data, separator, suffix


def plain_ids(text):
    ids = [""]
    for character in text:
        if character in BETWEEN:
            ids.append("")
        else:
            ids[-1] += character
    return [item for item in ids if not is_nothing(item)]


def plain_row(fields, problem, columns, places):
    """(problem, None) or (None, the content of the row)."""
    if problem is None and len(fields) != columns:
        problem = "too few fields" if len(fields) < columns else "too many fields"
    if problem is not None:
        return problem, None
    user, time, shown, clicked = (fields[place] for place in places)
    for name, value in (("user_id", user), ("timestamp", time)):
        if is_nothing(value):
            return f"null {name}", None
    milliseconds = plain_time(time)
    shown, clicked = plain_ids(shown), plain_ids(clicked)
    for holds, reason in (
        (milliseconds is None, "unparsable time"),
        (milliseconds is not None and milliseconds < 0, "negative time"),
        (milliseconds is not None and milliseconds > LATEST_MS, "time out of range"),
        (not shown, "nothing was shown"),
        (not set(clicked) <= set(shown), "clicked but not shown"),
    ):
        if holds:
            return reason, None
    return None, (user, milliseconds, shown, clicked, not time.isdigit())


def read_plain(data, separator, gzipped):
    """The fault of the file, or None; and its rows: (row, line, problem, values)."""
    if gzipped:
        try:
            data = gzip.decompress(data)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            return "unzip", []
    rows, unclosed = _split_rows(data.removeprefix(b"\xef\xbb\xbf"))
    if not rows:
        return "unclosed" if unclosed else "empty", []
    header, _ = rows.pop(0)
    names, problem = header_fields(header, separator)
    if problem is not None:
        return f"header {problem}", []
    if any(names.count(name) != 1 for name in NAMES):
        return "column", []
    if not rows and not unclosed:
        return "no rows", []
    places = [names.index(name) for name in NAMES]
    read = [
        (number, line, *plain_row(*_fields(content, separator), len(names), places))
        for number, (content, line) in enumerate(rows, 1)
    ]
    return "unclosed" if unclosed else None, read


def read(path, bad_rows):
    columns = ImpressionColumns(times=SMALL_TIMES)
    frames = typed_impressions([str(path)], columns, ReadOptions(), bad_rows, LogFacts())
    return [row for frame in frames for row in frame.rows()]


def check(path, data, separator, outcomes):
    """Reads a file with and without its bad rows, and compares with the plain reader."""
    path.write_bytes(data)
    problem, rows = read_plain(data, separator, path.suffix == ".gz")
    good = [values for _, _, _, values in rows if values]
    bad = [(number, line, reason) for number, line, reason, _ in rows if reason]
    for action in ("skip", "error"):
        bad_rows = BadRows(action)
        try:
            got = read(path, bad_rows)
        except DataError as error:
            kind = outcomes.refused(error)
            if kind not in ROWS:
                assert kind == problem, (kind, problem, error)
                continue
            assert action == "error"
            row, line = str(error).partition(": row ")[2].partition(")")[0].split(" (line ")
            reasons = [reason for *place, reason in bad if place == [int(row), int(line)]]
            assert reasons in ([kind], ["too many fields"]), (kind, bad)
        else:
            assert problem is None and (action == "skip" or not bad), (problem, bad)
            assert bad_rows.counts == collections.Counter(reason for _, _, reason in bad)
            assert [(user, *lists) for user, _, *lists in got] == [
                (user, *lists) for user, _, *lists, _ in good
            ]
            for (_, got_ms, *_), (_, wanted_ms, *_, rounded) in zip(got, good, strict=True):
                assert abs(got_ms - wanted_ms) <= rounded
            outcomes.right()


def test_odd_bad_and_damaged_texts_are_read_as_the_plain_reader_reads_them(tmp_path):
    outcomes = Outcomes({**ROWS, **FILES})
    inputs = few(100, of=700)
    for seed in range(inputs):
        rng = Random(seed)
        damage = rng.choice((None, damaged, damaged))
        data, separator, suffix = text_file(rng, rng.choice((0.0, 0.3)), damage)
        check(tmp_path / f"log.{suffix}", data, separator, outcomes)
    outcomes.require(2 * inputs)


PATH = r"/\S+/log\.parquet"
OF_PARQUET = {
    "empty": PATH + r": the file is empty; expected Parquet",
    "damaged": PATH + r": not readable as Parquet: .+; write it again",
    "column": PATH + r": header: column '\w+' is missing; found .*",
    "user": PATH + r": column 'user_id': expected text or whole numbers, got .+",
    "fraction": PATH + r": row \d+, column 'user_id': expected a whole number, got 1.5" + SKIP,
    "bytes": PATH + r": row \d+, column 'user_id': expected UTF-8, got .+" + SKIP,
    "list": PATH + r": column '(shown|clicked)': expected lists of text or integers, got .+",
    "type": PATH + r": column '\w+': expected text, numbers or times, got .+",
    "time": PATH
    + r": row \d+, column 'timestamp': expected a number \(s\) or ISO 8601, got .+"
    + SKIP,
    "null": PATH + r": row \d+, column '(user_id|timestamp)': expected a value, got nothing" + SKIP,
    "nothing": PATH + r": row \d+, column 'shown': expected items, got nothing" + SKIP,
    "clicked": PATH + r": row \d+, column 'clicked': expected items of 'shown', got .+" + SKIP,
}
BAD_VALUES = {
    "user_id": (1.5, None, [1], b"\xff"), "timestamp": (None, [1], b"1"),
    "shown": (0.5, [[1]], [None], None, [], {"a": 1}, b"a"), "clicked": ([0.5], ["other"], True),
}  # fmt: skip


def lists_column(rng, lists):
    """An Arrow array of these lists in some type, of items that are numbers."""
    text = [[str(item) for item in one] for one in lists]
    return rng.choice(
        (
            lambda: pa.array(lists, pa.list_(rng.choice((pa.int8(), pa.int64(), pa.uint32())))),
            lambda: pa.array(lists, pa.large_list(pa.int16())),
            lambda: pa.array(text, pa.list_(rng.choice((pa.string(), pa.large_string())))),
            lambda: pa.array([[*one, None] for one in text]),
            lambda: pa.array([" ".join(one) for one in text]),
            lambda: pa.array([str(one) for one in text]).dictionary_encode(),
        )
    )()


def test_parquet_of_every_type_and_damaged(tmp_path):
    outcomes = Outcomes(OF_PARQUET)
    path = tmp_path / "log.parquet"
    inputs, changed = few(100, of=600), 0
    for seed in range(inputs):
        rng = Random(seed)
        rows = rng.randint(1, 5)
        shown = [rng.sample(range(9), rng.randint(1, 4)) for _ in range(rows)]
        clicked = [rng.sample(one, rng.randint(0, len(one))) for one in shown]
        times, users = rng.sample(range(10**9), rows), rng.sample(range(100), rows)
        columns = {
            "user_id": pa.array(rng.choice((users, [str(user) for user in users]))),
            "timestamp": pa.array(rng.choice((times, [str(time) for time in times]))),
            "shown": lists_column(rng, shown), "clicked": lists_column(rng, clicked),
            "other": pa.array([{"a": 1}] * rows),
        }  # fmt: skip
        kind = rng.choice(("good", "bad", "damaged"))
        if kind == "bad":
            name = rng.choice(NAMES)
            columns[name] = pa.array([rng.choice(BAD_VALUES[name])] * rows)
            if rng.random() < 0.1:
                del columns[name]
        pq.write_table(pa.table(columns), path, write_page_checksum=True)
        if kind == "damaged":
            path.write_bytes(damaged(rng, path.read_bytes()))
        try:
            got = read(path, BadRows("error"))
        except DataError as error:
            outcomes.refused(error)
            assert kind != "good", (seed, error)
            continue
        expected = [
            (str(user), 1000 * time, list(map(str, one)), list(map(str, some)))
            for user, time, one, some in zip(users, times, shown, clicked, strict=True)
        ]
        assert kind != "bad", seed
        if got != expected:
            # Then the bytes are a valid file of something else: another reader agrees.
            assert kind == "damaged" and pl.read_parquet(path).height == len(got), seed
            changed += 1
        outcomes.right()
    outcomes.require(inputs)
    assert changed < 10, "most damage must be noticed"
