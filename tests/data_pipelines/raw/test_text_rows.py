import csv
import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.raw.text_rows import find_rows

_FIELDS = st.text(st.sampled_from('a,é"\n '), max_size=4)


@given(st.lists(st.lists(_FIELDS, min_size=2, max_size=4), min_size=1, max_size=6))
def test_rows_are_those_of_the_csv_module(table):
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(table)
    block = stream.getvalue().encode()
    rows, used, lines = find_rows(block, ",")
    assert used == len(block)
    assert lines == block.count(b"\n")
    assert rows.fields.tolist() == [len(row) for row in table]
    texts = [rows[row : row + 1].text(block).decode() for row in range(len(rows))]
    assert [next(csv.reader(io.StringIO(text, newline=""))) for text in texts] == table
    starts = [block[:start].count(b"\n") for start in rows.starts]
    assert rows.lines.tolist() == starts


def test_blank_lines_are_no_rows_and_the_last_row_must_end():
    rows, used, lines = find_rows(b"a,b\n\n\r\nc,d\r\ne,", ",")
    assert (len(rows), used, lines) == (2, 12, 4)
    assert rows.lines.tolist() == [0, 3]


def test_text_of_some_rows():
    block = b"a,1\nb,2\nc,3\n"
    rows, _, _ = find_rows(block, ",")
    assert rows[np.array([True, False, True])].text(block) == b"a,1\nc,3\n"


def test_rows_that_are_not_utf8():
    block = "é,1\n".encode() + b"\xff,2\nc,\xc3\nd,4\n"
    rows, _, _ = find_rows(block, ",")
    assert rows.not_utf8(block).tolist() == [False, True, True, False]


def test_many_rows_that_are_not_utf8_are_each_read_once():
    class Counted(bytes):
        """Bytes that count what is sliced out of them."""

        sliced = 0

        def __getitem__(self, key):
            part = super().__getitem__(key)
            Counted.sliced += len(part)
            return part

    block = Counted(b"\xff,1\n" * 500)
    rows, _, _ = find_rows(block, ",")
    assert rows.not_utf8(block).all()
    assert Counted.sliced <= len(block)


def test_misquoted_rows():
    good = ['a,"b"', 'a,"b""c"', '"a\n",b', "a", '""', '"a"\r', 'a"b"c,d', 'a""b']
    bad = ['"a"b', 'a"b,c"', 'a"\n"', '"a" ,b', '"a"\r,b', ' "a,b"', '"a""b"c']
    quoted = dict.fromkeys(good, False) | dict.fromkeys(bad, True)
    rows, _, _ = find_rows("".join(f"{row}\n" for row in quoted).encode(), ",")
    assert dict(zip(quoted, rows.misquoted.tolist(), strict=True)) == quoted
