"""7, "7" and 7.0 are one id; outputs have ids in the log's type."""

import decimal
import re
import uuid

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import DataError
from data_pipelines.raw.drops import Drop
from data_pipelines.raw.ids import IdFacts, facts_of, merged, typed_ids
from data_pipelines.raw.readers import read_files
from tests.data_pipelines.logs import small_times, write_csv

WHOLE = st.integers(-(2**70), 2**70).map(str)
IDS = st.one_of(WHOLE, WHOLE.map(lambda text: f"{text}.0"), st.sampled_from(["a", "007", "1.5"]))


def read(*files, **options):
    """Users, type of their ids, drops."""
    log, drops = read_files([str(file) for file in files], small_times(**options))
    return log.user_ids.to_list(), log.facts.ids_of("user_id").id_type, drops


def csv_of(path, *users):
    return write_csv(path, *(f"{user},i,{time}" for time, user in enumerate(users)))


def parquet_of(path, users):
    table = {"user_id": users, "item_id": ["i"] * len(users), "timestamp": range(len(users))}
    pq.write_table(pa.table(table), path)
    return path


@pytest.mark.parametrize(
    ("ids", "id_type", "distinct"),
    [
        (["7", "8", "7"], "int64", ["7", "8"]),
        (["7", "7.0", "8.00"], "int64", ["7", "8"]),
        (["-3", "0"], "int64", ["-3", "0"]),
        (["7", "007"], "string", ["007", "7"]),
        (["7", "7.0", "guest"], "string", ["7", "guest"]),
        (["1", "1.0", "1.5"], "string", ["1", "1.0", "1.5"]),
        (["7", "-0", "+7"], "string", ["+7", "-0", "7"]),
        ([str(2**63), "1"], "uint64", ["1", str(2**63)]),
        ([str(2**63), "-1"], "string", ["-1", str(2**63)]),
        ([str(2**64)], "string", [str(2**64)]),
        ([" 7", "7"], "string", [" 7", "7"]),
    ],
)
def test_ids_of_a_text_file(tmp_path, ids, id_type, distinct):
    assert read(csv_of(tmp_path / "a.csv", *ids)) == (distinct, id_type, [])


@pytest.mark.parametrize(
    ("users", "id_type", "distinct"),
    [
        (pa.array([7, 8]), "int64", ["7", "8"]),
        (pa.array([7, 2**63], pa.uint64()), "uint64", ["7", str(2**63)]),
        (pa.array([7.0, 8.0]), "int64", ["7", "8"]),
        (pa.array([7.0, 8.0], pa.float32()), "int64", ["7", "8"]),
        (pa.array([decimal.Decimal("7.00"), decimal.Decimal(8)]), "int64", ["7", "8"]),
        (pa.array(["7", "8"]), "string", ["7", "8"]),
        (pa.array(["7", "7.0"]), "string", ["7"]),
        (pa.array(["7.0", "8.0"]), "string", ["7.0", "8.0"]),
        (pa.array([b"7", "é".encode()]), "string", ["7", "é"]),
        (pa.array([b"\x00\xff"], pa.binary(2)), "string", ["00ff"]),
        (pa.array([uuid.UUID(int=7).bytes], pa.uuid()), "string", [str(uuid.UUID(int=7))]),
    ],
    ids=str,
)
def test_ids_of_parquet(tmp_path, users, id_type, distinct):
    assert read(parquet_of(tmp_path / "a.parquet", users)) == (distinct, id_type, [])


def test_files_with_ids_of_different_types_are_joined(tmp_path):
    """pandas writes integers with a missing value as floats, in text and in Parquet."""
    whole = csv_of(tmp_path / "a.csv", "7", "8")
    gap = csv_of(tmp_path / "b.csv", "7.0", "", "9.0")
    floats = parquet_of(tmp_path / "c.parquet", pa.array([8.0, None, float("nan"), 9.0]))
    assert read(whole, gap, floats, on_bad_row="skip") == (
        ["7", "8", "9"],
        "int64",
        [Drop("null user_id", 3)],
    )
    text = parquet_of(tmp_path / "d.parquet", pa.array(["9.0", "guest"]))
    assert read(whole, text)[:2] == (["7", "8", "9", "guest"], "string")


@pytest.mark.parametrize(
    ("users", "message", "left"),
    [
        ([7.5, 8.0], "row 1, column 'user_id': expected a whole number, got 7.5", ["8"]),
        ([float("inf"), 8.0], "row 1, column 'user_id': expected a whole number, got inf", ["8"]),
        ([decimal.Decimal("7.5"), 8], "expected a whole number, got Decimal('7.5')", ["8"]),
        ([b"\xff", b"8"], "row 1, column 'user_id': expected UTF-8, got b'\\xff'", ["8"]),
    ],
)
def test_values_that_are_no_ids_are_bad_rows(tmp_path, users, message, left):
    path = parquet_of(tmp_path / "a.parquet", pa.array(users))
    with pytest.raises(DataError, match=re.escape(message)):
        read(path)
    found, _, drops = read(path, on_bad_row="skip")
    assert found == left
    assert [drop.events for drop in drops] == [1]


@pytest.mark.parametrize(
    ("dtype", "large"), [(pa.float64(), 2.0**53 + 2), (pa.float32(), 2.0**24 + 2)]
)
def test_floats_that_do_not_tell_ids_apart_are_refused(tmp_path, dtype, large):
    path = parquet_of(tmp_path / "a.parquet", pa.array([1.0, -large], dtype))
    for on_bad_row in ("error", "skip"):
        with pytest.raises(DataError, match=r"row 2, column 'user_id': got -.*, beyond which Fl"):
            read(path, on_bad_row=on_bad_row)


@given(st.lists(IDS, min_size=1), st.lists(IDS, min_size=1), st.booleans(), st.booleans())
def test_facts_of_pieces_are_those_of_all(one, other, is_text, is_other_text):
    found = facts_of(pl.Series(one), is_text) | facts_of(pl.Series(other), is_other_text)
    if is_text == is_other_text:
        assert found == facts_of(pl.Series(one + other), is_text)
    # Merged ids have the type that the facts tell.
    ids = merged(pl.Series(one + other), found)
    assert typed_ids(ids, found.id_type).cast(pl.String).to_list() == ids.to_list()
    if found.id_type == "string" and not (is_text or is_other_text):
        assert any(not re.fullmatch(r"0|-?[1-9][0-9]*", name) for name in ids) or not all(
            -(2**63) <= int(name) < 2**63 for name in ids
        )


def test_no_ids_are_no_text():
    assert facts_of(pl.Series([], dtype=pl.String), is_text=True) == IdFacts()


WORDS = ["NA", "NULL", "nan", "None", "null", "N/A", "\\N", "<NA>", " NA ", "  ", '""']


@pytest.mark.parametrize("word", WORDS)
def test_null_words_are_no_users(tmp_path, word):
    path = csv_of(tmp_path / "a.csv", "7", word, "8", word)
    with pytest.raises(DataError, match=r"row 2 \(line 3\), column 'user_id': expected a value"):
        read(path)
    assert read(path, on_bad_row="skip") == (["7", "8"], "int64", [Drop("null user_id", 2)])


def test_a_null_word_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"column 'user_id': expected a value, got 'NA', which mea"):
        read(csv_of(tmp_path / "a.csv", "NA"))
    users = pa.array(["NA", "a"])
    with pytest.raises(DataError, match=r"a.parquet: row 1, column 'user_id': .* got 'NA', which"):
        read(parquet_of(tmp_path / "a.parquet", users))


def test_null_words_can_be_changed(tmp_path):
    path = csv_of(tmp_path / "a.csv", "7", "NA", "-1")
    assert read(path, null_values=()) == (["-1", "7", "NA"], "string", [])
    assert read(path, null_values=("-1",), on_bad_row="skip") == (
        ["7", "NA"],
        "string",
        [Drop("null user_id", 1)],
    )
    # Whole numbers can be null words too, whatever the type.
    path = parquet_of(tmp_path / "a.parquet", pa.array([7, -1]))
    assert read(path, null_values=("-1",), on_bad_row="skip")[0] == ["7"]
    # Blanks always mean a missing value.
    assert read(csv_of(tmp_path / "b.csv", "7", " "), null_values=(), on_bad_row="skip")[0] == ["7"]
