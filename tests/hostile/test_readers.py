"""Readers compared with a plain second reader, on thousands of odd, bad and damaged files."""

import collections
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from data_pipelines.errors import DataError
from data_pipelines.raw import delimited
from data_pipelines.raw.ingest import ReadOptions
from data_pipelines.raw.readers import read_files
from tests.data_pipelines.logs import small_times
from tests.hostile.damage import damaged
from tests.hostile.log_files import log_file
from tests.hostile.outcomes import RIGHT, Outcomes
from tests.hostile.plain_reader import merge_floats, read_plain
from tests.volume import few

PATH = r"/\S+/log\.[a-z.]+"
ROW = PATH + r": row \d+ \(line \d+\)"
UNQUOTED = "; --quote=none reads quotes as text"
SKIP = r"; --on_bad_row=skip leaves such rows out"
BAD_ROWS = {
    "not UTF-8": ROW + r", column .+: expected UTF-8, got other bytes; --encoding=.+",
    "misplaced quote": ROW + r': a quote \("\) stands where none belongs' + UNQUOTED + SKIP,
    "too few fields": ROW + r": expected (\d+) fields, got \d+" + SKIP,
    "null user_id": ROW + r", column 'user_id': expected a value, got .+; --on_bad_row=skip .+",
    "null item_id": ROW + r", column 'item_id': expected a value, got .+; --on_bad_row=skip .+",
    "null timestamp": ROW + r", column 'timestamp': expected a value, got .+; --on_bad_row=skip .+",
    "unparsable time": ROW
    + r", column 'timestamp': expected a number( \(s\))? or ISO 8601, got .+"
    + f"({SKIP}|; --time_format=.+)",
    "negative time": ROW + r", column 'timestamp': expected a time since 1970, got '.+'" + SKIP,
    "time out of range": ROW
    + r", column 'timestamp': expected a time before the year 10000 .+"
    + SKIP,
}
ODD_TIME = ROW + r", column 'timestamp': expected a time from 1995 to now, got '.+', which is "
ODD_TIMES = {
    "time before 1995": ODD_TIME + r"19[789][0-9]-.+; --allow_odd_times reads such times too",
    "time in the future": ODD_TIME
    + r".+, while it is 20.+; --allow_odd_times reads such times too",
}
WHOLE_FILES = {
    "unzip": PATH + r": cannot be unzipped: .+; pack it again",
    "empty": PATH + r": the file is empty; expected a header and rows",
    "header not UTF-8": PATH + r": header: expected UTF-8, got byte 0x..; --encoding=.+",
    "header misplaced quote": PATH
    + r": header: a quote \(\"\) stands where none belongs"
    + UNQUOTED,
    "header carriage return": PATH
    + r": header: a carriage return stands within a line; end lines with a newline",
    "column": PATH + r": header: column '\w+' (is missing|occurs more than once); found .*",
    "no rows": PATH + r": no rows after the header; leave the file out, or write it again",
    "unclosed": PATH
    + r': a quote \("\) in the last rows is never closed; close it, or '
    + UNQUOTED[2:],
    "nothing left": r"no rows are left of the log \(.+\); is it the right file, .+",
}
KINDS = {**BAD_ROWS, **WHOLE_FILES}


def place_of(message):
    """The row and line in a message."""
    row, _, rest = message.partition(": row ")[2].partition(" (line ")
    return int(row), int(rest.partition(")")[0])


def events_of(log):
    users, items = log.user_ids.gather(log.users), log.item_ids.gather(log.items)
    return list(zip(users, items, log.times_ms.tolist(), strict=True))


def assert_events(log, rows):
    """The events are those of the plain reader's rows; decimals may be a millisecond off."""
    got, wanted = events_of(log), merge_floats([row.event for row in rows])
    assert [event[:2] for event in got] == [event[:2] for event in wanted]
    for (_, _, got_ms), row in zip(got, rows, strict=True):
        assert abs(got_ms - row.event[2]) <= row.rounded, row


def check(path, data, separator, outcomes, options=None):
    """Reads a file with and without its bad rows, and compares with the plain reader."""
    path.write_bytes(data)
    options = options or small_times()
    plain = read_plain(
        data, gzipped=path.suffix == ".gz", separator=separator,
        odd_times=options.columns.times.allow_odd,
    )  # fmt: skip
    good = [row for row in plain.rows if row.event]
    bad = [row for row in plain.rows if row.problem]
    try:
        log, drops = read_files([str(path)], dataclasses.replace(options, on_bad_row="skip"))
    except DataError as error:
        kind = outcomes.refused(error)
        expected = plain.problem or ("unclosed" if plain.unclosed else "nothing left")
        assert kind == expected, (kind, plain)
        assert kind != "nothing left" or not good
    else:
        assert plain.problem is None and not plain.unclosed, plain
        assert_events(log, good)
        counted = {drop.reason: drop.events for drop in drops}
        assert counted == collections.Counter(row.problem for row in bad)
        outcomes.right()
    try:
        log, drops = read_files([str(path)], options)
    except DataError as error:
        kind = outcomes.refused(error)
        if kind in {**BAD_ROWS, **ODD_TIMES}:
            kind = "too many fields" if kind == "too few fields" and _too_many(error) else kind
            assert (*place_of(str(error)), kind) in [(b.row, b.line, b.problem) for b in bad]
        else:
            assert kind == (plain.problem or "unclosed"), (kind, plain)
    else:
        assert plain.problem is None and not plain.unclosed and not bad, plain
        assert_events(log, good)
        outcomes.right()


def _too_many(error):
    expected, got = str(error).rpartition(": expected ")[2].partition(";")[0].split(" fields, got ")
    return int(got) > int(expected)


def test_odd_files_and_bad_rows_are_read_as_the_plain_reader_reads_them(tmp_path):
    outcomes = Outcomes(KINDS)
    inputs = few(100, of=700)
    for seed in range(inputs):
        rng = Random(seed)
        log = log_file(rng, bad_rows=rng.choice((0.0, 0.4)))
        check(tmp_path / log.name, log.data, log.separator, outcomes)
    outcomes.require(2 * inputs, never=WHOLE_FILES)


def test_times_that_no_log_has_are_bad_rows_beside_all_others(tmp_path):
    """Without flags about times: numbers get the unit that their size suggests."""
    outcomes, inputs = Outcomes({**KINDS, **ODD_TIMES}), few(100, of=700)
    for seed in range(inputs):
        rng = Random(seed)
        log = log_file(rng, bad_rows=rng.choice((0.0, 0.4)), damage=rng.choice((None, damaged)))
        check(tmp_path / log.name, log.data, log.separator, outcomes, ReadOptions())
    outcomes.require(
        2 * inputs, never=("header carriage return", "header misplaced quote", "no rows")
    )
    assert min(outcomes.counts[kind] for kind in ODD_TIMES) > few(3, of=40), outcomes.counts


def test_events_read_equal_events_written(tmp_path):
    """Compared with the events that were written, in case both readers make the same mistake."""
    for seed in range(few(50, of=300)):
        log = log_file(Random(seed))
        path = tmp_path / log.name
        path.write_bytes(log.data)
        assert events_of(read_files([str(path)], small_times())[0]) == log.events


def test_damaged_files(tmp_path):
    outcomes = Outcomes(KINDS)
    inputs = few(200, of=2000)
    for seed in range(inputs):
        rng = Random(seed)
        log = log_file(rng, bad_rows=rng.choice((0.0, 0.2)), damage=damaged)
        check(tmp_path / log.name, log.data, log.separator, outcomes)
    outcomes.require(2 * inputs)


def test_blocks_of_any_size_change_nothing_but_the_length_of_a_row(tmp_path, monkeypatch):
    endless = PATH + r": no end to the row that starts .+"
    outcomes = Outcomes({"endless": endless, **KINDS})
    for seed in range(few(120, of=200)):
        rng = Random(seed)
        log = log_file(rng, bad_rows=0.2, damage=rng.choice((None, damaged)))
        path = tmp_path / log.name
        path.write_bytes(log.data)
        monkeypatch.setattr(delimited, "BLOCK_BYTES", 1 << 24)
        whole = _skipping(path)
        monkeypatch.setattr(delimited, "BLOCK_BYTES", rng.choice((8, 64, 512)))
        in_blocks = _skipping(path)
        if isinstance(in_blocks, DataError):
            if outcomes.refused(in_blocks) != "endless":
                assert isinstance(whole, DataError), (whole, in_blocks)
        else:
            assert in_blocks == whole
            outcomes.right()
    assert min(outcomes.counts[kind] for kind in (RIGHT, "endless", "unzip", "unclosed")) > 0


def _skipping(path):
    """Events and drops of a file, or its error."""
    try:
        log, drops = read_files([str(path)], small_times(on_bad_row="skip"))
    except DataError as error:
        return error
    return events_of(log), sorted(drops, key=str)


def test_fuzzing_by_coverage_finds_nothing_else(tmp_path):
    pytest.importorskip("atheris", reason="atheris is for Linux on x86-64")
    module, inputs = "tests.hostile.fuzz_readers", few(300, of=1500)
    # libFuzzer's own limit counts the most that the process that starts it ever held: Linux keeps
    # ru_maxrss across exec. The fuzzer prints its own peak.
    arguments = [f"-runs={inputs}", "-seed=1", "-verbosity=0", "-rss_limit_mb=0"]
    result = subprocess.run(
        [sys.executable, "-m", module, str(tmp_path), *arguments],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    said = json.loads(next(line for line in result.stdout.splitlines() if line.startswith("{")))
    assert said["inputs"] == inputs
    assert said["peak_mb"] < 1000
    assert said["outcomes"][RIGHT] > inputs / 15
    assert len(said["outcomes"]) > len(KINDS) / 2, said
