"""Given embeddings and their ids: odd and damaged files, compared with a plain second reader."""

import ast
import io
import math
import struct
from random import Random

import numpy as np
import polars as pl
import pytest

from data_pipelines.embeddings.item_embeddings import open_item_embeddings
from data_pipelines.errors import DataError
from data_pipelines.sessions.vocabulary import Vocabulary
from hiertcn_jax.batch import FIRST_ITEM_ID
from tests.hostile.damage import damaged, flipped, truncated
from tests.hostile.outcomes import Outcomes
from tests.volume import few

NPY, IDS = r"/\S+/E\.npy", r"/\S+/ids\.(txt|parquet)"
KINDS = {
    "npy": NPY + r": not readable as \.npy: .+; write it with numpy\.save",
    "type": NPY + r": expected float16 or float32, got .+; save E\.astype\('float32'\)",
    "shape": NPY + r": expected a matrix with one row per item, got the shape .+",
    "order": NPY + r": expected rows one after the other \(C order\), got Fortran order; .+",
    "size": NPY
    + r": expected \d+ bytes for \d+ rows of \d+ float(16|32), got \d+: was it .+ again",
    "not finite": NPY + r": row \d+ \(counted from 0\), of the item '.+': a value is not .+",
    "count": NPY + r": \d+ rows, but \S+ has \d+ ids; both must have one row per item",
    "lacks": IDS + r": lacks [\d,]+ of the [\d,]+ items of the catalogue, the first is .+",
    "empty id": IDS + r": (line|row) \d+: the id is empty",
    "twice": IDS + r": (line|row) \d+: .+ occurs twice",
    "lines": IDS + r": not readable as lines of text: .+",
    "parquet": IDS + r": (not readable as Parquet: .+; write it again|the file is empty; .+)",
    "column": IDS + r": expected one column 'item_id', got .*",
    "id type": IDS + r": column 'item_id': expected text or integers",
}
ODD_IDS = ("a,b", '"q', "  x ", "ü", "1", "NA", "null", "\x00", "#c", "'", "nan", "\u2028")
HEADERS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'more': 1}",
    "{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (10**9, 3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2.0, 3)}",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3)}",
    "{'descr': {}, 'fortran_order': False, 'shape': (2, 3)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (2, 3)}",
    "{[]: 1}", "{'descr': __import__('os').system('true')}", "", "[]", "{", "(" * 300, "\x00",
    "(" * 9000, "1 +" * 2000, "'" + "x" * 20_000 + "'",
)  # fmt: skip


def npy(rng, items):
    """A file with a row for each item, in some form; or an invalid one."""
    dtype = rng.choice(("<f2", "<f4", "<f4", "<f4", "<f4", "<f8", ">f4", "<i4", "S3", "?"))
    values = np.random.default_rng(rng.randrange(2**32)).normal(size=(len(items), 3))
    matrix = (values > 0 if dtype == "?" else values).astype(dtype)
    odd = rng.random()
    if odd < 0.05:
        matrix = rng.choice((matrix[0], matrix[None], matrix[:0], matrix[:, :0], matrix[0, 0]))
    elif odd < 0.1:
        matrix = np.asfortranarray(matrix)
    elif odd < 0.2 and matrix.dtype.kind == "f":
        value = rng.choice((math.nan, math.inf, -math.inf))
        matrix[rng.randrange(len(items)), rng.randrange(3)] = value
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(matrix), version=rng.choice(((1, 0), (2, 0))))
    data = file.getvalue()
    if odd > 0.93:
        header = rng.choice(HEADERS).encode("latin1") + b"\n"
        data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data[-24:]
    return data


def ids_file(rng, items):
    """Its suffix and its bytes."""
    items = list(items)
    if rng.random() < 0.2:
        change = rng.randrange(4)
        if change == 0:
            items.pop()
        elif change == 1:
            items[-1] = items[0]
        else:
            items[rng.randrange(len(items))] = ("", "other")[change - 2]
    if rng.random() < 0.7:
        newline = rng.choice(("\n", "\n", "\r\n"))
        text = newline.join(items) + rng.choice(("", newline))
        return ".txt", text.encode()
    series = pl.Series("item_id", items).replace({"": None})
    form = rng.randrange(6)
    if form == 0:
        series = series.cast(pl.Categorical)
    frame = pl.DataFrame([series]).with_columns(other=1)
    if form == 1:
        frame = frame.rename({"item_id": rng.choice(("id", "item_id ", "Item_id"))})
    elif form == 2:
        frame = frame.with_columns(item_id=pl.lit(rng.choice((0.5, True))))
    file = io.BytesIO()
    frame.write_parquet(file)
    return ".parquet", file.getvalue()


def plain_matrix(data):
    """The rows in a .npy file; None if it cannot be used."""
    if data[:6] != b"\x93NUMPY" or data[6:8] not in (b"\x01\x00", b"\x02\x00"):
        return None
    try:
        form, start = ("<H", 10) if data[6] == 1 else ("<I", 12)
        (size,) = struct.unpack(form, data[8:start])
        header = ast.literal_eval(data[start : start + size].decode("latin1"))
        kind = {"<f2": "e", "=f2": "e", "<f4": "f", "=f4": "f", "f4": "f"}[header["descr"]]
        height, width = header["shape"]
    except (ValueError, SyntaxError, KeyError, TypeError, struct.error, MemoryError):
        return None
    if size > 10_000 or set(header) != {"descr", "fortran_order", "shape"}:
        return None
    if header["fortran_order"] is not False or not isinstance(header["shape"], tuple):
        return None
    if not (type(height) is type(width) is int and height > 0 and width > 0):
        return None
    body = data[start + size :]
    if len(body) != height * width * struct.calcsize(kind):
        return None
    values = struct.unpack(f"<{height * width}{kind}", body)
    rows = [list(values[first : first + width]) for first in range(0, len(values), width)]
    return rows if all(map(math.isfinite, values)) else None


def plain_ids(suffix, data):
    """The ids in a file; None if it cannot be used."""
    if suffix == ".parquet":
        try:
            series = pl.read_parquet(io.BytesIO(data))["item_id"]
        except Exception:
            return None
        ids = (
            series.cast(pl.String).to_list() if series.dtype in (pl.String, pl.Categorical) else []
        )
    else:
        try:
            *lines, last = data.removeprefix(b"\xef\xbb\xbf").decode().split("\n")
        except UnicodeDecodeError:
            return None
        ids = [line.removesuffix("\r") for line in [*lines, *([last] if last else [])]]
    return ids if all(ids) and len(set(ids)) == len(ids) and "\x01" not in "".join(ids) else None


def test_odd_and_damaged_files_are_read_as_the_plain_reader_reads_them(tmp_path):
    outcomes, inputs = Outcomes(KINDS), few(200, of=2000)
    for seed in range(inputs):
        rng = Random(seed)
        items = rng.sample([*ODD_IDS, *(f"item {n}" for n in range(20))], rng.randint(2, 8))
        matrix, (suffix, ids) = npy(rng, items), ids_file(rng, items)
        harm = rng.random()
        if harm < 0.25:
            matrix = rng.choice((damaged, flipped))(rng, matrix)
        elif harm < 0.5:
            # test_parquet.py covers other damage to Parquet: the reader is the same.
            ids = (damaged if suffix == ".txt" else truncated)(rng, ids)
        path, ids_path = tmp_path / "E.npy", tmp_path / f"ids{suffix}"
        path.write_bytes(matrix)
        ids_path.write_bytes(ids)
        known = rng.sample(items, rng.randint(1, len(items)))
        counts = np.ones(len(known), np.int64)
        vocabulary = Vocabulary(pl.Series(known, dtype=pl.String), counts, np.zeros_like(counts))
        rows, names = plain_matrix(matrix), plain_ids(suffix, ids)
        usable = rows is not None and names is not None and len(rows) == len(names)
        usable = usable and set(known) <= set(names)
        try:
            embeddings = open_item_embeddings(path, ids_path, vocabulary, rng.choice((0, 1 << 10)))
        except DataError as error:
            outcomes.refused(error)
            assert not usable, (seed, error)
            continue
        assert usable, (seed, rows, names)
        got = embeddings.rows(np.arange(len(known)) + FIRST_ITEM_ID)
        assert got.tolist() == [rows[names.index(item)] for item in known], seed
        outcomes.right()
    outcomes.require(inputs)


def write(directory, header):
    """Rows of zeros after a header, and their ids; opened."""
    octets = header.encode("latin1") + b"\n"
    data = b"\x93NUMPY\x02\x00" + struct.pack("<I", len(octets)) + octets + bytes(24)
    (directory / "E.npy").write_bytes(data)
    (directory / "ids.txt").write_text("a\nb\n")
    known = Vocabulary(pl.Series(["a"]), np.ones(1, np.int64), np.zeros(1, np.int64))
    return open_item_embeddings(directory / "E.npy", directory / "ids.txt", known, 0)


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header[:30])
def test_every_odd_header_is_one_line(tmp_path, header):
    with pytest.raises(DataError) as caught:
        write(tmp_path, header)
    Outcomes(KINDS).refused(caught.value)


def test_a_header_of_python_2_is_read(tmp_path):
    embeddings = write(tmp_path, "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L)}")
    assert embeddings.rows(np.array([FIRST_ITEM_ID])).tolist() == [[0.0, 0.0, 0.0]]
