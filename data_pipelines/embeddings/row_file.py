"""Reads rows of a matrix in a .npy file with explicit reads.

The file is not mapped into memory: pages of a map that were touched count as resident memory of the
process, and a run touches most of them.
"""

import collections
import itertools
import os
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipelines.errors import DataError

_NEAR_BYTES = 4096
"""Rows closer than this are read together: one more page costs less than another call."""

_BLOCK_ROWS = 4096
"""Rows requested at once, a limit on the memory for the pages around them."""

_SHOWN_CHARACTERS = 200
"""Most characters of the reason why a header is not readable."""

DTYPES = (np.dtype("<f2"), np.dtype("<f4"))
"""The allowed types of a value: float16 or float32, little-endian."""


class RowFile:
    """A float16 or float32 matrix in a .npy file, open for reading.

    Attributes:
      path: The file.
      rows: Number of rows.
      width: `d`, values in a row.
      dtype: Type of a value.

    Args:
      path: The file.

    Raises:
      DataError: The file is missing, is no .npy file, is not as long as its header says, or holds
        another type or no matrix.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file; check the path")
        (self.rows, self.width), self.dtype, self._start = _read_header(self.path)
        self.row_bytes = self.width * self.dtype.itemsize
        expected, found = self._start + self.rows * self.row_bytes, self.path.stat().st_size
        if found != expected:
            raise DataError(
                f"{self.path}: expected {expected} bytes for {self.rows} rows of {self.width} "
                f"{self.dtype.name}, got {found}: was it cut off? Write it again"
            )
        self._file = os.open(self.path, os.O_RDONLY)
        # A loader keeps the file open as long as the program runs.
        weakref.finalize(self, os.close, self._file)
        # Reads are of single rows, so reading ahead would be wasted.
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)

    def read(self, rows_n: np.ndarray) -> np.ndarray:
        """Rows of the file, read from front to back; nearby rows share a read.

        Args:
          rows_n: int64 [n], ascending, >= 0 and below `rows`.

        Returns:
          [n, d], possibly read-only.

        Raises:
          DataError: The file has become shorter.
        """
        if len(rows_n) and np.all(np.diff(rows_n) == 1):
            return self._read_stretches(rows_n[:1], np.asarray([len(rows_n)]))
        out_nd = np.empty((len(rows_n), self.width), self.dtype)
        for first in range(0, len(rows_n), _BLOCK_ROWS):
            block = slice(first, first + _BLOCK_ROWS)
            self._read_block(rows_n[block], out_nd[block])
        return out_nd

    def _read_block(self, rows_n: np.ndarray, out_nd: np.ndarray) -> None:
        is_first_n = np.diff(rows_n, prepend=-1 - _NEAR_BYTES) * self.row_bytes > _NEAR_BYTES
        firsts = np.flatnonzero(is_first_n)
        lasts = np.append(firsts[1:], len(rows_n)) - 1
        first_row_r, lengths_r = rows_n[firsts], rows_n[lasts] - rows_n[firsts] + 1
        read_md = self._read_stretches(first_row_r, lengths_r)
        # The start of each stretch in what was read, minus its start in the file.
        shift_r = np.cumsum(lengths_r) - lengths_r - first_row_r
        places_n = rows_n + shift_r[np.cumsum(is_first_n) - 1]
        np.take(read_md, places_n, axis=0, out=out_nd, mode="clip")

    def _read_stretches(self, first_row_r: np.ndarray, lengths_r: np.ndarray) -> np.ndarray:
        """Stretches of rows, concatenated, with one read for each; read-only."""
        bytes_r = (lengths_r * self.row_bytes).tolist()
        offsets_r = (self._start + first_row_r * self.row_bytes).tolist()
        file, advice = itertools.repeat(self._file), itertools.repeat(os.POSIX_FADV_WILLNEED)
        if len(bytes_r) > 1:
            # Request all from the disk before waiting for the first.
            asked = map(os.posix_fadvise, file, offsets_r, bytes_r, advice)
            collections.deque(asked, maxlen=0)
        read = b"".join(map(os.pread, file, bytes_r, offsets_r))
        if len(read) != sum(bytes_r):
            raise DataError(
                f"{self.path}: became shorter while it was read; "
                "start again once no other program writes to it"
            )
        return np.frombuffer(read, self.dtype).reshape(-1, self.width)

    def blocks(self, block_bytes: int = 4 << 20) -> Iterator[np.ndarray]:
        """All rows, from front to back, [n, d] at a time."""
        size = max(1, block_bytes // self.row_bytes)
        for first in range(0, self.rows, size):
            yield self.read(np.arange(first, min(first + size, self.rows)))


def _read_header(path: Path) -> tuple[tuple[int, int], np.dtype, int]:
    """Shape and type of the matrix, and the offset of its first value."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*created on Python 2", UserWarning)
        try:
            version = np.lib.format.read_magic(file)
            shape, is_fortran, dtype = readers[version](file)
        # The header is parsed as a Python literal; on other bytes the parser raises almost any
        # error, for example KeyError for the version of structured types.
        except Exception as error:
            reason = str(error).partition("\n")[0][:_SHOWN_CHARACTERS] or repr(error)
            raise DataError(
                f"{path}: not readable as .npy: {reason}; write it with numpy.save"
            ) from error
        start = file.tell()
    if dtype not in DTYPES:
        raise DataError(
            f"{path}: expected float16 or float32, got {dtype}; save E.astype('float32')"
        )
    if len(shape) != 2 or not all(type(size) is int and size > 0 for size in shape):
        raise DataError(f"{path}: expected a matrix with one row per item, got the shape {shape}")
    if is_fortran:
        raise DataError(
            f"{path}: expected rows one after the other (C order), got Fortran order; "
            "save numpy.ascontiguousarray(E)"
        )
    return (shape[0], shape[1]), dtype, start
