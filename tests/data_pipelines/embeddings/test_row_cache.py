"""The cache of rows: the same rows whatever its size, and no more reads than misses."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.embeddings import row_file
from data_pipelines.embeddings.row_cache import FILL_BYTES, RowCache
from data_pipelines.embeddings.row_file import RowFile

ITEMS, WIDTH = 40, 3
ROW_BYTES = WIDTH * 2
PLACES = np.random.default_rng(0).permutation(50)[:ITEMS]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "E.npy"
    np.save(path, np.random.default_rng(1).normal(size=(50, WIDTH)).astype("f2"))
    return RowFile(path)


def rows_of(cache, items):
    out = np.empty((len(items), WIDTH), "f2")
    cache.read(np.asarray(items, np.int64), out)
    return out


@given(
    st.lists(st.integers(0, ITEMS - 1)).map(sorted), st.integers(0, 60 * (ROW_BYTES + FILL_BYTES))
)
def test_rows_equal_the_files_for_any_cache_size(file, items, room):
    cache = RowCache(file, ITEMS, PLACES.__getitem__, room)
    matrix = np.load(file.path)
    np.testing.assert_array_equal(rows_of(cache, items), matrix[PLACES[items]])
    assert cache.hot == min(ITEMS, room // (ROW_BYTES + FILL_BYTES))
    assert (cache.asked, cache.hits) == (len(items), sum(item < cache.hot for item in items))


def test_only_misses_are_read_and_in_file_order(file, monkeypatch):
    cache = RowCache(file, ITEMS, PLACES.__getitem__, 10 * (ROW_BYTES + FILL_BYTES))
    reads, real = [], os.pread

    def pread(descriptor, size, offset):
        reads.append((offset - 128) // ROW_BYTES)
        return real(descriptor, size, offset)

    monkeypatch.setattr(row_file, "_NEAR_BYTES", 1)
    monkeypatch.setattr("os.pread", pread)
    rows_of(cache, [0, 3, 9])
    assert reads == []
    cold = [item for item in range(10, ITEMS) if PLACES[item] % 2]
    rows_of(cache, [*range(10), *cold])
    assert reads == sorted(PLACES[cold])


def test_a_billion_rows_are_addressed_without_an_index(tmp_path):
    path, rows = tmp_path / "E.npy", 10**9
    header = {"descr": "<f2", "fortran_order": False, "shape": (rows, 2)}
    # The disk holds only the header and one row.
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.truncate(start + rows * 4)
        file.seek(start + 4 * (rows - 1))
        file.write(np.asarray([1.5, -2], "f2").tobytes())
    cache = RowCache(
        RowFile(path), rows, lambda items: rows - 1 - items, max_bytes=100 * (4 + FILL_BYTES)
    )
    out = np.empty((3, 2), "f2")
    cache.read(np.asarray([0, 99, 999_999_999]), out)
    np.testing.assert_array_equal(out, [[1.5, -2], [0, 0], [0, 0]])
    assert (cache.hot, cache.hits) == (100, 2)
