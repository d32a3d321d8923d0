"""Rows of a .npy file compared with numpy's own indexing; unusable files."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.embeddings import row_file
from data_pipelines.embeddings.row_file import RowFile
from data_pipelines.errors import DataError


@pytest.fixture(scope="module", params=["f2", "f4"])
def saved(request, tmp_path_factory):
    matrix = np.random.default_rng(0).normal(size=(50, 3)).astype(request.param)
    path = tmp_path_factory.mktemp("rows") / "E.npy"
    np.save(path, matrix)
    return matrix, RowFile(path)


@given(st.lists(st.integers(0, 49)))
def test_rows_are_those_of_the_matrix(saved, rows):
    matrix, file = saved
    rows = np.sort(np.asarray(rows, np.int64))
    read = file.read(rows)
    assert read.dtype == matrix.dtype
    np.testing.assert_array_equal(read, matrix[rows])


@pytest.mark.parametrize("near", [1, 2, 30])
@pytest.mark.parametrize("block", [1, 3, 100])
def test_rows_are_those_of_the_matrix_however_they_are_read(saved, monkeypatch, near, block):
    matrix, file = saved
    monkeypatch.setattr(row_file, "_NEAR_BYTES", near * file.row_bytes)
    monkeypatch.setattr(row_file, "_BLOCK_ROWS", block)
    generator = np.random.default_rng(0)
    for count in (0, 1, 7, 40):
        rows = np.sort(generator.integers(0, 50, count))
        np.testing.assert_array_equal(file.read(rows), matrix[rows])


def test_rows_are_read_forward_and_those_near_each_other_at_once(saved, monkeypatch):
    _, file = saved
    reads, real = [], os.pread

    def pread(descriptor, size, offset):
        reads.append(((offset - 128) // file.row_bytes, size // file.row_bytes))
        return real(descriptor, size, offset)

    monkeypatch.setattr(row_file, "_NEAR_BYTES", 2 * file.row_bytes)
    monkeypatch.setattr("os.pread", pread)
    file.read(np.asarray([2, 3, 5, 5, 9, 30, 31]))
    assert reads == [(2, 4), (9, 1), (30, 2)]


@pytest.mark.parametrize("block_bytes", [1, 60, 1 << 20])
def test_blocks_are_the_matrix(saved, block_bytes):
    matrix, file = saved
    blocks = list(file.blocks(block_bytes))
    assert max(map(len, blocks)) == max(1, min(50, block_bytes // (matrix.itemsize * 3)))
    np.testing.assert_array_equal(np.concatenate(blocks), matrix)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: path.write_bytes(b""), "not readable as .npy"),
        (lambda path: path.write_bytes(b"item_id,x\n1,0.5\n"), "not readable as .npy"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x03\x00"), r"not readable as .npy: \(3, 0\)"),
        (lambda path: np.save(path, np.zeros((4, 3))), "expected float16 or float32, got float64"),
        (lambda path: np.save(path, np.zeros((4, 3), ">f4")), "float16 or float32, got >f4"),
        (
            lambda path: np.save(path, np.asarray([[None]]), allow_pickle=True),
            "expected float16 or float32, got object",
        ),
        (lambda path: np.save(path, np.zeros(4, "f4")), r"got the shape \(4,\)"),
        (lambda path: np.save(path, np.zeros((0, 3), "f4")), r"got the shape \(0, 3\)"),
        (lambda path: np.save(path, np.asfortranarray(np.ones((4, 3), "f4"))), "Fortran order"),
        (
            lambda path: (np.save(path, np.zeros((4, 3), "f4")), cut(path)),
            "expected 176 bytes for 4 rows of 3 float32, got 175: was it cut off",
        ),
        (
            lambda path: (np.save(path, np.zeros((4, 3), "f2")), lengthen(path)),
            "expected 152 bytes for 4 rows of 3 float16, got 153",
        ),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_name(tmp_path, write, message):
    path = tmp_path / "E.npy"
    write(path)
    with pytest.raises(DataError, match=f"{path}: .*{message}"):
        RowFile(path)


def test_a_file_that_becomes_shorter_is_an_error(tmp_path):
    path = tmp_path / "E.npy"
    np.save(path, np.zeros((4, 3), "f4"))
    file = RowFile(path)
    cut(path)
    file.read(np.asarray([0, 1, 2]))
    with pytest.raises(DataError, match="became shorter"):
        file.read(np.asarray([0, 3]))
