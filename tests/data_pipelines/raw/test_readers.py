import gzip
import re

import numpy as np
import polars as pl
import pytest

from data_pipelines.errors import DataError
from data_pipelines.raw import delimited
from data_pipelines.raw.columns import Columns
from data_pipelines.raw.conditions import parse_conditions
from data_pipelines.raw.delimited import TextFormat
from data_pipelines.raw.drops import Drop
from data_pipelines.raw.ingest import ReadOptions
from data_pipelines.raw.readers import read_files
from data_pipelines.raw.times import TimeOptions
from tests.data_pipelines.logs import HEADER, small_times, write_csv

FRAME = pl.DataFrame(
    {"user_id": [20, 3, 20], "item_id": [7, 7, 105], "timestamp": [50, 40, 60], "extra": "x"}
)


def events(log):
    """Ids and milliseconds of each event, in the order of the input."""
    users, items = log.user_ids.gather(log.users), log.item_ids.gather(log.items)
    return list(zip(users, items, log.times_ms.tolist(), strict=True))


EXPECTED = [("20", "7", 50_000), ("3", "7", 40_000), ("20", "105", 60_000)]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.tsv.gz", "a.parquet", "A.CSV"])
def test_every_type_reads_the_same(tmp_path, name):
    path = tmp_path / name
    if name.endswith("parquet"):
        FRAME.write_parquet(path)
    else:
        text = FRAME.write_csv(separator="\t" if "tsv" in name else ",").encode()
        path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    log, drops = read_files([str(path)], small_times())
    assert events(log) == EXPECTED
    assert drops == []


def test_blocks_change_nothing(tmp_path, monkeypatch):
    rows = [f'{user},"item\n{user % 7}",{user * 10}' for user in range(50)]
    path = write_csv(tmp_path / "a.csv", *rows)
    whole, _ = read_files([path], small_times())
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 40)
    in_blocks, _ = read_files([path], small_times())
    assert events(in_blocks) == events(whole)
    assert len(whole) == 50


def test_rows_and_lines_count_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 40)
    path = write_csv(tmp_path / "a.csv", *(['1,"a\nb",2'] * 20), "", "1,2,x")
    with pytest.raises(DataError, match=r"row 21 \(line 43\), column 'timestamp'"):
        read_files([path], small_times())


def test_many_files_and_patterns(tmp_path):
    write_csv(tmp_path / "part-1.csv", "a,i,1")
    write_csv(tmp_path / "part-0.csv", "b,j,2")
    FRAME.write_parquet(tmp_path / "c.parquet")
    log, _ = read_files([str(tmp_path / "part-*.csv"), str(tmp_path / "c.parquet")], small_times())
    assert events(log) == [("b", "j", 2_000), ("a", "i", 1_000), *EXPECTED]


def test_names_separator_unit_and_sessions(tmp_path):
    path = write_csv(tmp_path / "a.csv", "1;2;3;s1", "1;2;4;s0", header="t;u;i;s")
    times = TimeOptions(unit="ms", allow_odd=True)
    columns = Columns(user="u", item="i", time="t", times=times, session="s")
    log, _ = read_files([path], ReadOptions(columns, text=TextFormat(separator=";")))
    assert events(log) == [("2", "3", 1), ("2", "4", 1)]
    assert log.sessions.tolist() == [1, 0]


def test_byte_order_mark_and_windows_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf" + HEADER.encode() + b"\r\n1,2,3\r\n\r\n4,5,6")
    assert events(read_files([str(path)], small_times())[0]) == [("1", "2", 3000), ("4", "5", 6000)]


def test_ids_are_text_as_they_stand(tmp_path):
    path = write_csv(tmp_path / "a.csv", "007,é,1", "7,e,1")
    assert [user for user, _, _ in events(read_files([path], small_times())[0])] == ["007", "7"]


def test_drop_where_comes_before_everything_else(tmp_path):
    path = write_csv(tmp_path / "a.csv", "1,2,3,1", "1,,x,4", header=f"{HEADER},kind")
    options = small_times(drop_where=parse_conditions("kind=4"))
    log, drops = read_files([path], options)
    assert len(log) == 1
    assert drops == [Drop("drop_where kind=4", 1)]


BAD_ROWS = [
    ("1,2", "too few fields", "row 2 (line 3): expected 3 fields, got 2"),
    ("1,2,3,4", "too many fields", "row 2 (line 3): expected 3 fields, got 4"),
    (b"1,\xff,3", "not UTF-8", "column 'item_id': expected UTF-8, got other bytes"),
    (b"1,2,3,\xff", "not UTF-8", "column 'after the last': expected UTF-8, got other bytes"),
    (b"\xc3\xa9,2,\xc3", "not UTF-8", "column 'timestamp': expected UTF-8, got other bytes"),
    (",2,3", "null user_id", "column 'user_id': expected a value, got nothing"),
    ('1,"",3', "null item_id", "column 'item_id': expected a value, got nothing"),
    ("1,2,", "null timestamp", "column 'timestamp': expected a value, got nothing"),
    ("1,2,noon", "unparsable time", "column 'timestamp': expected a number (s) or ISO 8601, got"),
    ("1,2,-5", "negative time", "column 'timestamp': expected a time since 1970, got '-5'"),
    ("1,2,1500000000000", "time out of range", "is --time_unit right?"),
    ('1,a "b,c" d,3', "misplaced quote", 'a quote (") stands where none belongs'),
    ('1,"a"b,3', "misplaced quote", 'a quote (") stands where none belongs'),
    ('1,"a"\r,3', "misplaced quote", 'a quote (") stands where none belongs'),
]


@pytest.mark.parametrize(("row", "reason", "message"), BAD_ROWS)
def test_a_bad_row_stops_with_its_place_or_is_counted(tmp_path, row, reason, message):
    path = write_csv(tmp_path / "a.csv", "a,i,1", row, "b,j,2", row)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_files([path], small_times())
    assert str(caught.value).startswith(f"{path}: row 2 (line 3)")
    assert "\n" not in str(caught.value)
    log, drops = read_files([path], small_times(on_bad_row="skip"))
    assert events(log) == [("a", "i", 1_000), ("b", "j", 2_000)]
    assert drops == [Drop(reason, 2)]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user_id", [1, None], "row 2, column 'user_id': expected a value, got nothing"),
        ("timestamp", [1, -1], "row 2, column 'timestamp': expected a time since 1970, got -1"),
        ("timestamp", [1.0, float("nan")], "row 2, column 'timestamp': expected a number"),
        ("item_id", [1.0, 2.5], "row 2, column 'item_id': expected a whole number, got 2.5"),
        ("item_id", [1.0, float("nan")], "row 2, column 'item_id': expected a value, got nothing"),
        ("item_id", [True, False], "column 'item_id': expected text or whole numbers, got Boolean"),
    ],
)
def test_bad_parquet_values(tmp_path, column, values, message):
    frame = FRAME.head(2).with_columns(pl.Series(column, values))
    frame.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=re.escape(f"a.parquet: {message}")):
        read_files([str(tmp_path / "a.parquet")], small_times())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"\n\n", "the file is empty"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("a.parquet", b"", "the file is empty"),
        ("a.csv", HEADER.encode(), "no rows after the header"),
        ("a.csv", HEADER.encode() + b"\n\n", "no rows after the header"),
        ("a.csv", b"user_id,item_id\n1,2\n", "header: column 'timestamp' is missing; found user"),
        ("a.csv", b"user_id,user_id,item_id,timestamp\n", "'user_id' occurs more than once"),
        ("a.csv", b"\xff\xfe,item_id\n1,2\n", "header: expected UTF-8, got byte 0xff"),
        ("a.csv", HEADER.encode() + b'\n1,"2,3\n4,5,6\n', 'a quote (") in the last rows'),
        ("a.csv", HEADER.encode() + b',"a"b\n1,2,3,4\n', 'header: a quote (") stands where none'),
        ("a.csv", HEADER.encode() + b"\r1,2,3\r", "header: a carriage return stands within a line"),
        ("a.csv", b"x" * 200_000 + b"\n1\n", "header: field larger than field limit"),
        ("a.csv.gz", b"no gzip", "cannot be unzipped"),
        ("a.csv.gz", gzip.compress(b"x" * 1000, mtime=0)[:-9], "cannot be unzipped"),
        ("a.parquet", b"no parquet", "not readable as Parquet"),
        ("a.json", b"{}", "column 'user_id' is missing"),
        ("a.jsonl", b"\n\n", "the file is empty; expected one JSON object per line"),
        ("a.gz", b"{}", "unknown file type; expected .csv"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    for on_bad_row in ("error", "skip"):
        with pytest.raises(DataError, match=re.escape(message)) as caught:
            read_files([str(path)], small_times(on_bad_row=on_bad_row))
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_a_quote_that_is_never_closed_does_not_read_the_whole_file(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 100)
    path = write_csv(tmp_path / "a.csv", '1,"2,3', *(["4,5,6"] * 100))
    with pytest.raises(DataError, match="no end to the row that starts '1,"):
        read_files([path], small_times())


def test_quotes_within_a_field_are_text(tmp_path):
    path = write_csv(tmp_path / "a.csv", '1,the "best" one,3', '1,"the ""best"" one",3', '1,"""",3')
    items = [item for _, item, _ in events(read_files([path], small_times())[0])]
    assert items == ['the "best" one', 'the "best" one', '"']


@pytest.mark.parametrize("separator", [",", "::"])
@pytest.mark.parametrize("block", [40, 16 << 20])
def test_without_quoting_quotes_are_text(tmp_path, monkeypatch, separator, block):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", block)
    items = ['"', '""', '"a"b', 'a "b" c', '12" mix', '"a"', ' "', "plain"]
    rows = [separator.join(('"1', item, str(time), "")) for time, item in enumerate(items)]
    header = separator.join((*HEADER.split(","), '12" "of'))
    path = tmp_path / "a.csv"
    path.write_bytes("\r\n".join([header, *rows, ""]).encode())
    options = small_times(text=TextFormat(separator, quoted=False))
    log, drops = read_files([str(path)], options)
    assert events(log) == [('"1', item, 1_000 * time) for time, item in enumerate(items)]
    assert drops == []
    with path.open("ab") as file:
        file.write(separator.join(('"1', '"a', '"b', "4", "")).encode())
    with pytest.raises(DataError, match=r"row 9 \(line 10\): expected 4 fields, got 5"):
        read_files([str(path)], options)


def test_an_id_may_begin_like_a_file(tmp_path):
    path = write_csv(tmp_path / "a.csv", "\ufeff1,2,3")
    assert events(read_files([path], small_times())[0]) == [("\ufeff1", "2", 3_000)]


def test_a_long_value_is_cut_in_a_message(tmp_path):
    path = write_csv(tmp_path / "a.csv", f"1,2,{'9' * 100_000}x")
    with pytest.raises(DataError, match=r"got '9+\.\.\.; --on_bad") as caught:
        read_files([path], small_times())
    assert len(str(caught.value)) < 400


def test_a_header_of_many_columns_is_cut_in_a_message(tmp_path):
    header = ",".join(f"column {k}" for k in range(5_000))
    path = write_csv(tmp_path / "a.csv", "1", header=header)
    with pytest.raises(DataError, match=r"found column 0, .* column 29 and 4970 more$"):
        read_files([path], small_times())


def test_missing_file_directory_and_empty_parquet(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_files([str(tmp_path / "a.csv")], small_times())
    with pytest.raises(DataError, match="no files in this directory"):
        read_files([str(tmp_path)], small_times())
    FRAME.clear().write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no rows in it"):
        read_files([str(tmp_path / "a.parquet")], small_times())


def test_an_empty_log_reports_what_was_skipped(tmp_path):
    path = write_csv(tmp_path / "a.csv", "1,2,x", "1,,3")
    with pytest.raises(DataError, match=r"no rows are left of the log .*null item_id: 1 rows"):
        read_files([path], small_times(on_bad_row="skip"))


def test_codes_follow_the_ids_whatever_the_order(tmp_path):
    rows = [f"u{k},i{k % 5},{k}" for k in range(20)]
    one, _ = read_files([write_csv(tmp_path / "a.csv", *rows)], small_times())
    other, _ = read_files([write_csv(tmp_path / "b.csv", *rows[::-1])], small_times())
    np.testing.assert_array_equal(one.users, other.users[::-1])
    assert one.user_ids.to_list() == sorted(one.user_ids.to_list())
