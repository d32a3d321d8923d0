"""Reads text files in pieces, decompressed and converted to UTF-8."""

import bz2
import codecs
import contextlib
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from data_pipelines.errors import DataError

_ERRORS = (
    OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException,
    NotImplementedError, RuntimeError,
)  # fmt: skip
"""Errors of the libraries for files that are damaged, encrypted, or have another compression."""


def read_pieces(path: Path, size: int, encoding: str = "utf-8") -> Iterator[bytes]:
    """Yields the bytes of a file, about `size` at a time, none of them empty.

    Args:
      path: The file; decompressed if its name ends in .gz, .bz2, .xz, .zst or .zip.
      size: Bytes.
      encoding: Encoding of the file. Others are converted to UTF-8; UTF-8 is not checked here.

    Raises:
      DataError: It cannot be decompressed; a zip holds several files; it has another encoding.
    """
    pieces = _unpacked(path, size)
    if codecs.lookup(encoding).name == "utf-8":
        return pieces
    return _recoded(path, pieces, encoding)


def name_of(path: Path) -> str:
    """The name that tells a file's type: for a zip, that of the file in it."""
    if path.suffix.lower() != ".zip":
        return path.name
    try:
        with zipfile.ZipFile(path) as archive:
            return Path(_only_member(path, archive).filename).name
    except _ERRORS as error:
        raise DataError(f"{path}: cannot be unzipped: {error}; pack it again") from error


def _unpacked(path: Path, size: int) -> Iterator[bytes]:
    packed = path.suffix.lower() in (".gz", ".bz2", ".xz", ".zst", ".zip")
    try:
        with contextlib.ExitStack() as stack:
            file = _opened(path, stack)
            yield from iter(lambda: bytes(file.read(size)), b"")
    except _ERRORS as error:
        if not packed or isinstance(error, FileNotFoundError | PermissionError):
            raise
        line = str(error).strip().partition("\n")[0]
        raise DataError(f"{path}: cannot be unzipped: {line}; pack it again") from error


def _opened(path: Path, stack: contextlib.ExitStack) -> BinaryIO:
    suffix = path.suffix.lower()
    if suffix == ".zip":
        archive = stack.enter_context(zipfile.ZipFile(path))
        return cast(BinaryIO, stack.enter_context(archive.open(_only_member(path, archive))))
    if suffix == ".zst":
        raw = stack.enter_context(pa.OSFile(str(path), "rb"))
        return stack.enter_context(pa.CompressedInputStream(raw, "zstd"))
    openers: dict[str, Callable[..., Any]] = {
        ".gz": gzip.open,
        ".bz2": bz2.open,
        ".xz": lzma.open,
    }
    return stack.enter_context(openers.get(suffix, open)(path, "rb"))


def _only_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The only file in a zip, ignoring those that macOS adds."""
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir()
        and not member.filename.startswith("__MACOSX/")
        and not Path(member.filename).name.startswith(".")
    ]
    if len(members) != 1:
        names = ", ".join(member.filename for member in members[:5])
        raise DataError(
            f"{path}: expected one file in it, got {len(members)} ({names}); unzip it and name one"
        )
    return members[0]


def _recoded(path: Path, pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for piece in pieces:
            if text := decoder.decode(piece).encode("utf-8"):
                yield text
        if text := decoder.decode(b"", final=True).encode("utf-8"):
            yield text
    except UnicodeError as error:
        raise DataError(f"{path}: is not in --encoding={encoding}: {error}; set another") from error
