"""Records the files of a prepared directory, and checks later that they are unchanged."""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from data_pipelines.errors import DataError

_RECORDS = ".array_record-"
_EVENTS = "log"


def describe_files(directory: Path) -> dict[str, Any]:
    """{path: {"bytes", "sha256"}} of all files below a directory, sorted; paths use "/"."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        path.relative_to(directory).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": _sha256(path),
        }
        for path in files
    }


def verify_files(directory: Path, files: dict[str, Any], all_of_them: bool = False) -> None:
    """Checks that files still match their description from `describe_files`.

    Checks only the size of ArrayRecord files: they may be large, and each of their blocks carries a
    hash that is checked on reading. Of files in `log/`, which only an append reads, too.

    Args:
      directory: The prepared directory.
      files: What `describe_files` returned.
      all_of_them: Whether to check the content of files in `log/`, too.

    Raises:
      DataError: A file is missing, has changed, or lies outside the directory; or there is an
        extra file that might be read: a Parquet file, or any file in a folder.
    """
    for path in sorted([*directory.glob("*.parquet"), *directory.glob("*/**/*")]):
        name = path.relative_to(directory).as_posix()
        if name not in files and not path.is_dir() and not path.name.startswith("."):
            raise DataError(f"{path}: is not in manifest.json; prepare it again")
    for name, described in files.items():
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or parts[0] == "/" or "\\" in name or "\0" in name:
            raise DataError(
                f"{directory}: manifest.json: files: {name!r} is no path in it; prepare it again"
            )
        path = directory / name
        if not path.is_file():
            raise DataError(f"{path}: no such file, but manifest.json has it; prepare it again")
        require_within(directory, path)
        size = path.stat().st_size
        if size != described["bytes"]:
            raise DataError(
                f"{path}: expected {described['bytes']} bytes, got {size}; prepare it again"
            )
        is_large = _RECORDS in path.name or (parts[0] == _EVENTS and not all_of_them)
        if not is_large and _sha256(path) != described["sha256"]:
            raise DataError(
                f"{path}: has changed: its SHA-256 is not that of manifest.json; prepare it again"
            )


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      DataError: It is missing or not JSON, has a duplicate key, or is nested too deeply.
    """
    if not path.is_file():
        found = "is a directory" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {found}; check the path")
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_doubles)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: not readable as JSON: {error}; is it whole? Write it again"
        ) from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {double[:60]!r} occurs twice")
    return values


def require_within(directory: Path, path: Path) -> None:
    """Checks that no link below a directory leads out of it.

    The directory itself may be a link.

    Raises:
      DataError: A link does.
    """
    if not path.resolve().is_relative_to(directory.resolve()):
        raise DataError(
            f"{path}: is a link to {path.resolve()}, out of {directory}; put the file itself there"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
