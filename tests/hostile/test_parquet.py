"""Parquet logs of every type and writer, and damaged ones."""

import collections
import datetime
import decimal
import io
import uuid
from random import Random

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.errors import DataError
from data_pipelines.raw.readers import read_files
from tests.data_pipelines.logs import small_times
from tests.hostile.damage import damaged, flipped
from tests.hostile.outcomes import Outcomes
from tests.hostile.test_readers import SKIP, events_of
from tests.volume import few

PATH = r"/\S+\.parquet"
KINDS = {
    "empty": PATH + r": the file is empty; expected Parquet",
    "damaged": PATH + r": not readable as Parquet: .+; write it again",
    "column": PATH + r": header: column '\w+' (is missing|occurs more than once); found .*",
    "type": PATH + r": column '\w+': expected text, numbers or times, got .+",
    "id type": PATH + r": column '\w+': expected text or whole numbers, got .+",
    "fraction": PATH + r": row \d+, column '\w+': expected a whole number, got .+" + SKIP,
    "large": PATH + r": row \d+, column '\w+': got .+, beyond which Float64 does not tell .+",
    "bytes": PATH + r": row \d+, column '\w+': expected UTF-8, got .+" + SKIP,
    "null": PATH + r": row \d+, column '\w+': expected a value, got .+; --on_bad_row=skip .+",
    "time": PATH + r": row \d+, column 'timestamp': expected a (number|time) .+, got .+",
    "no rows": PATH + r": no rows in it; leave the file out",
}
IDS = (0, 7, 12, 100)
SECONDS = (0, 1, 1_445_617_130, 4_000_000_000)


def id_column(rng, ids):
    """An Arrow array of these ids in some type, and the ids as they are read."""
    text = [str(value) for value in ids]
    octets = [f"{value:04d}".encode() for value in ids]
    uuids = [uuid.UUID(int=value) for value in ids]
    array, read = rng.choice(
        (
            lambda: (pa.array(text), text),
            lambda: (pa.array(text, pa.large_string()), text),
            lambda: (pa.array(text, pa.string_view()), text),
            lambda: (pa.array(text).dictionary_encode(), text),
            lambda: (pa.array(ids, rng.choice(INTEGERS)), text),
            lambda: (pa.array([float(value) for value in ids], rng.choice(FLOATS)), text),
            lambda: (pa.array([decimal.Decimal(value).scaleb(0) for value in ids]), text),
            lambda: (pa.array(ids).cast(pa.decimal128(30, 3)), text),
            lambda: (pa.array(octets, rng.choice(BYTES)), [value.decode() for value in octets]),
            lambda: (pa.array(octets, pa.binary(4)), [value.hex() for value in octets]),
            lambda: (
                pa.array([value.bytes for value in uuids], pa.binary(16)).cast(pa.uuid()),
                [str(value) for value in uuids],
            ),
        )
    )()
    return array, read


INTEGERS = (pa.int8(), pa.int64(), pa.uint16(), pa.uint64())
FLOATS = (pa.float32(), pa.float64())
BYTES = (pa.binary(), pa.large_binary(), pa.binary_view())


def time_column(rng, seconds):
    """An Arrow array of these times in some type that can hold them."""
    moments = [datetime.datetime.fromtimestamp(value, datetime.UTC) for value in seconds]
    zone = rng.choice((None, "UTC", "Europe/Berlin", "Nowhere/Land", "+05:30"))
    counts = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}
    unit = rng.choice(tuple(counts))
    return rng.choice(
        (
            lambda: pa.array(seconds, pa.int64()),
            lambda: pa.array(seconds, pa.uint32()),
            lambda: pa.array(seconds, pa.float64()),
            lambda: pa.array([decimal.Decimal(value) for value in seconds]),
            lambda: pa.array([str(value) for value in seconds]),
            lambda: pa.array([moment.isoformat() for moment in moments]).dictionary_encode(),
            lambda: pa.array([value * counts[unit] for value in seconds], pa.int64()).cast(
                pa.timestamp(unit, zone)
            ),
        )
    )()


BAD_COLUMNS = (
    ("user_id", [1.5]), ("item_id", [True]), ("user_id", [b"\xff"]), ("item_id", [[1]]),
    ("user_id", [float("inf")]), ("item_id", [2.0**53 + 2]), ("user_id", ["NA"]),
    ("item_id", [decimal.Decimal("7.50")]), ("user_id", [float("nan")]), ("timestamp", ["nan"]),
    ("user_id", [{"a": 1}]), ("item_id", [None]), ("user_id", [""]), ("timestamp", [-1]),
    ("timestamp", [float("nan")]), ("timestamp", [10**18]), ("timestamp", ["noon"]),
    ("timestamp", [datetime.date(1969, 1, 1)]), ("timestamp", [datetime.time(12)]),
    ("timestamp", [decimal.Decimal(10) ** 60]), ("timestamp", [None]), ("timestamp", [[1]]),
)  # fmt: skip


def parquet_log(rng, bad=False):
    """The bytes of a Parquet log, and its events, or None for one that must be refused."""
    rows = rng.randint(1, 40)
    users = [rng.choice(IDS) for _ in range(rows)]
    items = [rng.choice(IDS) for _ in range(rows)]
    seconds = [rng.choice(SECONDS) for _ in range(rows)]
    user_ids, users_read = id_column(rng, users)
    item_ids, items_read = id_column(rng, items)
    columns = {
        "user_id": user_ids,
        "item_id": item_ids,
        "timestamp": time_column(rng, seconds),
        "nested": pa.array([{"user_id": [1]}] * rows),
        "user_id.x": pa.array(range(rows)),
    }
    events = [
        (user, item, value * 1000)
        for user, item, value in zip(users_read, items_read, seconds, strict=True)
    ]
    if bad:
        name, values = rng.choice(BAD_COLUMNS)
        columns[name], events = pa.array(values * rows), None
        if rng.random() < 0.2:
            del columns[name]
        if rng.random() < 0.1:
            columns = {name: column[:0] for name, column in columns.items()}
    order = rng.sample(sorted(columns), len(columns))
    table = pa.table({name: columns[name] for name in order})
    if rng.random() < 0.3:
        table = table.replace_schema_metadata({b"\xff": b"\xfe"})
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        compression=rng.choice(("none", "snappy", "gzip", "zstd", "lz4", "brotli")),
        row_group_size=rng.choice((3, 1000)),
        write_page_checksum=rng.random() < 0.5,
        use_dictionary=rng.random() < 0.5,
        data_page_version=rng.choice(("1.0", "2.0")),
        store_schema=rng.random() < 0.7,
    )
    return buffer.getvalue(), events


def read(path, data):
    path.write_bytes(data)
    return events_of(read_files([str(path)], small_times())[0])


def test_every_type_and_writer_is_read_and_other_files_are_refused(tmp_path):
    outcomes, inputs = Outcomes(KINDS), few(100, of=600)
    for seed in range(inputs):
        rng = Random(seed)
        data, events = parquet_log(rng, bad=rng.random() < 0.5)
        try:
            got = read(tmp_path / "log.parquet", data)
        except DataError as error:
            outcomes.refused(error)
            assert events is None, (seed, error)
        else:
            assert got == events, seed
            outcomes.right()
    outcomes.require(inputs, never=("empty", "damaged"))


def test_damaged_files(tmp_path):
    """What is still read equals what polars reads in the same bytes."""
    outcomes, inputs = Outcomes(KINDS), few(150, of=1400)
    changed = collections.Counter()
    for seed in range(inputs):
        rng = Random(seed)
        data, events = parquet_log(rng)
        data = rng.choice((damaged, flipped, flipped))(rng, data)
        try:
            got = read(tmp_path / "log.parquet", data)
        except DataError as error:
            outcomes.refused(error)
            continue
        if got != events:
            changed[agrees_with_polars(data, got)] += 1
        outcomes.right()
    outcomes.require(
        inputs, never=("type", "id type", "fraction", "large", "bytes", "null", "no rows")
    )
    assert not changed["differs"]
    assert changed.total() < inputs / 35, "most damage must be noticed"


def agrees_with_polars(data, got):
    """Whether polars reads the same: a flipped bit may give another valid file."""
    try:
        frame = pl.read_parquet(io.BytesIO(data))
    except BaseException as error:
        # Polars panics on some files that Arrow reads.
        assert isinstance(error, pl.exceptions.PolarsError) or "Panic" in type(error).__name__
        return "unreadable"
    pairs = zip(frame["user_id"], frame["item_id"], got, strict=True)
    same = all(user in forms(one) and item in forms(other) for one, other, (user, item, _) in pairs)
    return "same" if same else "differs"


def forms(value):
    """The ids that a value may be read as; polars does not tell fixed-length bytes from others."""
    if isinstance(value, bytes):
        digits = value.hex()
        ids = {digits, value.decode("utf-8", "replace")}
        return ids | ({str(uuid.UUID(digits))} if len(value) == 16 else set())
    return {str(int(value)) if isinstance(value, float | decimal.Decimal) else str(value)}


@pytest.mark.parametrize("days", [2**31 - 1, -(2**31)])
def test_dates_that_python_does_not_have(tmp_path, days):
    table = {"user_id": ["a"], "item_id": ["b"], "timestamp": pa.array([days], pa.date32())}
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    with pytest.raises(DataError, match=rf"row 1, column 'timestamp': expected .* got {days} as"):
        read_files([str(tmp_path / "log.parquet")], small_times())
