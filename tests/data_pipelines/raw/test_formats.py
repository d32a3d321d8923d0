"""Real-world files: compressed, without a header, in other encodings, with other endings."""

import bz2
import gzip
import lzma
import re
import zipfile

import polars as pl
import pyarrow as pa
import pytest

from data_pipelines.errors import DataError
from data_pipelines.raw import delimited
from data_pipelines.raw.byte_streams import read_pieces
from data_pipelines.raw.columns import Columns
from data_pipelines.raw.delimited import TextFormat
from data_pipelines.raw.ingest import ReadOptions
from data_pipelines.raw.readers import read_files

TEXT = "user_id,item_id,timestamp\né,7,1600000000\nb,8,1600000060\n"
EVENTS = [("é", "7", 1_600_000_000_000), ("b", "8", 1_600_000_060_000)]


def zip_of(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path.read_bytes()


PACKERS = {
    "": lambda data, path: data,
    ".gz": lambda data, path: gzip.compress(data),
    ".bz2": lambda data, path: bz2.compress(data),
    ".xz": lambda data, path: lzma.compress(data),
    ".zst": lambda data, path: pa.compress(data, codec="zstd", asbytes=True),
    ".zip": lambda data, path: zip_of(path, ("__MACOSX/._a.csv", b"x"), ("log/a.csv", data)),
    ".GZ": lambda data, path: gzip.compress(data),
}


def read(path, separator=None, names=(), encoding="utf-8", **columns):
    text = TextFormat(separator, names, encoding)
    log, _ = read_files([str(path)], ReadOptions(Columns(**columns), text))
    users, items = log.user_ids.gather(log.users), log.item_ids.gather(log.items)
    return list(zip(users, items, log.times_ms.tolist(), strict=True))


def refusal(path, **options):
    with pytest.raises(DataError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_columns_of_a_file_that_names_its_own_are_refused(tmp_path, suffix):
    """Otherwise the flag would be ignored, and the wrong column read."""
    path = tmp_path / f"a{suffix}"
    frame = pl.DataFrame({"user_id": ["a"], "item_id": ["b"], "timestamp": [1_600_000_000]})
    (frame.write_parquet if suffix == ".parquet" else frame.write_ndjson)(path)
    assert len(read(path)) == 1
    expected = f"{path}: --columns names the columns of text without a header, but this file names"
    assert refusal(path, names=("item_id", "user_id", "timestamp")).startswith(expected)


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("block", [1 << 24, 40])
def test_packed_files(tmp_path, monkeypatch, suffix, block):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", block)
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(PACKERS[suffix](TEXT.encode(), path))
    assert read(path) == EVENTS


@pytest.mark.parametrize("suffix", [suffix for suffix in PACKERS if suffix])
@pytest.mark.parametrize(
    "damage", [lambda d: d[:-9], lambda d: b"no" + d[2:], lambda d: d[:3], lambda d: d[:100_000]]
)
def test_errors_of_unpacking_are_one_line(tmp_path, suffix, damage):
    path = tmp_path / f"a.csv{suffix}"
    rows = "".join(f"u{k * k},{k % 9},{1_600_000_000 + k}\n" for k in range(50_000))
    data = f"user_id,item_id,timestamp\n{rows}".encode()
    data = zip_of(path, ("a.csv", data)) if suffix == ".zip" else PACKERS[suffix](data, path)
    path.write_bytes(damage(data))
    assert re.match(r"\S+: cannot be unzipped: .+", refusal(path))


def test_all_of_a_large_packed_file_is_read(tmp_path):
    rows = "".join(f"u{k},{k % 9},{1_600_000_000 + k}\n" for k in range(50_000))
    for suffix, pack in PACKERS.items():
        path = tmp_path / f"a.csv{suffix}"
        data = f"user_id,item_id,timestamp\n{rows}".encode()
        path.write_bytes(pack(data, path))
        pieces = list(read_pieces(path, 100_000))
        assert b"".join(pieces) == data and all(pieces)


def test_a_zip_holds_one_file(tmp_path):
    path = tmp_path / "ml.zip"
    zip_of(path, ("ml/ratings.dat", b""), ("ml/users.dat", b""))
    assert "expected one file in it, got 2 (ml/ratings.dat, ml/users.dat); unzip" in refusal(path)
    zip_of(path, ("ml/ratings.dat", TEXT.encode()))
    assert read(path, separator=",") == EVENTS
    zip_of(path, ("a.parquet", b"x"))
    assert "unknown file type" in refusal(path)


@pytest.mark.parametrize("block", [1 << 24, 40, 41, 42, 43])
def test_movielens(tmp_path, monkeypatch, block):
    """user::item::rating::timestamp, without a header, and with an ending that says nothing."""
    monkeypatch.setattr(delimited, "BLOCK_BYTES", block)
    path = tmp_path / "ratings.dat"
    path.write_text("".join(f"{k}::11{k}::5::{978_300_760 + k}\n" for k in range(30)))
    names = ("user_id", "item_id", "rating", "timestamp")
    assert read(path, separator="::", names=names) == [
        (str(k), f"11{k}", (978_300_760 + k) * 1000) for k in range(30)
    ]
    assert "other text needs --separator" in refusal(path)
    assert "without a header, --columns=" in refusal(path, separator="::")
    wrong = refusal(path, separator="::", names=names[:3], time="rating")
    assert "row 1 (line 1): expected 3 fields, got 4" in wrong


def test_recbole_as_it_is(tmp_path):
    path = tmp_path / "ml.inter"
    path.write_text(
        "user_id:token\titem_id:token\ttags:token_seq\ttimestamp:float\n"
        "é\t7\ta b\t1600000000\nb\t8\tc\t1.60000006E9\n"
    )
    assert read(path) == EVENTS


@pytest.mark.parametrize("name", ["a.txt", "a.data", "part-00000", "a.inter"])
def test_other_names_are_text_with_a_separator(tmp_path, name):
    path = tmp_path / name
    path.write_text(TEXT.replace(",", "|"))
    assert read(path, separator="|") == EVENTS
    path.write_text(TEXT.partition("\n")[2].replace(",", "|"))
    assert read(path, separator="|", names=("user_id", "item_id", "timestamp")) == EVENTS


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig", "UTF8"])
@pytest.mark.parametrize("block", [1 << 24, 41])
def test_encodings(tmp_path, monkeypatch, encoding, block):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", block)
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT.encode(encoding))
    assert read(path, encoding=encoding) == EVENTS


def test_other_encodings_say_what_reads_them(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT.encode("latin-1"))
    assert "column 'user_id': expected UTF-8, got other bytes; --encoding=latin-1" in refusal(path)
    assert "is not in --encoding=ascii: 'ascii' codec" in refusal(path, encoding="ascii")
    path.write_bytes(TEXT.encode("utf-16"))
    assert "header: expected UTF-8, got byte 0xff; --encoding=" in refusal(path)


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("User ID,item_id,timestamp", "found User ID, item_id, timestamp; did you mean 'User ID'?"),
        ("userId,item_id,timestamp", "did you mean 'userId'?"),
        (" user_id,item_id,timestamp", "did you mean ' user_id'?"),
        ("visitorid,item_id,timestamp", "did you mean 'visitorid'?"),
        ("CustomerID,item_id,timestamp", "did you mean 'CustomerID'?"),
        ("usr_id,item_id,timestamp", "did you mean 'usr_id'?"),
        ("user_id;item_id;timestamp", "is --separator=';' meant?"),
        ("user_id\titem_id\ttimestamp", "is --separator=tab meant?"),
        ("1,1193,978300760", "without a header, --columns=user_id,item_id,... names the columns"),
        ("a,b,c", "found a, b, c"),
    ],
)
def test_a_missing_column_suggests_names(tmp_path, header, hint):
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n1,2,3\n")
    assert refusal(path).endswith(hint)


def test_parquet_has_names_of_its_own(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"User": [1]}).write_parquet(path)
    assert "--columns names the columns of text without a header" in refusal(
        path, names=("user_id",)
    )
    assert "did you mean 'User'?" in refusal(path)


@pytest.mark.parametrize("name", ["a.xlsx", "a.avro", "a.orc"])
def test_types_that_are_no_text(tmp_path, name):
    path = tmp_path / name
    path.write_text(TEXT)
    assert "unknown file type; expected .csv" in refusal(path, separator=",")
